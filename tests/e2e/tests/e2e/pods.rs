//! What a kubelet does with single pods: limits, deadlines, sidecars, images that were imported.

use mainstay_e2e::{Machine, eventually};
use std::time::Duration;

pub(crate) const TESTS: &[crate::Test] = &[
    ("a_container_killed_for_memory_says_so", oom_killed),
    ("a_pod_past_its_deadline_fails", deadline),
    ("sidecars_start_before_and_end_after_what_they_serve", sidecars),
    ("an_imported_image_satisfies_the_policy_always", imported),
    ("a_seccomp_profile_that_is_not_there_is_told", seccomp),
];

fn oom_killed(machine: &Machine) {
    let k = machine.namespace("oom");
    k.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: big}\nspec:\n  restartPolicy: Never\n  containers:\n  - name: c\n    image: busybox:1.35\n    \
         command: [sh, -c, 'a=0123456789abcdef; while true; do a=$a$a; done']\n    resources: {limits: {memory: 16Mi}}",
    );
    k.until("pod/big", "{.status.containerStatuses[0].state.terminated.reason}", "OOMKilled", 60);
    assert_eq!(k.field("pod/big", "{.status.containerStatuses[0].state.terminated.exitCode}"), "137");
    assert_eq!(k.field("pod/big", "{.status.phase}"), "Failed");
}

fn deadline(machine: &Machine) {
    let k = machine.namespace("deadline");
    k.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: late}\nspec:\n  activeDeadlineSeconds: 2\n  terminationGracePeriodSeconds: 1\n  containers:\n  \
         - {name: c, image: 'busybox:1.35', command: [sleep, '3600']}",
    );
    k.until("pod/late", "{.status.phase}", "Failed", 30);
    assert_eq!(k.field("pod/late", "{.status.reason}"), "DeadlineExceeded");
    k.event("late", "DeadlineExceeded", 10);
}

/// Every container writes its name when it begins and when it is told to end.
const SIDECARS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: s}
spec:
  terminationGracePeriodSeconds: 10
  volumes: [{name: log, hostPath: {path: DIR, type: DirectoryOrCreate}}]
  initContainers:
  - name: first
    image: busybox:1.35
    restartPolicy: Always
    command: [sh, -c, "trap 'echo first ends >> /log/l; exit 0' TERM; echo first >> /log/l; sleep 1; touch /tmp/up; while true; do sleep 0.1; done"]
    startupProbe: {exec: {command: [test, -f, /tmp/up]}, periodSeconds: 1, failureThreshold: 30}
    volumeMounts: [{name: log, mountPath: /log}]
  - name: prepare
    image: busybox:1.35
    command: [sh, -c, "echo prepare >> /log/l"]
    volumeMounts: [{name: log, mountPath: /log}]
  - name: second
    image: busybox:1.35
    restartPolicy: Always
    command: [sh, -c, "trap 'echo second ends >> /log/l; exit 0' TERM; echo second >> /log/l; while true; do sleep 0.1; done"]
    readinessProbe: {exec: {command: ["true"]}, periodSeconds: 1}
    volumeMounts: [{name: log, mountPath: /log}]
  containers:
  - name: main
    image: busybox:1.35
    command: [sh, -c, "trap 'echo main ends >> /log/l; exit 0' TERM; echo main >> /log/l; while true; do sleep 0.1; done"]
    volumeMounts: [{name: log, mountPath: /log}]
"#;

fn sidecars(machine: &Machine) {
    let k = machine.namespace("sidecars");
    let dir = machine.data_dir.with_extension("sidecars");
    k.apply(&SIDECARS.replace("DIR", &dir.to_string_lossy()));
    k.ok(&["wait", "--for=condition=Ready", "pod/s", "--timeout=60s"]);
    let lines = || std::fs::read_to_string(dir.join("l")).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    eventually("all have begun", Duration::from_secs(10), || if lines().len() == 4 { Ok(()) } else { Err(lines().join(", ")) });
    assert_eq!(lines(), ["first", "prepare", "second", "main"], "a startup probe gates what comes after");
    k.ok(&["delete", "pod", "s"]);
    assert_eq!(lines()[4..], ["main ends", "second ends", "first ends"], "the last started sidecar ends first");
    let _ = std::fs::remove_dir_all(dir);
}

fn imported(machine: &Machine) {
    let k = machine.namespace("imported");
    k.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  restartPolicy: Never\n  containers:\n  \
         - {name: c, image: 'busybox:1.35', imagePullPolicy: Always, command: ['true']}",
    );
    k.until("pod/p", "{.status.phase}", "Succeeded", 30);
    let event = k.event("p", "Pulled", 10);
    assert!(event.contains("already present on machine"), "{event}");
}

fn seccomp(machine: &Machine) {
    let k = machine.namespace("seccomp");
    k.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         securityContext: {seccompProfile: {type: Localhost, localhostProfile: strict.json}}\n  containers:\n  \
         - {name: c, image: 'busybox:1.35', command: [sh, -c, 'mkdir /d || sleep 3600']}",
    );
    k.until("pod/p", "{.status.containerStatuses[0].state.waiting.reason}", "CreateContainerConfigError", 30);
    let message = k.field("pod/p", "{.status.containerStatuses[0].state.waiting.message}");
    assert!(message.contains("cannot load seccomp profile") && message.contains("strict.json"), "{message}");
    // The file comes; the next try has it.
    let profiles = machine.data_dir.join("seccomp");
    std::fs::create_dir_all(&profiles).expect("a directory for profiles");
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(profiles.join("strict.json"), profile).expect("a profile");
    k.until("pod/p", "{.status.phase}", "Running", 30);
    eventually("mkdir is refused inside", Duration::from_secs(10), || {
        let log = k.run(&["logs", "p"]).out;
        if log.contains("Operation not permitted") { Ok(()) } else { Err(log) }
    });
}
