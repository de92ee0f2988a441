//! What survives the engine: pods, their output, their exit codes.

use crate::own::Own;
use mainstay_e2e::eventually;
use std::time::Duration;

pub(crate) const TESTS: &[crate::OwnTest] = &[
    ("pods_outlive_a_killed_engine_and_are_adopted", adopted),
    ("init_containers_and_sidecars_are_adopted_with_their_exit_codes", stages),
    ("down_and_up_run_the_same_pods_on_the_same_claims", down_up),
];

const SET: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: s}
spec:
  serviceName: s
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: s}}
  template:
    metadata: {labels: {app: s}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: c
        image: busybox:1.35
        command: ["sh", "-c", "trap 'exit 0' TERM; date +%s%N >> /data/starts; i=0; while true; do i=$((i+1)); echo line $i; sleep 0.1; done"]
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"#;

fn adopted() {
    let machine = Own::start("adopted", 16445, &["busybox"]);
    let k = machine.kubectl();
    k.apply(SET);
    k.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: ends}\nspec: {restartPolicy: Never, containers: [{name: c, image: busybox:1.35, command: [sh, -c, 'sleep 3; echo done; exit 5']}]}");
    k.until("sts/s", "{.status.readyReplicas}", "2", 60);
    k.until("pod/ends", "{.status.phase}", "Running", 20);
    let before = k.ok(&["get", "pods", "-o", "jsonpath={range .items[*]}{.metadata.uid}{.status.containerStatuses[0].containerID}{.status.containerStatuses[0].restartCount}{\"\\n\"}{end}"]);
    for _ in 0..3 {
        machine.kill().expect("kill");
        machine.up().expect("up again");
    }
    k.until("pod/ends", "{.status.containerStatuses[0].state.terminated.exitCode}", "5", 20);
    assert!(k.ok(&["logs", "ends"]).ends_with("done"), "the log is whole");
    let after = k.ok(&["get", "pods", "-o", "jsonpath={range .items[*]}{.metadata.uid}{.status.containerStatuses[0].containerID}{.status.containerStatuses[0].restartCount}{\"\\n\"}{end}"]);
    assert_eq!(before, after, "the same pods and containers");
    assert_eq!(k.ok(&["exec", "s-0", "--", "sh", "-c", "wc -l < /data/starts"]), "1", "started once");
    let lines: Vec<u64> = k.ok(&["logs", "s-0"]).lines().filter_map(|l| l.strip_prefix("line ")?.parse().ok()).collect();
    assert!(lines.windows(2).all(|w| w[1] == w[0] + 1) && lines.len() > 10, "no line is missing");
}

const STAGES: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: staged}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 2
  initContainers:
  - {name: side, image: "busybox:1.35", restartPolicy: Always, command: [sh, -c, "trap 'exit 3' TERM; echo side; while true; do sleep 0.1; done"]}
  - {name: init, image: "busybox:1.35", command: [sh, -c, "sleep 3; echo init"]}
  containers:
  - {name: main, image: "busybox:1.35", command: [sh, -c, "sleep 3; echo main; exit 7"]}
"#;

fn stages() {
    let machine = Own::start("stages", 16452, &["busybox"]);
    let k = machine.kubectl();
    k.apply(STAGES);
    eventually("the init container runs", Duration::from_secs(30), || {
        let since = k.field("pod/staged", "{.status.initContainerStatuses[1].state.running.startedAt}");
        if since.is_empty() { Err("not yet") } else { Ok(()) }
    });
    let side = k.field("pod/staged", "{.status.initContainerStatuses[0].containerID}");
    machine.kill().expect("kill while the init container runs");
    machine.up().expect("up again");
    k.until("pod/staged", "{.status.initContainerStatuses[1].state.terminated.exitCode}", "0", 20);
    k.until("pod/staged", "{.status.phase}", "Running", 20);
    let uid = k.field("pod/staged", "{.metadata.uid}");
    machine.kill().expect("kill while the main container runs");
    let run = format!("{}.main.0", uid);
    eventually("the main container ends while nobody watches", Duration::from_secs(20), || {
        let instances = std::fs::read_dir("/run/mainstay").into_iter().flatten().flatten();
        let recorded = instances.map(|i| i.path().join("containers").join(&run).join("exit.json")).any(|f| f.exists());
        if recorded { Ok(()) } else { Err("it has no exit record") }
    });
    machine.up().expect("up again");
    k.until("pod/staged", "{.status.containerStatuses[0].state.terminated.exitCode}", "7", 20);
    k.until("pod/staged", "{.status.initContainerStatuses[0].state.terminated.exitCode}", "3", 20);
    k.until("pod/staged", "{.status.phase}", "Failed", 20);
    let id = "{.status.initContainerStatuses[0].containerID}";
    assert_eq!(k.field("pod/staged", id), side, "the sidecar was not started again");
    let restarts = "{.status.initContainerStatuses[*].restartCount}{.status.containerStatuses[*].restartCount}";
    assert_eq!(k.field("pod/staged", restarts), "0 00");
    for (container, line) in [("side", "side"), ("init", "init"), ("main", "main")] {
        assert_eq!(k.ok(&["logs", "staged", "-c", container]), line);
    }
}

fn down_up() {
    let machine = Own::start("down-up", 16446, &["busybox"]);
    let k = machine.kubectl();
    k.apply(SET);
    k.until("sts/s", "{.status.readyReplicas}", "2", 60);
    let before = k.ok(&["get", "pods,pvc,pv", "-o", "jsonpath={.items[*].metadata.uid}"]);
    machine.down(&[]).expect("down");
    let data = machine.data_dir.to_string_lossy().into_owned();
    let left = std::fs::read_dir("/proc").expect("proc").flatten().filter(|p| std::fs::read(p.path().join("cmdline")).is_ok_and(|c| String::from_utf8_lossy(&c).contains(&data)));
    assert_eq!(left.count(), 0, "no process of ours is left");
    machine.up().expect("up");
    k.until("sts/s", "{.status.readyReplicas}", "2", 60);
    assert_eq!(k.ok(&["get", "pods,pvc,pv", "-o", "jsonpath={.items[*].metadata.uid}"]), before, "the same objects");
    eventually("both starts are in the volume", Duration::from_secs(10), || {
        let starts = k.run(&["exec", "s-1", "--", "sh", "-c", "wc -l < /data/starts"]).out;
        if starts.trim() == "2" { Ok(()) } else { Err(starts) }
    });
}
