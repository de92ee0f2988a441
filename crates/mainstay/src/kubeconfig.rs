//! The context `mainstay` in the user's kubeconfig.

use crate::data_dir::{DataDir, write_durably};
use crate::pki::Pki;
use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A kubeconfig and whose it is.
pub(crate) struct Target {
    pub path: PathBuf,
    owner: Option<(u32, u32)>,
}

impl Target {
    /// A file of our own, which root alone reads.
    pub(crate) fn private(path: PathBuf) -> Self {
        Self { path, owner: None }
    }
}

/// The file to write: the one named, `$KUBECONFIG`'s first, or `~/.kube/config` of the user behind sudo.
pub(crate) fn target(named: Option<&Path>) -> Result<Target> {
    if let Some(path) = named {
        return Ok(Target { path: std::path::absolute(path)?, owner: None });
    }
    let user = sudo_user();
    let owner = user.as_ref().map(|u| (u.uid.as_raw(), u.gid.as_raw()));
    if let Some(first) = std::env::var_os("KUBECONFIG").and_then(|v| std::env::split_paths(&v).find(|p| !p.as_os_str().is_empty())) {
        return Ok(Target { path: std::path::absolute(first)?, owner });
    }
    let home = user.map(|u| u.dir).or_else(|| std::env::var_os("HOME").map(PathBuf::from)).unwrap_or_else(|| PathBuf::from("/root"));
    Ok(Target { path: home.join(".kube/config"), owner })
}

fn sudo_user() -> Option<nix::unistd::User> {
    let name = std::env::var("SUDO_USER").ok().filter(|n| n != "root")?;
    nix::unistd::User::from_name(&name).ok().flatten()
}

/// Adds or replaces our cluster, user and context and makes the context current. Returns its name.
pub(crate) fn merge(data: &DataDir, target: &Target, port: u16) -> Result<String> {
    let mut config = read(&target.path)?;
    let name = context_name(&config, port);
    let admin = Pki::existing(data.path()).admin()?;
    let encode = |pem: &str| STANDARD.encode(pem);
    put(&mut config, "clusters", &name, "cluster", json!({"server": url(port), "certificate-authority-data": encode(&admin.ca_certificate)}));
    put(&mut config, "users", &name, "user", json!({"client-certificate-data": encode(&admin.certificate), "client-key-data": encode(&admin.key)}));
    put(&mut config, "contexts", &name, "context", json!({"cluster": name, "user": name}));
    config["current-context"] = json!(name);
    write(target, &config)?;
    Ok(name)
}

/// Gives a running kubeconfig the renewed client certificate; leaves everything else, the current context too.
pub(crate) fn refresh(data: &DataDir, path: &Path) -> Result<()> {
    let mut config = read(path)?;
    let admin = Pki::existing(data.path()).admin()?;
    let authority = STANDARD.encode(&admin.ca_certificate);
    let ours = names_of(&config, &authority);
    for name in &ours {
        put(&mut config, "users", name, "user", json!({"client-certificate-data": STANDARD.encode(&admin.certificate), "client-key-data": STANDARD.encode(&admin.key)}));
    }
    if ours.is_empty() { Ok(()) } else { write(&Target { path: path.to_owned(), owner: None }, &config) }
}

/// Takes out what [`merge`] put in, for this data directory: entries that trust its authority.
pub(crate) fn remove(target: &Target, data: &DataDir) -> Result<()> {
    if !target.path.exists() {
        return Ok(());
    }
    let mut config = read(&target.path)?;
    let Ok(admin) = Pki::existing(data.path()).admin() else { return Ok(()) };
    let ours = names_of(&config, &STANDARD.encode(&admin.ca_certificate));
    for list in ["clusters", "users", "contexts"] {
        if let Some(items) = config[list].as_array_mut() {
            items.retain(|e| !ours.iter().any(|n| n == name_of(e)));
        }
    }
    if ours.iter().any(|n| config["current-context"] == json!(n)) {
        config["current-context"] = json!("");
    }
    if ours.is_empty() { Ok(()) } else { write(target, &config) }
}

