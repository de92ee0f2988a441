//! The runtime specification of one container. Pure: everything it needs is in `Inputs`.

use super::env::{Environment, expand};
use super::user::User;
use crate::pod::reference::{host_network, qos_class};
use crate::quantity;
use k8s_openapi::api::core::v1::{Container, Pod, SecurityContext};
use mainstay_supervisor::defaults;
use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::{Capabilities, LinuxSeccomp, Spec};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// One bind mount into the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) source: PathBuf,
    pub(crate) destination: String,
    pub(crate) read_only: bool,
    /// `rprivate`, `rslave`, `rshared`.
    pub(crate) propagation: &'static str,
}

/// What the node's kernel gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) memory_bytes: i128,
    pub(crate) cgroup_v2: bool,
    /// The lowest `oom_score_adj` this process may give; without CAP_SYS_RESOURCE its own, else -1000.
    pub(crate) lowest_oom_score: i32,
}

/// Everything a specification is made of.
pub(crate) struct Inputs<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) container: &'a Container,
    pub(crate) image: &'a ImageConfiguration,
    pub(crate) environment: &'a Environment,
    pub(crate) user: &'a User,
    pub(crate) hostname: &'a str,
    pub(crate) rootfs: &'a Path,
    pub(crate) cgroup: &'a str,
    /// `None`: the host's.
    pub(crate) network: Option<&'a Path>,
    pub(crate) ipc: Option<&'a Path>,
    pub(crate) uts: Option<&'a Path>,
    /// Another container's process namespace, or `None` for one of its own (`hostPID`: neither).
    pub(crate) pid: Option<&'a Path>,
    pub(crate) shm: &'a Path,
    pub(crate) binds: &'a [Bind],
    pub(crate) machine: Machine,
    /// Where Localhost seccomp profiles are.
    pub(crate) profiles: &'a Path,
}

/// What containerd gives, without MKNOD: with it and a device rule that did not take, root opens the host's disk.
const CAPABILITIES: [&str; 13] = [
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL",
    "AUDIT_WRITE",
];

const ALL_CAPABILITIES: [&str; 41] = [
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE",
    "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE",
    "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
];

/// The error is the message of a CreateContainerConfigError.
pub(crate) fn spec(inputs: &Inputs<'_>) -> Result<Spec, String> {
    let context = inputs.container.security_context.clone().unwrap_or_default();
    let privileged = context.privileged == Some(true);
    let mut value = json!({
        "ociVersion": "1.0.2",
        "root": {"path": inputs.rootfs, "readonly": context.read_only_root_filesystem == Some(true)},
        "process": process(inputs, &context, privileged)?,
        "mounts": mounts(inputs, privileged),
        "linux": {
            "cgroupsPath": inputs.cgroup,
            "namespaces": namespaces(inputs),
            "resources": resources(inputs.container, privileged),
            "rootfsPropagation": if inputs.binds.iter().any(|b| b.propagation == "rshared") { "shared" } else { "slave" },
        },
    });
    let linux = &mut value["linux"];
    if !privileged && context.proc_mount.as_deref() != Some("Unmasked") {
        linux["maskedPaths"] = json!(defaults::default_masked_paths());
        linux["readonlyPaths"] = json!(defaults::default_readonly_paths());
    }
    if let Some(sysctls) = inputs.pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|s| s.sysctls.as_ref()) {
        linux["sysctl"] = sysctls.iter().map(|s| (s.name.clone(), Value::String(s.value.clone()))).collect::<serde_json::Map<_, _>>().into();
    }
    let mut spec: Spec = serde_json::from_value(value).map_err(|e| format!("runtime specification: {e}"))?;
    if !privileged {
        let granted = spec.process().as_ref().and_then(|p| p.capabilities().as_ref()).and_then(|c| c.bounding().clone()).unwrap_or_default();
        let profile = seccomp(inputs.pod, &context, inputs.profiles, &granted)?;
        if let Some(linux) = spec.linux_mut() {
            linux.set_seccomp(profile);
        }
    }
    Ok(spec)
}

