//! The command line: two instances side by side, clear refusals, nothing left behind.

use crate::own::Own;
use mainstay_e2e::Machine;
use std::net::TcpListener;
use std::process::Command;

pub(crate) const TESTS: &[crate::OwnTest] = &[
    ("two_instances_side_by_side_leave_nothing_behind", side_by_side),
    ("an_instance_whose_data_was_removed_is_purged_all_the_same", data_removed),
    ("what_cannot_start_says_why_and_leaves_nothing", refusals),
];

/// What an instance takes from the kernel and the file system, by name.
fn traces(machine: &Machine) -> String {
    let script = format!(
        "cat /proc/self/mountinfo | grep -c {data}; ls /run/mainstay 2>/dev/null | wc -l; ip -o link | grep -c ' ms'; find /sys/fs/cgroup -maxdepth 2 -name 'mainstay*' | wc -l; ls {data} 2>/dev/null | wc -l",
        data = machine.data_dir.display()
    );
    shell(&script)
}

fn shell(script: &str) -> String {
    String::from_utf8_lossy(&Command::new("sh").args(["-c", script]).output().expect("sh").stdout).into_owned()
}

fn side_by_side() {
    let first = Own::start("first", 16447, &["busybox"]);
    let second = Own::start("second", 16448, &["busybox"]);
    for machine in [&first, &second] {
        let k = machine.kubectl();
        k.ok(&["run", "p", "--image=busybox:1.35", "--", "sleep", "300"]);
        k.ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=30s"]);
        assert!(machine.up().expect("up again is harmless").contains("already running"));
        assert_eq!(k.ok(&["config", "current-context"]), "mainstay");
    }
    first.down(&["--purge", "--yes", "--timeout", "5"]).expect("purge the first");
    assert_eq!(second.kubectl().field("pod/p", "{.status.phase}"), "Running", "the other is untouched");
    assert!(!first.data_dir.exists());
    assert!(!std::fs::read_to_string(&first.kubeconfig).expect("it was there before").contains("mainstay"));
    second.down(&["--purge", "--yes", "--timeout", "5"]).expect("purge the second");
    let left = traces(&second);
    assert!(left.lines().next() == Some("0") && left.lines().last() == Some("0"), "left behind: {left}");
}

fn data_removed() {
    let machine = Own::start("removed", 16453, &["busybox"]);
    let k = machine.kubectl();
    k.ok(&["run", "p", "--image=busybox:1.35", "--", "sleep", "300"]);
    k.ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=30s"]);
    let launched = shell(&format!("grep -ls {} /run/mainstay/*/containers/*/launch.json", machine.data_dir.display()));
    let instance = launched.split('/').nth(3).expect("its run directory").to_owned();
    machine.kill().expect("kill");
    // As people do it; what is mounted in there resists.
    let _ = Command::new("rm").args(["-rf", "--one-file-system"]).arg(&machine.data_dir).output().expect("rm");
    machine.down(&["--purge", "--yes"]).expect("purge");
    let script = format!(
        "find /run/mainstay /sys/fs/cgroup -maxdepth 2 -name '*{instance}*' 2>/dev/null; ip -o link | grep 'ms{instance}-'; nft list tables | grep {instance}; grep {} /proc/self/mountinfo; ls -d {0} 2>/dev/null",
        machine.data_dir.display()
    );
    assert_eq!(shell(&script), "", "left behind");
}

fn refusals() {
    let machine = Own::new("refusals", 16449);
    let taken = TcpListener::bind(("127.0.0.1", machine.port)).expect("the port is free");
    let words = machine.up().expect_err("the port is taken").to_string();
    assert!(words.contains(&format!("port {} is in use by process {}", machine.port, std::process::id())), "{words}");
    assert!(!machine.data_dir.join("store").exists(), "nothing half-started");
    drop(taken);
    std::fs::create_dir_all(&machine.data_dir).expect("create");
    std::fs::write(machine.data_dir.join("format"), "99\n").expect("write");
    let words = machine.up().expect_err("a newer format").to_string();
    assert!(words.contains("newer mainstay"), "{words}");
    std::fs::write(machine.data_dir.join("format"), "1\n").expect("write");
    std::fs::create_dir_all(machine.data_dir.join("store")).expect("create");
    for entry in ["mainstay.db", "store.db", "log.db"] {
        std::fs::write(machine.data_dir.join("store").join(entry), "this is no database, and long enough to be read as one by mistake").expect("write");
    }
    let words = machine.up().expect_err("a damaged store").to_string();
    assert!(words.contains("store") && words.lines().count() < 12, "{words}");
    let unprivileged = Command::new("setpriv").args(["--reuid", "65534", "--clear-groups"]).arg(&machine.program).arg("up").output().expect("setpriv");
    assert!(!unprivileged.status.success() && String::from_utf8_lossy(&unprivileged.stderr).contains("needs root"));
}
