//! Running the stages: overlay, chroot, copy.

use super::archive;
use super::containerfile::{Stage, Step, parse};
use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

/// A finished stage: its layers (directories, bottom first) and its configuration.
#[derive(Clone, Default)]
struct Built {
    /// A digest of everything that made it.
    key: String,
    layers: Vec<PathBuf>,
    config: Map<String, Value>,
    env: Vec<(String, String)>,
    labels: Vec<(String, String)>,
}

/// Builds one image into `archive`; returns its names.
pub(super) fn image(dir: &Path, cache: &Path, archive: &Path) -> Result<Vec<String>> {
    let stages = parse(&fs::read_to_string(dir.join("Containerfile"))?)?;
    let name = dir.file_name().context("an image has a name")?.to_string_lossy();
    let work = cache.join(format!("build-{name}-{}", std::process::id()));
    let result = (|| {
        let mut done: HashMap<String, Built> = HashMap::new();
        let mut last = Built::default();
        for (number, stage) in stages.iter().enumerate() {
            last = kept_stage(stage, dir, cache, &work.join(number.to_string()), &done)?;
            done.insert(stage.name.clone().unwrap_or_else(|| number.to_string()), last.clone());
        }
        let names = names(&last)?;
        archive::write(archive, &last.layers, &config(&last), &names)?;
        Ok(names)
    })();
    let _ = fs::remove_dir_all(&work);
    result
}

/// A stage with a name is kept under what made it, so that images whose files begin with the same stage (a Java runtime, say) build and
/// store it once.
fn kept_stage(stage: &Stage, dir: &Path, cache: &Path, work: &Path, done: &HashMap<String, Built>) -> Result<Built> {
    /// Images are built side by side; each waits for a stage that another is making.
    static MAKING: Mutex<BTreeMap<String, Arc<Mutex<()>>>> = Mutex::new(BTreeMap::new());
    if stage.name.is_none() {
        fs::create_dir_all(work)?;
        return run_stage(stage, dir, cache, work, &work.join("upper"), done);
    }
    let key = stage_key(stage, dir, done)?;
    let making = MAKING.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default().clone();
    let _making = making.lock().unwrap_or_else(PoisonError::into_inner);
    let (upper, whole) = (cache.join("stages").join(&key), cache.join("stages").join(format!("{key}.whole")));
    let mut built;
    if whole.is_file() {
        built = from(&stage.from, cache, done)?;
        configure(&mut built, stage);
        built.layers.push(upper);
    } else {
        // What an interrupted build left.
        if upper.exists() {
            fs::remove_dir_all(&upper)?;
        }
        built = run_stage(stage, dir, cache, work, &upper, done)?;
        fs::write(&whole, "")?;
    }
    built.key = key;
    Ok(built)
}

/// A digest of what a stage is made from: where it begins, its steps, the files it copies.
fn stage_key(stage: &Stage, dir: &Path, done: &HashMap<String, Built>) -> Result<String> {
    let mut hash = Sha256::new();
    let stage_of = |name: &str| done.get(name).map_or(name.to_owned(), |b| b.key.clone());
    hash.update(format!("stage 1\0{}\0{:?}", stage_of(&stage.from), stage.steps));
    for step in &stage.steps {
        match step {
            Step::Copy { from: Some(from), .. } => hash.update(stage_of(from)),
            Step::Copy { from: None, sources, .. } => {
                for source in sources {
                    hash.update(fs::read(dir.join(source)).with_context(|| format!("COPY {source}"))?);
                }
            }
            _ => {}
        }
    }
    Ok(archive::hex(&hash.finalize())[..16].to_owned())
}