/// RuntimeDefault unless the pod says Unconfined: the safe choice where upstream leaves it to a kubelet flag. A Localhost profile is a file in the
/// runtime specification's form below `<data-dir>/seccomp/`, as below the kubelet's root directory; the API has refused names that lead out of it.
fn seccomp(pod: &Pod, context: &SecurityContext, profiles: &Path, granted: &Capabilities) -> Result<Option<LinuxSeccomp>, String> {
    let of_pod = || pod.spec.as_ref()?.security_context.as_ref()?.seccomp_profile.as_ref();
    let wanted = context.seccomp_profile.as_ref().or_else(of_pod);
    match wanted.map(|p| p.type_.as_str()) {
        None | Some("RuntimeDefault") => defaults::default_seccomp(granted).map(Some).map_err(|e| format!("seccomp profile: {e}")),
        Some("Unconfined") => Ok(None),
        Some("Localhost") => {
            let name = wanted.and_then(|p| p.localhost_profile.as_deref()).unwrap_or_default();
            let plain = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
            if name.is_empty() || !plain {
                return Err(format!("seccomp profile {name:?}: localhostProfile must be a relative path without .."));
            }
            let file = profiles.join(name);
            let text = std::fs::read(&file).map_err(|e| format!("cannot load seccomp profile {:?}: {e}", file.display()))?;
            serde_json::from_slice(&text).map(Some).map_err(|e| format!("decoding seccomp profile {:?} failed: {e}", file.display()))
        }
        Some(other) => Err(format!("seccompProfile {other} is not known")),
    }
}

fn process(inputs: &Inputs<'_>, context: &SecurityContext, privileged: bool) -> Result<Value, String> {
    let image = inputs.image.config().as_ref();
    let cwd = inputs.container.working_dir.clone().filter(|d| !d.is_empty());
    let cwd = cwd.or_else(|| image.and_then(|c| c.working_dir().clone()).filter(|d| !d.is_empty())).unwrap_or_else(|| "/".into());
    let mut process = json!({
        "terminal": inputs.container.tty == Some(true),
        "user": {"uid": inputs.user.uid, "gid": inputs.user.gid, "additionalGids": inputs.user.groups},
        "args": arguments(inputs)?,
        "env": variables(inputs),
        "cwd": cwd,
        "oomScoreAdj": oom_score(inputs.pod, inputs.container, inputs.machine),
    });
    let granted = capabilities(context, privileged);
    process["capabilities"] = json!({"bounding": granted, "effective": granted, "permitted": granted});
    // Only `true` may be said: the runtime reads a plain `false` as a wish about the order of seccomp and capabilities.
    if context.allow_privilege_escalation == Some(false) {
        process["noNewPrivileges"] = json!(true);
    }
    Ok(process)
}

/// `command` replaces the entrypoint and drops the image's arguments; `args` replaces those.
fn arguments(inputs: &Inputs<'_>) -> Result<Vec<String>, String> {
    let image = inputs.image.config().as_ref();
    let lookup = |name: &str| inputs.environment.get(name).map(str::to_owned);
    let own = |list: &Option<Vec<String>>| list.as_ref().filter(|l| !l.is_empty()).map(|l| l.iter().map(|a| expand(a, &lookup)).collect::<Vec<_>>());
    let command = own(&inputs.container.command);
    let args = own(&inputs.container.args);
    let image_args = || image.and_then(|c| c.cmd().clone()).unwrap_or_default();
    let mut all = match &command {
        Some(command) => command.clone(),
        None => image.and_then(|c| c.entrypoint().clone()).unwrap_or_default(),
    };
    all.extend(args.unwrap_or_else(|| if command.is_some() { Vec::new() } else { image_args() }));
    if all.is_empty() { Err("no command specified".to_owned()) } else { Ok(all) }
}

