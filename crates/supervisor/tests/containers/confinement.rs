//! What a container, and an exec in it, can and cannot do.

use crate::support::{Host, output, until, within};
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilitiesBuilder, MountBuilder, UserBuilder};

/// Printed by the first process and by an exec: both must say the same.
const STATUS: &str = "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups|Uid|Gid)' /proc/self/status; pwd; echo $HOME; umask; cat /proc/self/attr/apparmor/current 2>/dev/null; true";

#[tokio::test]
async fn the_first_process_and_an_exec_are_confined_alike() {
    let host = Host::new();
    for (id, user, no_new_privileges) in [("root", (0u32, 0u32, vec![]), false), ("nnp", (0, 0, vec![]), true), ("app", (1000, 1000, vec![2000u32, 3000]), true)] {
        let mut launch = host.script(id, &format!("{STATUS}; exec sleep 1000"));
        let mut process = launch.spec.process().clone().unwrap();
        process.set_user(UserBuilder::default().uid(user.0).gid(user.1).additional_gids(user.2.clone()).build().unwrap());
        process.set_no_new_privileges(Some(no_new_privileges));
        process.set_cwd("/made/for/it".into());
        launch.spec.set_process(Some(process));
        let container = host.launch(launch).await;
        let (code, of_exec) = output(&container, &["sh", "-c", STATUS]).await;
        assert_eq!(code, 0, "{of_exec}");
        let of_exec: Vec<_> = of_exec.lines().map(|line| format!("stdout F {line}")).collect();
        until("what the first process says of itself", || host.log(id).len() >= of_exec.len()).await;
        assert_eq!(host.log(id), of_exec, "{id}");
        let text = of_exec.join("\n");
        // Bits of chown … setfcap without mknod, as CapBnd shows Docker's with 0x8000000 less.
        let bounding = "CapBnd:\t00000000a00425fb".replace("a00425fb", &format!("{:08x}", 0xa804_25fbu32 & !(1 << 27)));
        assert!(text.contains(&bounding), "{text}");
        assert!(text.contains("CapInh:\t0000000000000000") && text.contains("CapAmb:\t0000000000000000"), "{text}");
        let effective = if user.0 == 0 { bounding.replace("CapBnd", "CapEff") } else { "CapEff:\t0000000000000000".to_owned() };
        assert!(text.contains(&effective), "{text}");
        assert!(text.contains("Seccomp:\t2"), "{text}");
        assert!(text.contains(&format!("NoNewPrivs:\t{}", u8::from(no_new_privileges))), "{text}");
        assert!(text.contains("/made/for/it"), "{text}");
        assert!(text.contains(if user.0 == 0 { "/root" } else { "/home/app" }), "{text}");
        for group in user.2 {
            assert!(text.contains(&group.to_string()), "{text}");
        }
        container.kill_all().await.unwrap();
    }
}

#[tokio::test]
async fn added_and_dropped_capabilities_are_what_was_asked() {
    let host = Host::new();
    let mut launch = host.script("caps", "grep Cap /proc/self/status; exec sleep 1000");
    let mut process = launch.spec.process().clone().unwrap();
    let only: Capabilities = [Capability::NetBindService].into_iter().collect();
    let sets = LinuxCapabilitiesBuilder::default().bounding(only.clone()).effective(only.clone()).permitted(only.clone()).inheritable(only.clone()).ambient(only).build();
    process.set_capabilities(Some(sets.unwrap()));
    process.set_user(UserBuilder::default().uid(1000u32).gid(1000u32).build().unwrap());
    launch.spec.set_process(Some(process));
    let container = host.launch(launch).await;
    let (_, text) = output(&container, &["grep", "Cap", "/proc/self/status"]).await;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(text.contains(&format!("{set}:\t0000000000000400")), "{text}");
    }
    until("five lines", || host.log("caps").len() >= 5).await;
    let logged: String = host.log("caps").iter().map(|line| format!("{}\n", line.trim_start_matches("stdout F "))).collect();
    assert_eq!(logged, text);
    container.kill_all().await.unwrap();
}