/// Where a stage begins.
fn from(name: &str, cache: &Path, done: &HashMap<String, Built>) -> Result<Built> {
    Ok(match (name, done.get(name)) {
        (_, Some(earlier)) => earlier.clone(),
        ("scratch", None) => Built::default(),
        ("debian:12-slim" | "debian:12" | "debian:bookworm-slim", None) => Built { layers: vec![base(cache)?], ..Built::default() },
        _ => bail!("FROM {name}: only scratch, debian:12-slim and earlier stages can be had without a registry"),
    })
}

/// The steps that change only the configuration.
fn configure(built: &mut Built, stage: &Stage) {
    for step in &stage.steps {
        match step {
            Step::Env(key, value) => {
                let value = expand(value, &built.env);
                built.env.retain(|(k, _)| k != key);
                built.env.push((key.clone(), value));
            }
            Step::Label(key, value) => built.labels.push((key.clone(), value.clone())),
            Step::Set(word, values) => set(&mut built.config, word, values),
            Step::Run(_) | Step::Copy { .. } => {}
        }
    }
}

fn run_stage(stage: &Stage, dir: &Path, cache: &Path, work: &Path, upper: &Path, done: &HashMap<String, Built>) -> Result<Built> {
    let mut built = from(&stage.from, cache, done)?;
    fs::create_dir_all(upper)?;
    // An overlay's working directory must be on the file system of its upper directory, and is unique to it.
    fs::create_dir_all(work)?;
    let root = Root::mount(&built.layers, upper, work)?;
    for step in &stage.steps {
        match step {
            Step::Run(line) => root.run(line, &built.env).with_context(|| format!("RUN {line}"))?,
            Step::Copy { from, chmod, sources, target } => root.copy(from.as_deref(), chmod.as_deref(), sources, target, dir, done)?,
            Step::Env(..) | Step::Label(..) | Step::Set(..) => {}
        }
        // In order: a RUN sees the variables set above it.
        configure(&mut built, &Stage { steps: vec![step.clone()], ..Stage::default() });
    }
    drop(root);
    built.layers.push(upper.to_owned());
    Ok(built)
}

/// `$PATH` in a value.
fn expand(value: &str, env: &[(String, String)]) -> String {
    env.iter().fold(value.to_owned(), |text, (k, v)| text.replace(&format!("${k}"), v))
}

fn set(config: &mut Map<String, Value>, word: &str, values: &[String]) {
    let keyed = |suffix: &str| Value::Object(values.iter().map(|v| (if v.contains('/') { v.clone() } else { format!("{v}{suffix}") }, json!({}))).collect());
    let first = || json!(values.first().cloned().unwrap_or_default());
    let (key, value) = match word {
        "USER" => ("User", first()),
        "WORKDIR" => ("WorkingDir", first()),
        "STOPSIGNAL" => ("StopSignal", first()),
        "VOLUME" => ("Volumes", keyed("")),
        "EXPOSE" => ("ExposedPorts", keyed("/tcp")),
        "ENTRYPOINT" => ("Entrypoint", json!(values)),
        _ => ("Cmd", json!(values)),
    };
    config.insert(key.to_owned(), value);
}

fn config(built: &Built) -> Value {
    let mut config = built.config.clone();
    let mut env: Vec<String> = built.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    if !built.env.iter().any(|(k, _)| k == "PATH") {
        env.insert(0, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    }
    config.insert("Env".into(), json!(env));
    config.insert("Labels".into(), json!(built.labels.iter().cloned().collect::<HashMap<_, _>>()));
    Value::Object(config)
}

/// The names an image is imported under. `dev.mainstay.package` names the Debian package whose upstream version the tags tell, so that a tag
/// never lies: `{major}` and `{version}` in `dev.mainstay.names` come from what is installed.
fn names(built: &Built) -> Result<Vec<String>> {
    let label = |key: &str| built.labels.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).with_context(|| format!("LABEL {key} is missing"));
    let version = fs::read_to_string(built.layers.iter().rev().map(|l| l.join("etc/mainstay-version")).find(|p| p.is_file()).context("the image has no /etc/mainstay-version")?)?;
    let version = upstream_version(version.trim());
    let parts: Vec<&str> = version.split('.').collect();
    let minor = parts[..parts.len().min(2)].join(".");
    Ok(label("dev.mainstay.names")?.split_whitespace().map(|n| n.replace("{major}", parts[0]).replace("{minor}", &minor).replace("{version}", &version)).collect())
}

