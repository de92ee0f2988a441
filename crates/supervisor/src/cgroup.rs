//! A container's cgroup, in whichever hierarchies this host has: version 2, version 1, or both side by side.

use crate::process::Process;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    /// Version 1 controllers (`cpu,cpuacct`); empty for version 2 and for named hierarchies.
    controllers: Vec<String>,
    v2: bool,
}

/// Read once a process: the list of mounts grows with every container, the hierarchies of a host stay as they were at boot.
fn hierarchies() -> io::Result<Vec<Hierarchy>> {
    static FOUND: std::sync::OnceLock<Vec<Hierarchy>> = std::sync::OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found.clone());
    }
    let found = parse_hierarchies(&std::fs::read_to_string("/proc/self/mountinfo")?);
    if found.is_empty() {
        return Ok(found);
    }
    Ok(FOUND.get_or_init(|| found).clone())
}

/// `36 25 0:30 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory`. See proc(5).
fn parse_hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (Some(root), Some(mount)) = (left.split(' ').nth(3), left.split(' ').nth(4)) else { continue };
        let mut right = right.split(' ');
        let (kind, options) = (right.next().unwrap_or_default(), right.nth(1).unwrap_or_default());
        // Docker and others mount parts of hierarchies elsewhere; the host's own are whole and under /sys/fs/cgroup.
        if root != "/" || !mount.starts_with("/sys/fs/cgroup") || found.iter().any(|other| other.mount == Path::new(mount)) {
            continue;
        }
        let flags = ["rw", "ro", "xattr", "clone_children", "noprefix"];
        let controllers = options.split(',').filter(|option| !flags.contains(option) && !option.contains('='));
        match kind {
            "cgroup" => found.push(Hierarchy { mount: mount.into(), controllers: controllers.map(str::to_owned).collect(), v2: false }),
            "cgroup2" => found.push(Hierarchy { mount: mount.into(), controllers: Vec::new(), v2: true }),
            _ => {}
        }
    }
    found
}

/// The cgroup that `linux.cgroupsPath` names.
#[derive(Debug, Clone)]
pub struct Cgroup {
    path: PathBuf,
    hierarchies: Vec<Hierarchy>,
}

