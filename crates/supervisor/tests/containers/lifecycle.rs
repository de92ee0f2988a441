//! Launch, end, adoption, removal.

use crate::support::{Host, exec, mkdir, output, until, within};
use mainstay_supervisor::{Containers, Error, Log};
use oci_spec::runtime::{LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResourcesBuilder};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

#[tokio::test]
async fn exit_codes_and_signals_are_reported_and_recorded() {
    let host = Host::new();
    for (id, script, code, signal) in [("zero", "true", 0, None), ("three", "exit 3", 3, None), ("killed", "kill -9 $$; exit 4", 4, None), ("sub", "sh -c 'kill -9 $$'; exit $?", 137, None)] {
        let container = host.launch(host.script(id, script)).await;
        let exit = within("the end", container.wait()).await;
        assert_eq!((exit.code, exit.signal), (code, signal), "{script}");
        assert_eq!(container.exit(), Some(exit.clone()));
        assert!(exit.finished_at >= container.started_at() && !exit.oom_killed);
        container.remove().await.unwrap();
    }
    // Process 1 of a namespace ignores what it has no handler for, except from outside, and then only SIGKILL and SIGSTOP.
    let container = host.launch(host.script("signalled", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done")).await;
    until("the trap", || host.log("signalled").contains(&"stdout F ready".to_owned())).await;
    container.signal(15).await.unwrap();
    assert_eq!(within("the end", container.wait()).await.code, 7);
    assert_eq!(host.log("signalled"), ["stdout F ready", "stdout F bye"]);
    assert!(matches!(container.signal(15).await, Err(Error::NotRunning(_))));

    let container = host.launch(host.command("kill", &["sleep", "1000"])).await;
    container.signal(9).await.unwrap();
    let exit = within("the end", container.wait()).await;
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
}

#[tokio::test]
async fn nothing_is_left_of_a_removed_container() {
    let host = Host::new();
    let container = host.launch(host.command("gone", &["sleep", "1000"])).await;
    let (pid, dir) = (container.pid(), host.dir.path().join("containers/gone"));
    assert!(container.clone().remove().await.is_err(), "it runs");
    container.kill_all().await.unwrap();
    container.wait().await;
    let supervisor: mainstay_supervisor::process::Process = mainstay_supervisor::protocol::read_record(&dir, "supervisor.json").unwrap().unwrap();
    container.remove().await.unwrap();
    assert!(!dir.exists() && !Path::new(&format!("/proc/{pid}")).exists());
    until("the supervisor's end", || !supervisor.exists()).await;
    for cgroup in host.cgroup_dirs() {
        assert!(!cgroup.join("gone").exists(), "{}", cgroup.display());
    }
    assert!(host.log_path("gone").exists(), "the log stays");
}

#[tokio::test]
async fn a_command_that_cannot_run_fails_in_the_runtimes_words_and_leaves_nothing() {
    let host = Host::new();
    for (command, expected) in [
        ("foo", r#"exec: "foo": executable file not found in $PATH"#),
        ("/foo", r#"exec: "/foo": stat /foo: no such file or directory"#),
        ("/bin/not-executable", r#"exec: "/bin/not-executable": permission denied"#),
        ("/bin", r#"exec: "/bin": is a directory"#),
        ("garbage", "exec garbage: exec format error"),
    ] {
        let error = host.containers.launch(host.command("bad", &[command])).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(matches!(error, Error::Start(_)));
        assert!(!host.dir.path().join("containers/bad").exists());
        assert!(host.cgroup_dirs().iter().all(|dir| !dir.join("bad").exists()));
    }
    let mut launch = host.command("bad", &["true"]);
    launch.spec.set_mounts(Some(vec![
        oci_spec::runtime::MountBuilder::default().destination("/data").typ("bind").source("/no/such/volume").options(vec!["rbind".to_owned()]).build().unwrap(),
    ]));
    let error = host.containers.launch(launch).await.unwrap_err().to_string();
    assert!(error.contains("/no/such/volume"), "{error}");
    let mut launch = host.command("bad", &["true"]);
    launch.log = Some(Log { path: "/no/such/directory/0.log".into(), max_bytes: 1, max_files: 1 });
    assert_eq!(host.containers.launch(launch).await.unwrap_err().to_string(), "open the log: no such file or directory");
    for id in ["", "../x", "a/b", ".hidden", &"x".repeat(300)] {
        assert!(host.containers.launch(host.command(id, &["true"])).await.is_err(), "{id}");
    }
}

#[tokio::test]
async fn the_log_has_every_line_and_is_rotated() {
    let host = Host::new();
    let mut launch = host.script("log", "seq 1 20000; echo bad >&2; printf unfinished");
    launch.log = Some(Log { path: host.log_path("log"), max_bytes: 200_000, max_files: 100 });
    let container = host.launch(launch).await;
    within("the end", container.wait()).await;
    let mut files = mainstay_supervisor::crilog::rotated(&host.log_path("log")).unwrap();
    assert!(files.len() >= 2, "{files:?}");
    files.push(host.log_path("log"));
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let lines: Vec<_> = text.lines().filter_map(|line| line.split_once(" stdout F ")).map(|(_, line)| line).collect();
    let expected: Vec<_> = (1..=20_000).map(|number| number.to_string()).chain(["unfinished".to_owned()]).collect();
    assert_eq!(lines, expected);
    assert_eq!(text.matches(" stderr F bad\n").count(), 1);

    let container = host.launch(host.script("reopen", "echo one; read x </bin/busybox; while [ ! -e /tmp/go ]; do sleep 0.01; done; echo two")).await;
    until("one", || host.log("reopen") == ["stdout F one"]).await;
    std::fs::rename(host.log_path("reopen"), host.dir.path().join("moved")).unwrap();
    container.reopen_log().await.unwrap();
    std::fs::write(host.root().join("tmp/go"), "").unwrap();
    within("the end", container.wait()).await;
    assert_eq!(host.log("reopen"), ["stdout F two"]);
}

const HELPER_DIR: &str = "MAINSTAY_SUPERVISOR_TEST_HELPER";

/// Not a test of its own: the process that [`containers_outlive_the_process_that_launched_them`] kills.
#[tokio::test]
async fn helper_that_launches_and_waits() {
    let Ok(dir) = std::env::var(HELPER_DIR) else { return };
    let host = std::mem::ManuallyDrop::new(Host::new());
    let containers = Containers::open(Path::new(&dir)).unwrap();
    for (id, command) in [("long", "sleep 1000"), ("short", "echo begun; while [ ! -e /tmp/end ]; do sleep 0.01; done; echo last words; exit 42")] {
        let mut launch = host.script(id, command);
        let log = Path::new(&dir).with_file_name(format!("{id}.log"));
        launch.log = Some(Log { path: log, max_bytes: 1 << 20, max_files: 2 });
        let container = containers.launch(launch).await.unwrap();
        println!("\nHELPER {} {} {}", container.id(), container.pid(), host.dir.path().display());
    }
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn containers_outlive_the_process_that_launched_them() {
    let mine = tempfile::tempdir().unwrap();
    let dir = mkdir(mine.path().join("containers"));
    let mut helper = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lifecycle::helper_that_launches_and_waits", "--nocapture"])
        .env(HELPER_DIR, &dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(helper.stdout.take().unwrap()).lines().map(Result::unwrap).filter(|line| line.starts_with("HELPER "));
    let launched: Vec<Vec<String>> = (0..2).map(|_| lines.next().unwrap().split(' ').map(str::to_owned).collect()).collect();
    let (long, short, elsewhere) = (&launched[0], &launched[1], std::path::PathBuf::from(&launched[0][3]));
    // SIGKILL: nothing of it can clean up or say good-bye.
    helper.kill().unwrap();
    helper.wait().unwrap();
    std::fs::write(elsewhere.join("root/tmp/end"), "").unwrap();
    until("the record of an exit that nobody watched", || dir.join("short/exit.json").exists()).await;

    let containers = Containers::open(&dir).unwrap();
    let mut adopted = containers.adopt().await.unwrap();
    adopted.sort_by(|a, b| a.id().cmp(b.id()));
    let found: Vec<_> = adopted.iter().map(|container| (container.id().to_owned(), container.pid().to_string())).collect();
    assert_eq!(found, [(long[1].clone(), long[2].clone()), (short[1].clone(), short[2].clone())]);
    assert_eq!(adopted[1].exit().unwrap().code, 42);
    assert!(std::fs::read_to_string(mine.path().join("short.log")).unwrap().contains("stdout F last words"));
    assert_eq!(adopted[0].exit(), None);
    assert_eq!(output(&adopted[0], &["sh", "-c", "echo $GREETING; exit 5"]).await, (5, "hello\n".to_owned()));
    adopted[0].signal(9).await.unwrap();
    assert_eq!(within("the end", adopted[0].wait()).await.code, 137);
    for container in adopted {
        container.remove().await.unwrap();
    }
    assert!(containers.adopt().await.unwrap().is_empty());
    let _ = mainstay_supervisor::unpin_namespaces(&elsewhere.join("ns"));
    std::fs::remove_dir_all(elsewhere.join("containers").canonicalize().unwrap()).unwrap();
    std::fs::remove_dir_all(elsewhere).unwrap();
    mainstay_supervisor::cgroup::Cgroup::at(Path::new(&format!("/mainstay-test-{}-0", helper.id()))).unwrap().remove().unwrap();
}

#[tokio::test]
async fn a_container_whose_supervisor_died_is_not_said_to_have_ended_before_it_has() {
    let host = Host::new();
    let container = host.launch(host.command("orphan", &["sleep", "1000"])).await;
    let dir = host.dir.path().join("containers/orphan");
    let supervisor: mainstay_supervisor::process::Process = mainstay_supervisor::protocol::read_record(&dir, "supervisor.json").unwrap().unwrap();
    supervisor.signal(9).unwrap();
    until("the supervisor's end", || !supervisor.exists()).await;
    let adopted = host.containers.adopt().await.unwrap().remove(0);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), adopted.wait()).await.is_err());
    assert_eq!(adopted.exit(), None);
    adopted.kill_all().await.unwrap();
    assert_eq!(within("the end", adopted.wait()).await.code, 255);
    assert_eq!(within("the end", container.wait()).await.code, 255);
    adopted.remove().await.unwrap();
}

#[tokio::test]
async fn kill_all_leaves_no_process_however_they_multiply() {
    let host = Host::new();
    let container = host.launch(host.script("forks", "fork() { while :; do sh -c 'sleep 1000' & sleep 0.001; done; }; fork & fork & sleep 1000")).await;
    assert!(container.has_processes().unwrap());
    let mut execution = container.exec(exec(&["sleep", "1000"])).await.unwrap();
    within("kill_all", container.kill_all()).await.unwrap();
    assert!(!container.has_processes().unwrap());
    assert_eq!(within("the end", container.wait()).await.signal, Some(9));
    assert_eq!(within("the exec's end", execution.wait()).await.unwrap().signal, Some(9));
    container.remove().await.unwrap();
}

#[tokio::test]
async fn limits_hold_and_a_kill_for_memory_is_told_apart() {
    let host = Host::new();
    let limited = |id: &str, script: &str| {
        let mut launch = host.script(id, script);
        let resources = LinuxResourcesBuilder::default()
            .devices(mainstay_supervisor::defaults::default_device_rules().unwrap())
            .memory(LinuxMemoryBuilder::default().limit(32i64 << 20).build().unwrap())
            .cpu(LinuxCpuBuilder::default().shares(512u64).quota(50_000i64).period(100_000u64).build().unwrap())
            .pids(LinuxPidsBuilder::default().limit(50i64).build().unwrap())
            .build()
            .unwrap();
        let mut linux = launch.spec.linux().clone().unwrap();
        linux.set_resources(Some(resources));
        launch.spec.set_linux(Some(linux));
        launch
    };
    let container = host.launch(limited("limits", "sleep 1000")).await;
    let read = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/cpu*/cpu.cfs_quota_us 2>/dev/null || cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max";
    let (_, text) = output(&container, &["sh", "-c", read]).await;
    let first: Vec<_> = text.lines().take(3).collect();
    assert!(first[0] == "33554432" && first[1] == "50" && first[2].starts_with("50000"), "{text}");
    container.kill_all().await.unwrap();
    assert!(!within("the end", container.wait()).await.oom_killed, "killed, but not for memory");

    let container = host.launch(limited("oom", "exec tail /dev/zero")).await;
    let exit = within("the end", container.wait()).await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), true));
}

#[tokio::test]
async fn what_this_host_does_not_allow_is_lowered_and_said() {
    let host = Host::new();
    let mut launch = host.script("lowered", "ulimit -Hn; cat /proc/self/oom_score_adj");
    let mut process = launch.spec.process().clone().unwrap();
    process.set_rlimits(Some(vec![
        oci_spec::runtime::PosixRlimitBuilder::default().typ(oci_spec::runtime::PosixRlimitType::RlimitNofile).hard(1u64 << 40).soft(1024u64).build().unwrap(),
    ]));
    process.set_oom_score_adj(Some(-997));
    launch.spec.set_process(Some(process));
    match host.containers.launch(launch).await {
        Ok(container) => {
            within("the end", container.wait()).await;
            let log = host.log("lowered");
            let lowered = log[1] != "stdout F -997";
            assert_eq!(!container.warnings().is_empty(), lowered, "{log:?} {:?}", container.warnings());
        }
        // With CAP_SYS_RESOURCE the kernel itself refuses a limit above fs.nr_open.
        Err(error) => assert!(error.to_string().contains("rlimit"), "{error}"),
    }
    let mut launch = host.script("score", "cat /proc/self/oom_score_adj; exec sleep 1000");
    let mut process = launch.spec.process().clone().unwrap();
    process.set_oom_score_adj(Some(950));
    launch.spec.set_process(Some(process));
    let container = host.launch(launch).await;
    until("the score", || host.log("score") == ["stdout F 950"]).await;
    assert_eq!(output(&container, &["cat", "/proc/self/oom_score_adj"]).await.1, "950\n");
}