fn variables(inputs: &Inputs<'_>) -> Vec<String> {
    let mut env = Environment::default();
    env.set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    env.set("HOSTNAME", inputs.hostname.to_owned());
    if inputs.container.tty == Some(true) {
        env.set("TERM", "xterm".into());
    }
    for pair in inputs.image.config().iter().flat_map(|c| c.env().iter().flatten()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        env.set(name, value.to_owned());
    }
    for (name, value) in &inputs.environment.variables {
        env.set(name, value.clone());
    }
    if env.get("HOME").is_none() {
        env.set("HOME", inputs.user.home.clone());
    }
    env.variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn capabilities(context: &SecurityContext, privileged: bool) -> Vec<String> {
    let mut set: Vec<&str> = if privileged { ALL_CAPABILITIES.to_vec() } else { CAPABILITIES.to_vec() };
    let wish = context.capabilities.clone().unwrap_or_default();
    let plain = |name: &str| name.to_uppercase().trim_start_matches("CAP_").to_owned();
    let add: Vec<String> = wish.add.iter().flatten().map(|n| plain(n)).collect();
    let drop: Vec<String> = wish.drop.iter().flatten().map(|n| plain(n)).collect();
    if add.iter().any(|n| n == "ALL") {
        set = ALL_CAPABILITIES.to_vec();
    }
    if drop.iter().any(|n| n == "ALL") {
        set.clear();
    }
    set.retain(|name| !drop.iter().any(|d| d == name));
    let added = ALL_CAPABILITIES.into_iter().filter(|name| add.iter().any(|a| a == name));
    set.extend(added.filter(|name| !drop.iter().any(|d| d == name)));
    let mut seen = std::collections::BTreeSet::new();
    set.into_iter().filter(|n| seen.insert(*n)).map(|n| format!("CAP_{n}")).collect()
}

/// Upstream: `GetContainerOOMScoreAdjust` (pkg/kubelet/qos/policy.go), no lower than this process may give.
fn oom_score(pod: &Pod, container: &Container, machine: Machine) -> i32 {
    let wanted = match qos_class(pod) {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let request = container.resources.as_ref().and_then(|r| r.requests.as_ref()).and_then(|m| m.get("memory"));
            let request = request.and_then(|q| quantity::milli(&q.0)).unwrap_or(0) / 1000;
            let share = request.saturating_mul(1000) / machine.memory_bytes.max(1);
            (1000 - i32::try_from(share).unwrap_or(1000)).clamp(3, 999)
        }
    };
    wanted.max(machine.lowest_oom_score)
}

fn namespaces(inputs: &Inputs<'_>) -> Value {
    let mut all = vec![json!({"type": "mount"})];
    if inputs.pod.spec.as_ref().and_then(|s| s.host_pid) != Some(true) {
        all.push(with_path("pid", inputs.pid));
    }
    for (kind, path) in [("network", inputs.network), ("ipc", inputs.ipc), ("uts", inputs.uts)] {
        if path.is_some() {
            all.push(with_path(kind, path));
        }
    }
    if inputs.machine.cgroup_v2 {
        all.push(json!({"type": "cgroup"}));
    }
    Value::Array(all)
}

fn with_path(kind: &str, path: Option<&Path>) -> Value {
    path.map_or_else(|| json!({"type": kind}), |path| json!({"type": kind, "path": path}))
}

/// CFS period the kubelet uses, µs.
const CPU_PERIOD_US: i128 = 100_000;

pub(crate) fn resources(container: &Container, privileged: bool) -> Value {
    let amount = |limits: bool, name: &str| {
        let resources = container.resources.as_ref()?;
        let map = if limits { resources.limits.as_ref() } else { resources.requests.as_ref() }?;
        map.get(name).and_then(|q| quantity::milli(&q.0)).filter(|v| *v > 0)
    };
    let shares = amount(false, "cpu").or_else(|| amount(true, "cpu")).map_or(2, |milli| (milli * 1024 / 1000).clamp(2, 262_144));
    let mut cpu = json!({"shares": i64::try_from(shares).unwrap_or(2)});
    if let Some(milli) = amount(true, "cpu") {
        cpu["quota"] = json!(i64::try_from((milli * CPU_PERIOD_US / 1000).max(1000)).unwrap_or(i64::MAX));
        cpu["period"] = json!(100_000);
    }
    let mut resources = json!({"cpu": cpu});
    if let Some(milli) = amount(true, "memory") {
        let bytes = i64::try_from(milli / 1000).unwrap_or(i64::MAX);
        // Swap equal to the limit: none beyond it, as upstream.
        resources["memory"] = json!({"limit": bytes, "swap": bytes});
    }
    resources["devices"] = if privileged {
        json!([{"allow": true, "access": "rwm"}])
    } else {
        let mut rules = vec![json!({"allow": false, "access": "rwm"})];
        // null, zero, full, random, urandom, tty, ptmx, pts.
        for (major, minor) in [(1, Some(3)), (1, Some(5)), (1, Some(7)), (1, Some(8)), (1, Some(9)), (5, Some(0)), (5, Some(2)), (136, None)] {
            let mut rule = json!({"allow": true, "type": "c", "major": major, "access": "rwm"});
            if let Some(minor) = minor {
                rule["minor"] = json!(minor);
            }
            rules.push(rule);
        }
        Value::Array(rules)
    };
    resources
}