/// The API server's address for this machine's users.
pub(crate) fn url(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

/// `mainstay`, unless another running instance has that name: then `mainstay-<port>`.
fn context_name(config: &Value, port: u16) -> String {
    let other = entries(config, "clusters").find(|e| name_of(e) == "mainstay").and_then(|e| e["cluster"]["server"].as_str()?.rsplit(':').next()?.parse::<u16>().ok());
    match other {
        Some(theirs) if theirs != port && answers(theirs) => format!("mainstay-{port}"),
        _ => "mainstay".to_owned(),
    }
}

fn answers(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_millis(200)).is_ok()
}

fn names_of(config: &Value, authority: &str) -> Vec<String> {
    entries(config, "clusters").filter(|e| e["cluster"]["certificate-authority-data"] == json!(authority)).map(|e| name_of(e).to_owned()).collect()
}

fn entries<'a>(config: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    config[list].as_array().into_iter().flatten()
}

fn name_of(entry: &Value) -> &str {
    entry["name"].as_str().unwrap_or_default()
}

fn put(config: &mut Value, list: &str, name: &str, field: &str, content: Value) {
    if !config[list].is_array() {
        config[list] = json!([]);
    }
    let entry = json!({"name": name, field: content});
    let Some(items) = config[list].as_array_mut() else { return };
    match items.iter_mut().find(|e| name_of(e) == name) {
        Some(old) => *old = entry,
        None => items.push(entry),
    }
}

fn read(path: &Path) -> Result<Value> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e).with_context(|| format!("read {}", path.display())),
    };
    if text.trim().is_empty() {
        return Ok(json!({"apiVersion": "v1", "kind": "Config", "preferences": {}, "clusters": [], "users": [], "contexts": []}));
    }
    let config: Value = serde_saphyr::from_str(&text).with_context(|| format!("{} is no YAML: mend it, or name another file with --kubeconfig", path.display()))?;
    ensure!(config.is_object(), "{} is no kubeconfig: mend it, or name another file with --kubeconfig", path.display());
    Ok(config)
}

fn write(target: &Target, config: &Value) -> Result<()> {
    let own = |path: &Path| {
        if let Some((uid, gid)) = target.owner {
            let _ = std::os::unix::fs::chown(path, Some(uid), Some(gid));
        }
    };
    // A link stays a link.
    let path = target.path.canonicalize().unwrap_or_else(|_| target.path.clone());
    if let Some(dir) = path.parent()
        && !dir.exists()
    {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        own(dir);
    }
    let before = fs::metadata(&path).ok();
    // JSON is YAML; kubectl reads both, but people read YAML.
    let text = serde_saphyr::to_string(config).context("write YAML")?;
    write_durably(&path, text.as_bytes(), 0o600)?;
    match before {
        Some(meta) => {
            use std::os::unix::fs::MetadataExt as _;
            let _ = std::os::unix::fs::chown(&path, Some(meta.uid()), Some(meta.gid()));
        }
        None => own(&path),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn target_in(dir: &Path, text: &str) -> Target {
        let path = dir.join("config");
        fs::write(&path, text).unwrap();
        Target { path, owner: None }
    }

    #[test]
    fn other_contexts_stay_and_ours_becomes_current_and_goes_again() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::at(&dir.path().join("data")).unwrap();
        fs::create_dir_all(data.path()).unwrap();
        Pki::ensure(data.path(), std::net::Ipv4Addr::new(10, 43, 0, 1), "cluster.local", "n").unwrap();
        let theirs = "apiVersion: v1\nkind: Config\nclusters:\n- name: prod\n  cluster: {server: 'https://prod:6443'}\nusers:\n- name: me\n  user: {token: 't'}\ncontexts:\n- name: prod\n  context: {cluster: prod, user: me}\ncurrent-context: prod\n";
        let target = target_in(dir.path(), theirs);
        for _ in 0..2 {
            assert_eq!(merge(&data, &target, 6443).unwrap(), "mainstay");
        }
        let config = read(&target.path).unwrap();
        assert_eq!(config["current-context"], "mainstay");
        assert_eq!(config["clusters"].as_array().unwrap().len(), 2);
        assert_eq!(config["users"][0]["user"]["token"], "t");
        remove(&target, &data).unwrap();
        let config = read(&target.path).unwrap();
        assert_eq!(config["contexts"].as_array().unwrap().len(), 1);
        assert_eq!(config["current-context"], "");
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["[1, 2]", "a: [", "word"] {
            let target = target_in(dir.path(), text);
            assert!(read(&target.path).is_err(), "{text}");
            assert_eq!(fs::read_to_string(&target.path).unwrap(), text);
        }
    }
}