#[tokio::test]
async fn what_belongs_to_the_host_is_out_of_reach() {
    let host = Host::new();
    let container = host.launch(host.command("jail", &["sleep", "1000"])).await;
    for (script, expected) in [
        // Masked and read-only paths.
        ("head -c1 /proc/kcore 2>/dev/null | wc -c", "0\n"),
        ("ls /sys/firmware", ""),
        ("sh -c 'echo 1 > /proc/sys/kernel/pid_max' 2>&1 | grep -c 'Read-only file system'", "1\n"),
        ("test ! -e /proc/sysrq-trigger || sh -c 'echo b > /proc/sysrq-trigger' 2>/dev/null; echo $?", if std::path::Path::new("/proc/sysrq-trigger").exists() { "1\n" } else { "0\n" }),
        ("touch /sys/x 2>/dev/null; echo $?", "1\n"),
        // Devices: no capability to make them, no rule to open them.
        ("mknod /tmp/disk b 8 0", "mknod: /tmp/disk: Operation not permitted\n"),
        ("test -c /dev/null && test -c /dev/urandom && test ! -e /dev/sda && test ! -e /dev/mem && echo good", "good\n"),
        ("head -c4 /dev/zero | wc -c; echo x > /dev/null; echo $?", "4\n0\n"),
        // System calls.
        ("mount -t tmpfs none /tmp", "mount: permission denied (are you root?)\n"),
        ("unshare -n true 2>&1 | grep -c 'not permitted'", "1\n"),
        // Its own cgroup is the root that it sees, and it cannot write there.
        ("ls /sys/fs/cgroup | grep -c -E '^(memory|memory.max)$'", "1\n"),
        ("for f in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs; do echo 1 2>/dev/null > $f && echo written $f; done 2>/dev/null", ""),
        ("touch /sys/fs/cgroup/x 2>/dev/null; mount | grep -E ' /sys/fs/cgroup(/| )' | grep -v -c '(ro,nosuid,nodev,noexec'", "0\n"),
        // Names.
        ("hostname", "the-pod\n"),
        ("readlink /proc/1/exe", "/bin/busybox\n"),
        // Process ids: only its own.
        ("ls -d /proc/[0-9]* | wc -l | awk '{ print ($1 < 6) }'", "1\n"),
        // The shell's own three, and the directory that ls reads.
        ("ls /proc/self/fd | tr '\\n' ' '", "0 1 2 3 "),
        ("cd ..; pwd; ls -d /proc/self/cwd/bin", "/\n/proc/self/cwd/bin\n"),
    ] {
        assert_eq!(output(&container, &["sh", "-c", script]).await.1, expected, "{script}");
    }
    let links = output(&container, &["sh", "-c", "for fd in /proc/1/fd/*; do readlink $fd; done"]).await.1;
    assert!(links.lines().all(|link| link == "/dev/null" || link.starts_with("pipe:")) && links.lines().count() == 3, "{links}");
    container.kill_all().await.unwrap();
}

#[tokio::test]
async fn the_device_cgroup_stops_a_container_that_may_make_devices() {
    let host = Host::new();
    let mut launch = host.script("mknod", "mknod /tmp/mem c 1 1; head -c1 /tmp/mem; mknod /tmp/z c 1 5; head -c2 /tmp/z | wc -c");
    let mut process = launch.spec.process().clone().unwrap();
    let mut capabilities = mainstay_supervisor::defaults::default_capabilities();
    capabilities.insert(Capability::Mknod);
    capabilities.insert(Capability::SysRawio);
    let sets = LinuxCapabilitiesBuilder::default().bounding(capabilities.clone()).effective(capabilities.clone()).permitted(capabilities).build();
    process.set_capabilities(Some(sets.unwrap()));
    launch.spec.set_process(Some(process));
    // Also with no rules at all in the specification.
    let mut linux = launch.spec.linux().clone().unwrap();
    linux.set_resources(None);
    launch.spec.set_linux(Some(linux));
    let container = host.launch(launch).await;
    within("the end", container.wait()).await;
    let mut log = host.log("mknod");
    log.sort();
    assert_eq!(log, ["stderr F head: /tmp/mem: Operation not permitted", "stdout F 2"]);
}