/// `1:15.18-0+deb12u1` → `15.18`.
fn upstream_version(package: &str) -> String {
    let version = package.split_once(':').map_or(package, |(_, v)| v);
    version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect::<String>().trim_end_matches('.').to_owned()
}

/// Debian 12, minimal, without documentation; made once.
pub(super) fn base(cache: &Path) -> Result<PathBuf> {
    let dir = cache.join("debian-12");
    if dir.join("etc/os-release").exists() {
        return Ok(dir);
    }
    println!("{:<12} Debian 12 base (about 20 s)", "base");
    let fresh = cache.join(format!("debian-12.{}", std::process::id()));
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=minbase", "--format=directory"]);
    for pattern in ["doc", "man", "info", "locale"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{pattern}/*"));
    }
    let status = command.arg("--aptopt=APT::Install-Recommends \"false\"").args(["bookworm"]).arg(&fresh).status().context("run mmdebstrap (Debian package mmdebstrap; scripts/setup installs it)")?;
    ensure!(status.success(), "mmdebstrap failed: is a Debian mirror reachable?");
    fs::rename(&fresh, &dir)?;
    Ok(dir)
}

/// A mounted stage; unmounted when dropped.
struct Root {
    path: PathBuf,
    mounts: Vec<PathBuf>,
}

impl Root {
    fn mount(layers: &[PathBuf], upper: &Path, work: &Path) -> Result<Self> {
        let (path, scratch, empty) = (work.join("root"), work.join("work"), work.join("empty"));
        for dir in [&path, &scratch, &empty] {
            fs::create_dir_all(dir)?;
        }
        let mut lower: Vec<String> = layers.iter().rev().map(|l| l.display().to_string()).collect();
        lower.push(empty.display().to_string());
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), upper.display(), scratch.display());
        mount(Some("overlay"), &path, Some("overlay"), MsFlags::empty(), Some(options.as_str())).context("mount an overlay")?;
        Ok(Self { mounts: vec![path.clone()], path })
    }

    /// Runs a shell line in the stage, with the machine's own resolver, certificates and apt configuration lent to it.
    fn run(&self, line: &str, env: &[(String, String)]) -> Result<()> {
        let lent = Lent::new(&self.path)?;
        let script = format!("set -e\n{}", line.replace("\\\n", "\n"));
        let mut command = Command::new("chroot");
        command.arg(&self.path).args(["/bin/sh", "-c", &script]).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
        command.envs(env.iter().map(|(k, v)| (k, v)));
        command.envs(["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS"].map(|name| (name, LENT_BUNDLE)));
        if Path::new(JAVA_CERTIFICATES).is_file() {
            command.env("MAVEN_OPTS", format!("-Djavax.net.ssl.trustStore={LENT_KEY_STORE} -Djavax.net.ssl.trustStorePassword=changeit"));
        }
        let output = command.output().context("chroot")?;
        drop(lent);
        ensure!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn copy(&self, from: Option<&str>, chmod: Option<&str>, sources: &[String], target: &str, dir: &Path, done: &HashMap<String, Built>) -> Result<()> {
        let goal = self.path.join(target.trim_start_matches('/'));
        fs::create_dir_all(if target.ends_with('/') { &goal } else { goal.parent().unwrap_or(&self.path) })?;
        for source in sources {
            let found = match from {
                None => dir.join(source),
                Some(stage) => {
                    let stage = done.get(stage).with_context(|| format!("COPY --from={stage}: no such stage"))?;
                    let top = stage.layers.iter().rev().map(|l| l.join(source.trim_start_matches('/'))).find(|p| p.symlink_metadata().is_ok());
                    top.with_context(|| format!("COPY {source}: not in that stage"))?
                }
            };
            let mut command = Command::new("cp");
            command.arg("-a");
            // As a Containerfile means it: the contents of a directory, not the directory.
            if found.is_dir() { command.arg(format!("{}/.", found.display())) } else { command.arg("--no-preserve=ownership").arg(&found) };
            ensure!(command.arg(&goal).status()?.success(), "COPY {source} {target}");
            if let Some(mode) = chmod {
                let file = if target.ends_with('/') { goal.join(found.file_name().unwrap_or_default()) } else { goal.clone() };
                ensure!(Command::new("chmod").arg(mode).arg(&file).status()?.success(), "chmod {mode} {}", file.display());
            }
        }
        Ok(())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for path in self.mounts.iter().rev() {
            let _ = umount2(path, MntFlags::MNT_DETACH);
        }
    }
}

/// Where a RUN finds the certificates this machine trusts. A copy, in a place no package writes to: with `/etc/ssl/certs` itself lent,
/// installing `ca-certificates` in the image would rewrite the machine's bundle, and leave the image without one.
const LENT_BUNDLE: &str = "/run/lent-certificates.crt";

/// The same for Java, which reads only its own format; lent where the machine has it.
const LENT_KEY_STORE: &str = "/run/lent-certificates.jks";
const JAVA_CERTIFICATES: &str = "/etc/ssl/certs/java/cacerts";

/// The machine's bundle and the certificates its administrator added, in one file.
fn certificates(copy: &Path) -> Result<()> {
    let mut bundle = fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap_or_default();
    for added in fs::read_dir("/usr/local/share/ca-certificates").into_iter().flatten().flatten() {
        bundle.extend(fs::read(added.path()).unwrap_or_default());
        bundle.push(b'\n');
    }
    fs::write(copy, bundle).with_context(|| format!("write {}", copy.display()))
}

/// What a RUN borrows from the machine and the image must not keep.
struct Lent(Vec<PathBuf>, Vec<PathBuf>);

impl Lent {
    fn new(root: &Path) -> Result<Self> {
        let mut lent = Self(Vec::new(), Vec::new());
        let proc = root.join("proc");
        if proc.is_dir() {
            mount(Some("proc"), &proc, Some("proc"), MsFlags::empty(), None::<&str>).context("mount proc")?;
            lent.0.push(proc);
        }
        let bundle = root.with_file_name("certificates.crt");
        certificates(&bundle)?;
        let same = |path: &'static str| (PathBuf::from(path), path);
        for (source, place) in [same("/etc/resolv.conf"), same("/etc/apt/apt.conf.d"), (bundle, LENT_BUNDLE), (PathBuf::from(JAVA_CERTIFICATES), LENT_KEY_STORE), same("/dev/null"), same("/dev/urandom")] {
            let target = root.join(place.trim_start_matches('/'));
            if !source.exists() || !target.parent().is_some_and(Path::is_dir) {
                continue;
            }
            if !target.exists() {
                if source.is_dir() { fs::create_dir_all(&target)? } else { drop(fs::File::create(&target)?) }
                lent.1.push(target.clone());
            }
            mount(Some(&source), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>).with_context(|| format!("lend {place}"))?;
            lent.0.push(target);
        }
        Ok(lent)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _ = umount2(path, MntFlags::MNT_DETACH);
        }
        for path in self.1.iter().rev() {
            // Only if it is still empty: a package may have made use of it.
            let _ = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_versions_become_upstream_versions() {
        for (package, version) in [("15.18-0+deb12u1", "15.18"), ("1.22.1-9+deb12u2", "1.22.1"), ("1:1.35.0-4+b3", "1.35.0"), ("7.88.1-10", "7.88.1")] {
            assert_eq!(upstream_version(package), version);
        }
    }
}