fn mounts(inputs: &Inputs<'_>, privileged: bool) -> Value {
    let sys = if privileged { "rw" } else { "ro" };
    let host_ipc = inputs.pod.spec.as_ref().and_then(|s| s.host_ipc) == Some(true);
    let mut all = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", sys]}),
    ];
    if !host_network(inputs.pod) {
        all.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", sys]}));
    }
    if host_network(inputs.pod) {
        // A sysfs shows the network namespace of who mounts it: with the host's, the host's own is the one to show.
        all[3] = json!({"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", sys]});
    }
    let taken = |path: &str| inputs.binds.iter().any(|b| b.destination.trim_end_matches('/') == path);
    if !taken("/dev/mqueue") {
        all.push(if host_ipc {
            json!({"destination": "/dev/mqueue", "type": "bind", "source": "/dev/mqueue", "options": ["rbind"]})
        } else {
            json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]})
        });
    }
    if !taken("/dev/shm") {
        let source = if host_ipc { Path::new("/dev/shm") } else { inputs.shm };
        all.push(json!({"destination": "/dev/shm", "type": "bind", "source": source, "options": ["rbind", "nosuid", "noexec", "nodev"]}));
    }
    let mut binds: Vec<&Bind> = inputs.binds.iter().collect();
    // A mount below another must come after it.
    binds.sort_by_key(|b| b.destination.split('/').filter(|p| !p.is_empty()).count());
    for bind in binds {
        let access = if bind.read_only { "ro" } else { "rw" };
        all.push(json!({"destination": bind.destination, "type": "bind", "source": bind.source, "options": ["rbind", access, bind.propagation]}));
    }
    Value::Array(all)
}

/// The signal that asks a container to end: the pod's wish, else the image's, else TERM.
pub(crate) fn stop_signal(container: &Container, image: &ImageConfiguration) -> i32 {
    let own = container.lifecycle.as_ref().and_then(|l| l.stop_signal.clone());
    let image = || image.config().as_ref().and_then(|c| c.stop_signal().clone());
    own.or_else(image).and_then(|name| parse_signal(&name)).unwrap_or(libc::SIGTERM)
}

/// Keeps the signal for whoever stops the container later, perhaps another process, perhaps after the image's name has moved on.
pub(crate) fn keep_stop_signal(path: &Path, signal: i32) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(path, signal.to_string())
}

/// What was kept; without it TERM.
pub(crate) fn kept_stop_signal(path: &Path) -> i32 {
    std::fs::read_to_string(path).ok().and_then(|text| text.parse().ok()).unwrap_or(libc::SIGTERM)
}