#[tokio::test]
async fn a_working_directory_or_links_cannot_lead_outside() {
    let host = Host::new();
    // CVE-2024-21626: a working directory that is an inherited descriptor of the host's.
    for fd in 3..12 {
        let mut launch = host.command("cwd", &["true"]);
        let mut process = launch.spec.process().clone().unwrap();
        process.set_cwd(format!("/proc/self/fd/{fd}").into());
        launch.spec.set_process(Some(process));
        let error = host.containers.launch(launch).await.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("chdir to cwd"), "{fd}: {error}");
    }
    // CVE-2025-31133 and -52881: masked paths rest on /dev/null, procfs and real directories.
    let mut launch = host.script("masks", "head -c1 /proc/kcore 2>/dev/null | wc -c; test -c /dev/null && echo null; exec sleep 1000");
    let root = host.root();
    std::fs::remove_dir(root.join("dev")).unwrap();
    std::os::unix::fs::symlink("/tmp", root.join("dev")).unwrap();
    let mut mounts = launch.spec.mounts().clone().unwrap();
    mounts.push(MountBuilder::default().destination("/dev/shm").typ("tmpfs").source("shm").options(vec!["nosuid".to_owned(), "nodev".to_owned(), "size=1m".to_owned()]).build().unwrap());
    launch.spec.set_mounts(Some(mounts));
    match host.containers.launch(launch).await {
        Ok(container) => {
            assert_eq!(output(&container, &["sh", "-c", "head -c1 /proc/kcore 2>/dev/null | wc -c"]).await.1, "0\n");
            assert!(!std::path::Path::new("/tmp/shm").exists() && !std::path::Path::new("/tmp/pts").exists(), "a link was followed on the host");
            container.kill_all().await.unwrap();
        }
        Err(error) => println!("refused: {error}"),
    }
    // /proc as a link to the host's is refused.
    std::fs::remove_dir(root.join("proc")).unwrap();
    std::os::unix::fs::symlink("/tmp", root.join("proc")).unwrap();
    assert!(host.containers.launch(host.command("proc", &["true"])).await.is_err());
}

#[tokio::test]
async fn the_supervisor_cannot_be_overwritten_through_proc() {
    let host = Host::new();
    let container = host.launch(host.command("exe", &["sleep", "1000"])).await;
    let dir = host.dir.path().join("containers/exe");
    let supervisor: mainstay_supervisor::process::Process = mainstay_supervisor::protocol::read_record(&dir, "supervisor.json").unwrap().unwrap();
    // From the host, as root, with every right there is: the memfd's seals hold (CVE-2019-5736).
    let file = std::fs::OpenOptions::new().write(true).open(format!("/proc/{}/exe", supervisor.pid));
    if let Ok(file) = file {
        use std::os::unix::fs::FileExt;
        assert!(file.write_at(b"x", 0).is_err());
    }
    let fds: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", supervisor.pid)).unwrap().flatten().map(|fd| std::fs::read_link(fd.path()).unwrap().to_string_lossy().into_owned()).collect();
    let known = |fd: &String| fd == "/dev/null" || fd.starts_with("pipe:") || fd.starts_with("socket:") || fd.starts_with("anon_inode:") || fd.ends_with("exe.log");
    assert!(fds.iter().all(known), "{fds:?}");
    container.kill_all().await.unwrap();
}

/// Not an assertion on words: run with `--nocapture` it shows what people will read.
#[tokio::test]
async fn mounts_that_fail_name_what_and_where() {
    let host = Host::new();
    let bad = [("/data", "bind", "/no/such/volume"), ("/data", "nofs", "x"), ("/etc/passwd/x", "tmpfs", "tmpfs")];
    for (destination, kind, source) in bad {
        let mut launch = host.command("mounts", &["true"]);
        let mut mounts = launch.spec.mounts().clone().unwrap();
        mounts.push(MountBuilder::default().destination(destination).typ(kind).source(source).options(vec!["rw".to_owned()]).build().unwrap());
        launch.spec.set_mounts(Some(mounts));
        let error = host.containers.launch(launch).await.map(|_| ()).unwrap_err().to_string();
        println!("{error}");
        assert!(error.contains(destination) || error.contains(source), "{error}");
    }
}
