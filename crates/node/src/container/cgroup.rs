//! A pod's cgroup: made before its containers', emptied before anyone else gets its identity, removed after. v1, v2 and hybrid.

use crate::quantity;
use k8s_openapi::api::core::v1::Pod;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MOUNT: &str = "/sys/fs/cgroup";

/// Only the unified hierarchy: what systemd machines have.
pub(crate) fn is_v2() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").exists()
}

/// Roots of the hierarchies that containers are put in. In hybrid mode the unified one has no controllers, and is one among the others.
fn hierarchies() -> Vec<PathBuf> {
    if is_v2() {
        return vec![PathBuf::from(MOUNT)];
    }
    let mut all: Vec<PathBuf> = std::fs::read_dir(MOUNT).into_iter().flatten().flatten().map(|e| e.path()).collect();
    all.retain(|p| p.join("cgroup.procs").exists() && std::fs::symlink_metadata(p).is_ok_and(|m| m.is_dir()));
    all.sort();
    all
}

/// `/mainstay-<instance>`: beside, not below, a systemd unit's cgroup, so that stopping the unit ends no pod.
pub(crate) fn instance_path(instance: &str) -> String {
    if instance.is_empty() { "/mainstay".to_owned() } else { format!("/mainstay-{instance}") }
}

pub(crate) fn pod_path(instance: &str, uid: &str) -> String {
    format!("{}/pod{uid}", instance_path(instance))
}

pub(crate) fn container_path(instance: &str, uid: &str, container: &str, attempt: u32) -> String {
    format!("{}/{container}.{attempt}", pod_path(instance, uid))
}

fn at(hierarchy: &Path, cgroup: &str) -> PathBuf {
    hierarchy.join(cgroup.trim_start_matches('/'))
}