/// `SIGINT`, `INT`, `2`, `SIGRTMIN+3`.
pub(crate) fn parse_signal(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = name.to_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    if let Some(offset) = full.strip_prefix("SIGRTMIN") {
        let offset: i32 = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse().ok()? };
        return (0..=30).contains(&offset).then_some(34 + offset);
    }
    full.parse::<nix::sys::signal::Signal>().ok().map(|s| s as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(pod: Value, image: Value) -> Value {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": pod})).unwrap();
        let image: ImageConfiguration =
            serde_json::from_value(json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "config": image})).unwrap();
        let mut environment = Environment::default();
        environment.set("A", "1".into());
        let inputs = Inputs {
            pod: &pod,
            container: &pod.spec.as_ref().unwrap().containers[0],
            image: &image,
            environment: &environment,
            user: &User { uid: 5, gid: 6, groups: vec![7], home: "/home".into() },
            hostname: "p",
            rootfs: Path::new("/root"),
            cgroup: "/m/c",
            network: Some(Path::new("/ns/net")),
            ipc: Some(Path::new("/ns/ipc")),
            uts: Some(Path::new("/ns/uts")),
            pid: None,
            shm: Path::new("/shm"),
            binds: &[
                Bind { source: "/b".into(), destination: "/a/b".into(), read_only: true, propagation: "rprivate" },
                Bind { source: "/a".into(), destination: "/a".into(), read_only: false, propagation: "rprivate" },
            ],
            machine: Machine { memory_bytes: 1 << 30, cgroup_v2: true, lowest_oom_score: 0 },
            profiles: Path::new("/profiles"),
        };
        serde_json::to_value(spec(&inputs).unwrap()).unwrap()
    }

    #[test]
    fn command_and_args_replace_what_the_image_says() {
        let image = json!({"Entrypoint": ["/e"], "Cmd": ["c"]});
        for (container, want) in [
            (json!({}), json!(["/e", "c"])),
            (json!({"args": ["x$(A)"]}), json!(["/e", "x1"])),
            (json!({"command": ["/y"]}), json!(["/y"])),
            (json!({"command": ["/y"], "args": ["$$(A)"]}), json!(["/y", "$(A)"])),
        ] {
            let mut container = container;
            container["name"] = json!("c");
            assert_eq!(made(json!({"containers": [container]}), image.clone())["process"]["args"], want);
        }
    }

    #[test]
    fn security_contexts_become_capabilities_and_privileges() {
        let image = json!({"Cmd": ["c"]});
        let of = |context: Value| made(json!({"containers": [{"name": "c", "securityContext": context}]}), image.clone());
        let plain = of(json!({}));
        assert_eq!(plain["process"].get("noNewPrivileges"), None);
        assert_eq!(plain["process"]["user"], json!({"uid": 5, "gid": 6, "additionalGids": [7]}));
        assert!(!plain["process"]["capabilities"]["bounding"].to_string().contains("MKNOD"));
        assert!(plain["linux"]["maskedPaths"].to_string().contains("/proc/kcore"));
        let tight = of(json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}));
        assert_eq!(tight["process"]["noNewPrivileges"], json!(true));
        assert_eq!(tight["root"]["readonly"], json!(true));
        assert_eq!(tight["process"]["capabilities"]["bounding"], json!(["CAP_NET_BIND_SERVICE"]));
        let privileged = of(json!({"privileged": true}));
        assert_eq!(privileged["linux"].get("maskedPaths"), None);
        assert_eq!(privileged["process"]["capabilities"]["bounding"].as_array().unwrap().len(), ALL_CAPABILITIES.len());
    }

    #[test]
    fn a_seccomp_profile_is_the_default_none_or_a_file_of_the_node() {
        let dir = std::env::temp_dir().join(format!("mainstay-seccomp-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("db")).unwrap();
        std::fs::write(dir.join("db/strict.json"), r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}"#).unwrap();
        std::fs::write(dir.join("bad.json"), "x").unwrap();
        for (profile, want) in [
            (json!({"type": "RuntimeDefault"}), Ok(true)),
            (json!({"type": "Unconfined"}), Ok(false)),
            (json!({"type": "Localhost", "localhostProfile": "db/strict.json"}), Ok(true)),
            (json!({"type": "Localhost", "localhostProfile": "bad.json"}), Err("decoding seccomp profile")),
            (json!({"type": "Localhost", "localhostProfile": "none.json"}), Err("cannot load seccomp profile")),
            (json!({"type": "Localhost", "localhostProfile": "../bad.json"}), Err("must be a relative path")),
        ] {
            let context = serde_json::from_value(json!({"seccompProfile": profile})).unwrap();
            let found = seccomp(&Pod::default(), &context, &dir, &Capabilities::new());
            match want {
                Ok(some) => assert_eq!(found.unwrap().is_some(), some, "{profile}"),
                Err(words) => assert!(found.unwrap_err().contains(words), "{profile}"),
            }
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn mounts_come_parents_first_and_env_later_wins() {
        let made = made(json!({"containers": [{"name": "c"}]}), json!({"Cmd": ["c"], "Env": ["A=0", "PATH=/x"]}));
        let order: Vec<_> = made["mounts"].as_array().unwrap().iter().map(|m| m["destination"].as_str().unwrap().to_owned()).collect();
        assert_eq!(order[order.len() - 2..], ["/a", "/a/b"]);
        assert_eq!(made["process"]["env"], json!(["PATH=/x", "HOSTNAME=p", "A=1", "HOME=/home"]));
    }

    #[test]
    fn requests_and_limits_become_cgroup_values() {
        let container: Container = serde_json::from_value(
            json!({"name": "c", "resources": {"requests": {"cpu": "250m"}, "limits": {"cpu": "1500m", "memory": "64Mi"}}}),
        )
        .unwrap();
        let made = resources(&container, false);
        assert_eq!(made["cpu"], json!({"shares": 256, "quota": 150_000, "period": 100_000}));
        assert_eq!(made["memory"], json!({"limit": 64 << 20, "swap": 64 << 20}));
        assert_eq!(made["devices"][0], json!({"allow": false, "access": "rwm"}));
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for (name, want) in [("SIGINT", Some(2)), ("int", Some(2)), ("15", Some(15)), ("SIGRTMIN+3", Some(37)), ("SIGFOO", None), ("99", None)] {
            assert_eq!(parse_signal(name), want, "{name}");
        }
    }
}
