//! Processes, from `/proc`.

use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fs;

/// A program's process and every descendant in our own process namespace: the engine and its supervisors, not what runs in containers.
pub(crate) fn family(first: u32) -> Vec<u32> {
    let here = fs::read_link("/proc/self/ns/pid").ok();
    let parents: BTreeMap<u32, u32> = all().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let belongs = |mut pid: u32| {
        for _ in 0..64 {
            if pid == first {
                return true;
            }
            match parents.get(&pid) {
                Some(up) => pid = *up,
                None => return false,
            }
        }
        false
    };
    parents.keys().copied().filter(|pid| belongs(*pid) && fs::read_link(format!("/proc/{pid}/ns/pid")).ok() == here).collect()
}

fn all() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// The fields of `/proc/<pid>/stat` after the name, the state first.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// User and system time of all threads, past ones too, in seconds; steps of 10 ms.
pub(crate) fn cpu_s(pid: u32) -> Result<f64> {
    let fields = stat(pid).with_context(|| format!("process {pid} is gone"))?;
    let ticks: u64 = [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}

/// Resident memory as the kernel counts it for a process, in MiB: (RSS, PSS). Shared pages count whole in the first, in parts in the second.
pub(crate) fn memory_mib(pid: u32) -> (f64, f64) {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default() / 1024.0
    };
    (field("Rss:"), field("Pss:"))
}

/// The host's number of the first process of a pod's container: 1 in its own namespace, in a cgroup that names the pod.
pub(crate) fn first_of_pod(uid: &str) -> Option<i32> {
    let wanted = uid.replace('-', "_");
    all().find_map(|pid| {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        if !groups.replace('-', "_").contains(&wanted) {
            return None;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let numbers: Vec<&str> = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_whitespace().collect();
        (numbers.len() > 1 && numbers.last() == Some(&"1")).then(|| i32::try_from(pid).ok())?
    })
}

/// Whether a process with this number runs (a zombie does not).
pub(crate) fn runs(pid: i32) -> bool {
    u32::try_from(pid).ok().and_then(stat).is_some_and(|fields| fields.first().is_some_and(|state| state != "Z" && state != "X"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs_uses_memory_and_is_its_own_family() {
        let me = std::process::id();
        assert!(runs(me as i32) && memory_mib(me).0 > 0.5 && family(me).contains(&me));
        assert!(cpu_s(me).is_ok());
    }
}
