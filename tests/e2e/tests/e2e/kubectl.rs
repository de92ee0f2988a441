//! What users type.

use mainstay_e2e::Machine;
use std::io::Write as _;
use std::process::Stdio;

pub(crate) const TESTS: &[crate::Test] = &[
    ("create_get_describe_delete", basics),
    ("exec_logs_attach_and_cp", streams),
    ("patch_label_annotate_edit_and_set_image", changes),
    ("rollout_history_undo_and_restart", rollout),
    ("run_rm_it_shows_the_output_and_deletes_the_pod", run_rm),
    ("wait_for_conditions_fields_and_deletion", waits),
    ("delete_with_force_and_orphan", deletes),
    ("discovery_explain_and_cluster_info", discovery),
];

const SET: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: s}
spec:
  serviceName: s
  replicas: REPLICAS
  selector: {matchLabels: {app: s}}
  template:
    metadata: {labels: {app: s}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: busybox:1.35
        command: ["sh", "-c", "trap 'exit 0' TERM; echo started $HOSTNAME; while true; do sleep 0.1; done"]
"#;

fn set(replicas: u32) -> String {
    SET.replace("REPLICAS", &replicas.to_string())
}

fn basics(machine: &Machine) {
    let k = machine.namespace("kubectl-basics");
    k.ok(&["create", "configmap", "c", "--from-literal=a=b"]);
    assert_eq!(k.field("configmap/c", "{.data.a}"), "b");
    k.ok(&["create", "secret", "generic", "s", "--from-literal=password=hunter2"]);
    assert_eq!(k.field("secret/s", "{.data.password}"), "aHVudGVyMg==");
    k.fails(&["create", "configmap", "c"], "configmaps \"c\" already exists");
    k.fails(&["get", "configmap", "absent"], "configmaps \"absent\" not found");
    k.apply(&set(2));
    k.ok(&["rollout", "status", "statefulset/s", "--timeout=60s"]);
    let table = k.ok(&["get", "pods", "-o", "wide"]);
    assert!(table.starts_with("NAME") && table.contains("NOMINATED NODE") && table.contains("s-0") && table.contains("1/1"), "{table}");
    assert_eq!(k.ok(&["get", "sts", "--no-headers"]).split_whitespace().take(2).collect::<Vec<_>>(), ["s", "2/2"]);
    assert_eq!(k.ok(&["get", "pods", "--sort-by=.metadata.name", "-o", "custom-columns=N:.metadata.name,P:.status.phase", "--no-headers"]).split_whitespace().collect::<Vec<_>>(), ["s-0", "Running", "s-1", "Running"]);
    let described = k.ok(&["describe", "pod", "s-0"]);
    for words in ["Controlled By:  StatefulSet/s", "Successfully assigned", "Started", "QoS Class:"] {
        assert!(described.contains(words), "{words} is missing:\n{described}");
    }
    assert!(k.ok(&["describe", "statefulset", "s"]).contains("SuccessfulCreate"));
    assert!(k.ok(&["get", "all"]).contains("statefulset.apps/s"));
    assert!(k.with_input(&["diff", "-f", "-"], &set(3)).out.contains("+  replicas: 3"));
    assert_eq!(k.with_input(&["diff", "-f", "-"], &set(2)).code, 0, "no difference");
    assert!(k.with_input(&["replace", "-f", "-"], &set(1)).out.contains("replaced"));
    assert!(k.ok(&["events"]).contains("SuccessfulCreate"));
    k.ok(&["delete", "statefulset", "s", "--wait=false"]);
}

fn streams(machine: &Machine) {
    let k = machine.namespace("kubectl-streams");
    k.apply(&set(1));
    k.ok(&["wait", "--for=jsonpath={.status.readyReplicas}=1", "statefulset/s", "--timeout=60s"]);
    assert_eq!(k.ok(&["exec", "s-0", "--", "hostname"]), "s-0");
    assert_eq!(k.run(&["exec", "s-0", "--", "sh", "-c", "exit 7"]).code, 7);
    assert_eq!(k.with_input(&["exec", "-i", "s-0", "--", "cat"], "one\ntwo\n").out, "one\ntwo\n");
    let error = k.run(&["exec", "s-0", "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((error.out.as_str(), error.err.trim_end()), ("out\n", "err"));
    k.fails(&["exec", "s-0", "--", "no-such-command"], "no-such-command");
    k.fails(&["exec", "s-0", "-c", "absent", "--", "true"], "container absent is not valid for pod s-0");
    assert_eq!(k.ok(&["logs", "s-0"]), "started s-0");
    assert_eq!(k.ok(&["logs", "-l", "app=s", "--tail=1", "--prefix"]), "[pod/s-0/c] started s-0");
    k.fails(&["logs", "s-0", "-p"], "previous terminated container \"c\" in pod \"s-0\" not found");
    let big: String = (0..200_000).map(|i| format!("{i}\n")).collect();
    let file = machine.data_dir.parent().expect("a directory").join("cp-source");
    std::fs::write(&file, &big).expect("write");
    k.ok(&["cp", &file.to_string_lossy(), "s-0:/tmp/big"]);
    let back = file.with_file_name("cp-back");
    k.ok(&["cp", "s-0:/tmp/big", &back.to_string_lossy()]);
    assert_eq!(std::fs::read_to_string(&back).expect("read"), big);
    // The log follows, and ends with the container.
    let follow = k.command(&["logs", "-f", "s-0"]).stdout(Stdio::piped()).spawn().expect("kubectl runs");
    k.ok(&["delete", "statefulset", "s"]);
    k.ok(&["wait", "--for=delete", "pod/s-0", "--timeout=30s"]);
    assert!(String::from_utf8_lossy(&follow.wait_with_output().expect("ends").stdout).contains("started s-0"));
}

fn changes(machine: &Machine) {
    let k = machine.namespace("kubectl-changes");
    k.apply(&set(1));
    k.ok(&["patch", "sts", "s", "-p", r#"{"spec":{"replicas":2}}"#]);
    k.ok(&["patch", "sts", "s", "--type=merge", "-p", r#"{"metadata":{"annotations":{"m":"1"}}}"#]);
    k.ok(&["patch", "sts", "s", "--type=json", "-p", r#"[{"op":"replace","path":"/spec/replicas","value":1}]"#]);
    assert_eq!(k.field("sts/s", "{.spec.replicas} {.metadata.annotations.m}"), "1 1");
    k.ok(&["label", "sts", "s", "tier=db"]);
    k.fails(&["label", "sts", "s", "tier=web"], "already has a value");
    k.ok(&["annotate", "sts", "s", "note=n"]);
    assert_eq!(k.ok(&["get", "sts", "-l", "tier in (db)", "-o", "name"]), "statefulset.apps/s");
    k.ok(&["set", "image", "statefulset/s", "c=busybox:1.35.0"]);
    k.fails(&["set", "image", "statefulset/s", "absent=busybox:1.35.0"], "unable to find container named");
    k.until("pod/s-0", "{.spec.containers[0].image}", "busybox:1.35.0", 60);
    let editor = machine.data_dir.parent().expect("a directory").join("editor");
    let mut file = std::fs::File::create(&editor).expect("create");
    file.write_all(b"#!/bin/sh\nsed -i 's/replicas: 1/replicas: 2/' \"$1\"\n").expect("write");
    drop(file);
    std::fs::set_permissions(&editor, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let edited = k.command(&["edit", "sts", "s"]).env("KUBE_EDITOR", &editor).output().expect("kubectl runs");
    assert!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    k.until("sts/s", "{.status.readyReplicas}", "2", 60);
    k.fails(&["patch", "sts", "s", "-p", r#"{"spec":{"serviceName":"other"}}"#], "updates to statefulset spec for fields other than");
    k.ok(&["delete", "sts", "s", "--wait=false"]);
}

fn rollout(machine: &Machine) {
    let k = machine.namespace("kubectl-rollout");
    k.apply(&set(2));
    k.ok(&["rollout", "status", "sts/s", "--timeout=60s"]);
    k.ok(&["set", "env", "sts/s", "A=1"]);
    assert!(k.ok(&["rollout", "status", "sts/s", "--timeout=60s"]).contains("roll out complete"));
    assert_eq!(k.ok(&["rollout", "history", "sts/s"]).lines().filter(|l| l.starts_with(['1', '2'])).count(), 2);
    k.ok(&["rollout", "undo", "sts/s"]);
    k.ok(&["rollout", "status", "sts/s", "--timeout=60s"]);
    assert_eq!(k.field("pod/s-0", "{.spec.containers[0].env}"), "");
    let before = k.field("pod/s-0", "{.metadata.uid}");
    k.ok(&["rollout", "restart", "sts/s"]);
    k.ok(&["rollout", "status", "sts/s", "--timeout=60s"]);
    assert_ne!(k.field("pod/s-0", "{.metadata.uid}"), before);
    k.ok(&["delete", "sts", "s", "--wait=false"]);
}

fn run_rm(machine: &Machine) {
    let k = machine.namespace("kubectl-run");
    for i in 0..5 {
        let answer = k.run(&["run", &format!("r{i}"), "--rm", "-i", "--restart=Never", "--image=busybox:1.35", "--", "echo", "hello", "there"]);
        assert!(answer.code == 0 && answer.out.contains("hello there") && answer.out.contains("deleted"), "{answer:?}");
    }
    let failed = k.run(&["run", "bad", "--rm", "-i", "--restart=Never", "--image=busybox:1.35", "--", "sh", "-c", "exit 3"]);
    assert_eq!(failed.code, 3, "{failed:?}");
    k.until("pods", "{.items}", "[]", 20);
    let name = k.ok(&["run", "dns", "--rm", "-i", "--quiet", "--restart=Never", "--image=busybox:1.35", "--", "nslookup", "kubernetes.default.svc.cluster.local"]);
    assert!(name.contains("Address"), "{name}");
}

fn waits(machine: &Machine) {
    let k = machine.namespace("kubectl-wait");
    k.fails(&["wait", "--for=condition=Ready", "pod/s-0", "--timeout=1s"], "pods \"s-0\" not found");
    k.apply(&set(1));
    k.ok(&["wait", "--for=create", "pod/s-0", "--timeout=10s"]);
    k.ok(&["wait", "--for=condition=Ready", "pod/s-0", "--timeout=30s"]);
    k.ok(&["wait", "--for=jsonpath={.status.phase}=Running", "pod/s-0", "--timeout=10s"]);
    k.ok(&["scale", "sts/s", "--replicas=0"]);
    k.ok(&["wait", "--for=delete", "pod/s-0", "--timeout=30s"]);
    k.ok(&["delete", "sts", "s"]);
}

fn deletes(machine: &Machine) {
    let k = machine.namespace("kubectl-delete");
    k.apply(&set(1));
    k.ok(&["wait", "--for=jsonpath={.status.readyReplicas}=1", "sts/s", "--timeout=60s"]);
    let before = k.field("pod/s-0", "{.metadata.uid}");
    k.ok(&["delete", "pod", "s-0", "--force", "--grace-period=0"]);
    k.until("sts/s", "{.status.readyReplicas}", "1", 30);
    assert_ne!(k.field("pod/s-0", "{.metadata.uid}"), before);
    let kept = k.field("pod/s-0", "{.metadata.uid}");
    k.ok(&["delete", "sts", "s", "--cascade=orphan"]);
    assert_eq!(k.field("pod/s-0", "{.metadata.uid}{.metadata.ownerReferences}"), kept);
    k.apply(&set(1));
    k.until("pod/s-0", "{.metadata.ownerReferences[0].kind}", "StatefulSet", 10);
    assert_eq!(k.field("pod/s-0", "{.metadata.uid}"), kept, "the orphan was adopted");
    k.ok(&["delete", "sts", "s"]);
    k.ok(&["wait", "--for=delete", "pod/s-0", "--timeout=30s"]);
    machine.kubectl().ok(&["delete", "namespace", "kubectl-delete", "--timeout=30s"]);
}

fn discovery(machine: &Machine) {
    let k = machine.kubectl();
    let resources = k.ok(&["api-resources"]);
    for line in ["statefulsets", "sts", "persistentvolumeclaims", "controllerrevisions"] {
        assert!(resources.contains(line), "{line}\n{resources}");
    }
    assert!(k.ok(&["explain", "sts.spec.updateStrategy.rollingUpdate"]).contains("partition"));
    assert!(k.ok(&["explain", "pod.spec.containers"]).contains("<[]Container>"));
    assert!(k.ok(&["cluster-info"]).contains("control plane"));
    assert!(k.ok(&["version"]).contains("Server Version"));
    assert!(k.ok(&["get", "nodes"]).contains(" Ready "));
    assert!(k.ok(&["get", "storageclass"]).contains("standard (default)"));
    assert_eq!(k.ok(&["get", "--raw", "/readyz"]), "ok");
    assert!(k.ok(&["auth", "whoami"]).contains("mainstay-admin"));
}