/// Makes the pod's cgroup where limits on the pod as a whole are kept. Blocking.
pub(crate) fn make(instance: &str, pod: &Pod, uid: &str) -> io::Result<()> {
    let path = pod_path(instance, uid);
    let sums = Sums::of(pod);
    if is_v2() {
        let base = at(Path::new(MOUNT), &instance_path(instance));
        std::fs::create_dir_all(&base)?;
        for parent in [Path::new(MOUNT), base.as_path()] {
            enable_controllers(parent);
        }
        let dir = at(Path::new(MOUNT), &path);
        std::fs::create_dir_all(&dir)?;
        enable_controllers(&dir);
        let weight = 1 + (sums.shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
        put(&dir, "cpu.weight", &weight.to_string());
        if let Some(quota) = sums.quota_us {
            put(&dir, "cpu.max", &format!("{quota} 100000"));
        }
        if let Some(bytes) = sums.memory_bytes {
            put(&dir, "memory.max", &bytes.to_string());
        }
        return Ok(());
    }
    let cpu = at(&Path::new(MOUNT).join("cpu"), &path);
    std::fs::create_dir_all(&cpu)?;
    put(&cpu, "cpu.shares", &sums.shares.to_string());
    if let Some(quota) = sums.quota_us {
        put(&cpu, "cpu.cfs_quota_us", &quota.to_string());
    }
    let memory = at(&Path::new(MOUNT).join("memory"), &path);
    std::fs::create_dir_all(&memory)?;
    if let Some(bytes) = sums.memory_bytes {
        put(&memory, "memory.limit_in_bytes", &bytes.to_string());
    }
    Ok(())
}

fn put(dir: &Path, file: &str, value: &str) {
    if let Err(error) = std::fs::write(dir.join(file), value) {
        tracing::warn!(cgroup = %dir.display(), file, value, %error, "a limit of the pod's cgroup could not be set; its containers' own limits hold");
    }
}

fn enable_controllers(dir: &Path) {
    let have = std::fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
    for controller in ["cpu", "memory", "pids", "cpuset", "io"] {
        if !have.split_whitespace().any(|c| c == controller) {
            // A controller this machine lacks is no reason not to have the others.
            let _ = std::fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

/// A pod's limits: sums over its containers, and only where every container has one.
#[derive(Debug, PartialEq)]
struct Sums {
    shares: i128,
    quota_us: Option<i128>,
    memory_bytes: Option<i128>,
}

impl Sums {
    fn of(pod: &Pod) -> Self {
        let containers = crate::pod::reference::containers(pod);
        let init = crate::pod::reference::init_containers(pod);
        let amount = |c: &k8s_openapi::api::core::v1::Container, limits: bool, name: &str| {
            let resources = c.resources.as_ref()?;
            let map = if limits { resources.limits.as_ref() } else { resources.requests.as_ref() }?;
            map.get(name).and_then(|q| quantity::milli(&q.0))
        };
        let sum = |limits: bool, name: &str| -> Option<i128> {
            let mains: Option<i128> = containers.iter().map(|c| amount(c, limits, name)).sum();
            let inits: Option<i128> = init.iter().try_fold(0, |most: i128, c| Some(most.max(amount(c, limits, name)?)));
            Some(mains?.max(inits?)).filter(|v| *v > 0)
        };
        let requests: i128 = containers.iter().filter_map(|c| amount(c, false, "cpu").or_else(|| amount(c, true, "cpu"))).sum();
        // A limit below what sidecars and main containers need together would be worse than none.
        let sidecars = init.iter().any(crate::pod::reference::is_sidecar);
        Self {
            shares: (requests * 1024 / 1000).clamp(2, 262_144),
            quota_us: sum(true, "cpu").filter(|_| !sidecars).map(|milli| (milli * 100).max(1000)),
            memory_bytes: sum(true, "memory").filter(|_| !sidecars).map(|milli| milli / 1000),
        }
    }
}

/// Processes in the pod's cgroup, whatever the hierarchy.
pub(crate) fn processes(instance: &str, uid: &str) -> Vec<i32> {
    let mut all = Vec::new();
    for hierarchy in hierarchies() {
        collect(&at(&hierarchy, &pod_path(instance, uid)), &mut all);
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn collect(dir: &Path, into: &mut Vec<i32>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    if let Ok(text) = std::fs::read_to_string(dir.join("cgroup.procs")) {
        into.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|pid| *pid > 0));
    }
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        collect(&entry.path(), into);
    }
}

/// Kills whatever is left in the pod's cgroup and returns when it is empty. A process in uninterruptible sleep keeps it waiting: nobody else
/// may have the pod's name or volumes before.
pub(crate) async fn empty(instance: &str, uid: &str) {
    let mut pause = Duration::from_millis(1);
    loop {
        let left = processes(instance, uid);
        if left.is_empty() {
            return;
        }
        for pid in &left {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
        }
        if pause > Duration::from_millis(500) {
            tracing::warn!(pod = uid, processes = ?left, "killed processes of an ended pod are still there");
        }
        // The kernel has no notice for an empty v1 cgroup that costs less than this.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// Removes the pod's cgroup in every hierarchy. Blocking.
pub(crate) fn remove(instance: &str, uid: &str) -> io::Result<()> {
    remove_path(&pod_path(instance, uid))
}

/// Removes every cgroup of the instance.
pub(crate) fn remove_instance(instance: &str) -> io::Result<()> {
    remove_path(&instance_path(instance))
}

fn remove_path(path: &str) -> io::Result<()> {
    for hierarchy in hierarchies() {
        remove_dirs(&at(&hierarchy, path))?;
    }
    Ok(())
}

fn remove_dirs(dir: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        remove_dirs(&entry.path())?;
    }
    match std::fs::remove_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether pods' cgroups can be made, and why not.
pub(crate) fn probe(instance: &str) -> io::Result<()> {
    let base = if is_v2() { PathBuf::from(MOUNT) } else { Path::new(MOUNT).join("memory") };
    std::fs::create_dir_all(at(&base, &instance_path(instance)))
}
