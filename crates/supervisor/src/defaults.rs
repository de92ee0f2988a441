//! What a container gets that asks for nothing: the parts of a specification that every container of a node shares.

mod seccomp;

pub use seccomp::default_seccomp;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capabilities, Capability, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, MountBuilder,
};
use std::path::Path;

/// The capabilities of a container that names none: what containerd and Docker give, without MKNOD. With it, and a device rule that failed to take,
/// root in a container opens the host's disk; databases do not make device nodes.
pub fn default_capabilities() -> Capabilities {
    use Capability as C;
    let list = [
        C::Chown,
        C::DacOverride,
        C::Fsetid,
        C::Fowner,
        C::NetRaw,
        C::Setgid,
        C::Setuid,
        C::Setfcap,
        C::Setpcap,
        C::NetBindService,
        C::SysChroot,
        C::Kill,
        C::AuditWrite,
    ];
    list.into_iter().collect()
}

/// Paths that a container cannot read: they tell of, or change, the host. Those of containerd 2 and Docker 28.
pub fn default_masked_paths() -> Vec<String> {
    let paths = [
        "/proc/asound",
        "/proc/acpi",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ];
    paths.map(str::to_owned).to_vec()
}

/// Paths that a container can read but not write.
pub fn default_readonly_paths() -> Vec<String> {
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"].map(str::to_owned).to_vec()
}

/// Device rules: none but null, zero, full, tty, console, random, urandom, terminals; making nodes is allowed, opening them is not.
///
/// # Errors
/// Never in practice: the builder's own.
pub fn default_device_rules() -> Result<Vec<LinuxDeviceCgroup>, OciSpecError> {
    let rule = |allow: bool, kind: LinuxDeviceType, major: Option<i64>, minor: Option<i64>, access: &str| {
        let mut rule = LinuxDeviceCgroupBuilder::default().allow(allow).typ(kind).access(access);
        if let Some(major) = major {
            rule = rule.major(major);
        }
        if let Some(minor) = minor {
            rule = rule.minor(minor);
        }
        rule.build()
    };
    let mut rules = vec![rule(false, LinuxDeviceType::A, None, None, "rwm")?];
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(rule(true, LinuxDeviceType::C, Some(major), Some(minor), "rwm")?);
    }
    rules.push(rule(true, LinuxDeviceType::C, Some(136), None, "rwm")?);
    Ok(rules)
}

/// `/proc`, `/dev`, `/dev/pts`, `/dev/mqueue`, `/sys` and `/sys/fs/cgroup`. `/dev/shm` is the pod's: the node adds it.
///
/// # Errors
/// Never in practice: the builder's own.
pub fn default_mounts() -> Result<Vec<Mount>, OciSpecError> {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        MountBuilder::default().destination(destination).typ(kind).source(source).options(options).build()
    };
    Ok(vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"])?,
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"])?,
        mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"])?,
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?,
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])?,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"])?,
    ])
}

/// New process, mount and cgroup namespaces; network, IPC and UTS by path. No path for the network: the host's.
///
/// # Errors
/// Never in practice: the builder's own.
pub fn namespaces(network: Option<&Path>, ipc: &Path, uts: &Path) -> Result<Vec<LinuxNamespace>, OciSpecError> {
    use LinuxNamespaceType as N;
    let new = |kind| LinuxNamespaceBuilder::default().typ(kind).build();
    let joined = |kind, path: &Path| LinuxNamespaceBuilder::default().typ(kind).path(path).build();
    let mut all = vec![new(N::Pid)?, new(N::Mount)?, new(N::Cgroup)?, joined(N::Ipc, ipc)?, joined(N::Uts, uts)?];
    if let Some(network) = network {
        all.push(joined(N::Network, network)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_rules_begin_with_denial() {
        let rules = default_device_rules().unwrap();
        assert!(!rules[0].allow() && rules[0].typ() == Some(LinuxDeviceType::A));
        assert!(rules[1..].iter().all(|rule| rule.typ() == Some(LinuxDeviceType::C) && rule.major().is_some()));
    }

    #[test]
    fn no_default_capability_reaches_the_host() {
        let capabilities = default_capabilities();
        for dangerous in [Capability::SysAdmin, Capability::Mknod, Capability::SysPtrace, Capability::DacReadSearch, Capability::NetAdmin, Capability::SysModule] {
            assert!(!capabilities.contains(&dangerous));
        }
        assert_eq!(capabilities.len(), 13);
    }
}