impl Cgroup {
    /// The cgroup at this path in every hierarchy, whether it exists yet or not. Refuses the root and `..`: they are not ours to kill.
    pub fn at(path: &Path) -> io::Result<Self> {
        use std::path::Component;
        let relative = path.strip_prefix("/").unwrap_or(path).to_owned();
        if relative.as_os_str().is_empty() || !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("cgroup path {} is not one of ours", path.display())));
        }
        let hierarchies = hierarchies()?;
        if hierarchies.is_empty() {
            // Looked for in no hierarchy, every cgroup would seem to be empty, and a pod's successor would start beside it.
            return Err(io::Error::other("no whole cgroup hierarchy is mounted under /sys/fs/cgroup"));
        }
        Ok(Self { path: relative, hierarchies })
    }

    fn dirs(&self) -> impl Iterator<Item = (&Hierarchy, PathBuf)> {
        self.hierarchies.iter().map(|hierarchy| (hierarchy, hierarchy.mount.join(&self.path))).filter(|(_, dir)| dir.is_dir())
    }

    /// Its directory where this version 1 controller is, or in the version 2 hierarchy.
    fn controller(&self, name: &str) -> Option<(bool, PathBuf)> {
        let v1 = self.dirs().find(|(hierarchy, _)| hierarchy.controllers.iter().any(|controller| controller == name));
        v1.or_else(|| self.dirs().find(|(hierarchy, _)| hierarchy.v2)).map(|(hierarchy, dir)| (hierarchy.v2, dir))
    }

    /// Every process in it and below it.
    pub fn pids(&self) -> io::Result<Vec<i32>> {
        let mut pids = Vec::new();
        for (_, dir) in self.dirs() {
            walk(&dir, &mut |dir| {
                // A threaded or just removed cgroup has no readable list.
                let list = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
                pids.extend(list.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
            });
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Sends SIGKILL to all of it, so that none can fork away: `cgroup.kill` where there is one, else frozen first.
    pub fn kill(&self) -> io::Result<()> {
        for (_, dir) in self.dirs().filter(|(hierarchy, _)| hierarchy.v2) {
            if std::fs::write(dir.join("cgroup.kill"), "1").is_ok() && self.hierarchies.len() == 1 {
                return Ok(());
            }
        }
        let freezer = self.dirs().find(|(hierarchy, _)| hierarchy.controllers.iter().any(|controller| controller == "freezer"));
        let freezer = freezer.map(|(_, dir)| dir.join("freezer.state"));
        if let Some(state) = &freezer {
            let _ = std::fs::write(state, "FROZEN");
        }
        let killed = self.pids().map(|pids| {
            for pid in pids {
                // Opened by number and start time: it may have ended since the list was read.
                let _ = Process::find(pid).and_then(|process| process.signal(libc::SIGKILL));
            }
        });
        if let Some(state) = &freezer {
            std::fs::write(state, "THAWED")?;
        }
        killed
    }

    /// Kills until it is empty, pausing with `pause` between looks. Does not give up: who calls it decides how long to wait.
    #[cfg(feature = "node")]
    pub async fn kill_until_empty(&self) -> io::Result<()> {
        let mut pause = Duration::from_micros(200);
        loop {
            if self.pids()?.is_empty() {
                return Ok(());
            }
            self.kill()?;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// How many of its processes the kernel killed for memory, ever.
    pub fn oom_kills(&self) -> u64 {
        let Some((v2, dir)) = self.controller("memory") else { return 0 };
        let file = dir.join(if v2 { "memory.events" } else { "memory.oom_control" });
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().filter_map(|line| line.strip_prefix("oom_kill ")).find_map(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// The version 1 device rules that hold, or the directory of the version 2 cgroup that must have a device program.
    pub fn device_rules(&self) -> io::Result<DeviceRules> {
        match self.controller("devices") {
            Some((false, dir)) => Ok(DeviceRules::List(std::fs::read_to_string(dir.join("devices.list"))?)),
            Some((true, dir)) => Ok(DeviceRules::Program(dir)),
            None => Err(io::Error::other("this host has no devices cgroup")),
        }
    }

    /// Removes it and what is below it. It must be empty of processes.
    pub fn remove(&self) -> io::Result<()> {
        let mut result = Ok(());
        for (_, dir) in self.dirs() {
            let mut inside = Vec::new();
            walk(&dir, &mut |dir| inside.push(dir.to_owned()));
            for dir in inside.iter().rev() {
                match remove_dir(dir) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => result = Err(error),
                    _ => {}
                }
            }
        }
        result
    }
}

/// A version 1 hierarchy of this host, as a container should have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V1Mount {
    /// Its directory's name (`memory`, `cpu,cpuacct`).
    pub name: String,
    /// Its controllers.
    pub controllers: Vec<String>,
    /// Its name, if it has no controllers (`systemd`).
    pub named: Option<String>,
}

/// The version 1 hierarchies of this host; none where version 2 is alone.
pub fn v1_mounts() -> io::Result<Vec<V1Mount>> {
    let mounts = hierarchies()?.into_iter().filter(|hierarchy| !hierarchy.v2).filter_map(|hierarchy| {
        let name = hierarchy.mount.file_name()?.to_str()?.to_owned();
        let named = hierarchy.controllers.is_empty().then(|| name.clone());
        Some(V1Mount { name, controllers: hierarchy.controllers, named })
    });
    Ok(mounts.collect())
}

/// What limits devices.
#[derive(Debug)]
pub enum DeviceRules {
    /// The text of `devices.list`.
    List(String),
    /// The cgroup to which a program must be attached.
    Program(PathBuf),
}

/// The kernel may hold a cgroup for a moment after its last process was reaped.
fn remove_dir(dir: &Path) -> io::Result<()> {
    for _ in 0..20 {
        match std::fs::remove_dir(dir) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(Duration::from_millis(1)),
            other => return other,
        }
    }
    std::fs::remove_dir(dir)
}

/// Calls `visit` for a directory and all below it, parents first.
fn walk(dir: &Path, visit: &mut dyn FnMut(&Path)) {
    visit(dir);
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        walk(&entry.path(), visit);
    }
}

/// The `cgroup.procs` files through which a process joins the cgroups that another process is in.
pub fn procs_files_of(pid: i32) -> io::Result<Vec<PathBuf>> {
    let theirs = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let own = std::fs::read_to_string("/proc/self/cgroup")?;
    Ok(parse_memberships(&hierarchies()?, &theirs, &own))
}

/// Makes the kernel ready to put processes into cgroups. Blocks for up to a few hundredths of a second.
///
/// The first such move after a pause waits for an RCU grace period (12 ms at HZ=250: `rcu_sync_enter` in `cgroup_attach_lock`), those in the next
/// grace period do not. Done while a pod's network and volumes are being made, the wait is over when its container is. What is written is this
/// process into the cgroup that it is in: nothing moves.
pub fn warm_up() -> io::Result<()> {
    let own = std::fs::read_to_string("/proc/self/cgroup")?;
    let files = parse_memberships(&hierarchies()?, &own, "");
    let file = files.first().ok_or(io::ErrorKind::NotFound)?;
    std::fs::write(file, std::process::id().to_string())
}

/// `9:name=systemd:/`, `4:memory:/pods/a`, `0::/pods/a`. See cgroups(7). Only those where the two differ: each join costs a grace period.
fn parse_memberships(hierarchies: &[Hierarchy], theirs: &str, own: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in theirs.lines().filter(|line| !own.lines().any(|other| other == *line)) {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let hierarchy = hierarchies.iter().find(|hierarchy| match controllers {
            "" => hierarchy.v2,
            named if named.starts_with("name=") => hierarchy.mount.ends_with(&named["name=".len()..]),
            list => list.split(',').next().is_some_and(|first| hierarchy.controllers.iter().any(|controller| controller == first)),
        });
        if let Some(hierarchy) = hierarchy {
            files.push(hierarchy.mount.join(path.trim_start_matches('/')).join("cgroup.procs"));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
25 20 0:22 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:7 - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
28 25 0:25 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
29 25 0:26 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
30 25 0:24 /docker/x /var/lib/docker/memory rw - cgroup cgroup rw,memory
";

    #[test]
    fn a_process_joins_every_hierarchy_in_which_the_other_is_elsewhere() {
        let own = "4:memory:/\n3:cpu,cpuacct:/\n9:name=systemd:/\n0::/\n";
        let theirs = "4:memory:/m/pod/c\n3:cpu,cpuacct:/m/pod/c\n9:name=systemd:/\n0::/m:x\n";
        let files = parse_memberships(&parse_hierarchies(HYBRID), theirs, own);
        let files: Vec<_> = files.iter().map(|file| file.to_str().unwrap()).collect();
        assert_eq!(
            files,
            [
                "/sys/fs/cgroup/memory/m/pod/c/cgroup.procs",
                "/sys/fs/cgroup/cpu,cpuacct/m/pod/c/cgroup.procs",
                "/sys/fs/cgroup/unified/m:x/cgroup.procs"
            ]
        );
    }

    #[test]
    fn a_path_that_could_reach_other_cgroups_is_refused() {
        for path in ["", "/", "/a/../b", "..", "./"] {
            assert!(Cgroup::at(Path::new(path)).is_err(), "{path}");
        }
        assert!(Cgroup::at(Path::new("/mainstay-x/pod1/c")).is_ok());
    }
}
