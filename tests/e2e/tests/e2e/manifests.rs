//! Wrong manifests: the error, event or status that a user of Kubernetes would look for, where they would look for it.

use mainstay_e2e::Machine;

pub(crate) const TESTS: &[crate::Test] = &[("refused_with_upstreams_words", refused), ("accepted_but_stuck_says_why", stuck), ("a_container_that_exits_at_once_crash_loops", crash_loop)];

fn refused(machine: &Machine) {
    let k = machine.namespace("manifests-refused");
    let set = |spec: &str| format!("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: s}}\nspec: {spec}\n");
    let template = "template: {metadata: {labels: {app: s}}, spec: {containers: [{name: c, image: busybox:1.35}]}}";
    let pod = |spec: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {spec}\n");
    for (manifest, words) in [
        (set(&format!("{{{template}}}")), "spec.selector: Required value"),
        (set(&format!("{{selector: {{matchLabels: {{app: other}}}}, {template}}}")), "`selector` does not match template `labels`"),
        (set(&format!("{{replicas: -1, selector: {{matchLabels: {{app: s}}}}, {template}}}")), "must be greater than or equal to 0"),
        (set(&format!("{{replicaz: 1, selector: {{matchLabels: {{app: s}}}}, {template}}}")), "unknown field \"spec.replicaz\""),
        (set(&format!("{{replicas: two, selector: {{matchLabels: {{app: s}}}}, {template}}}")), "replicas"),
        (pod("{containers: []}"), "spec.containers: Required value"),
        (pod("{containers: [{name: c, image: i, resources: {requests: {memory: 1Zi}}}]}"), "quantities must match the regular expression"),
        (pod("{containers: [{name: C_, image: i}]}"), "spec.containers[0].name: Invalid value: \"C_\""),
        (pod("{containers: [{name: c, image: i, volumeMounts: [{name: v, mountPath: /v}]}]}"), "spec.containers[0].volumeMounts[0].name: Not found: \"v\""),
        ("apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: pv-x}\nspec: {capacity: {storage: 1Gi}, hostPath: {path: /tmp/x}}\n".into(), "spec.accessModes: Required value"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Bad_Name}\n".into(), "a lowercase RFC 1123 subdomain must consist of"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: absent}\n".into(), "namespace"),
        ("apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: t}\n".into(), "no matches for kind \"Thing\""),
    ] {
        k.refuses(&["apply", "-f", "-"], &manifest, words);
    }
    assert_eq!(k.ok(&["get", "sts,pods", "-o", "name"]), "", "nothing was changed");
}

fn stuck(machine: &Machine) {
    let k = machine.namespace("manifests-stuck");
    k.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: no-secret}\nspec: {containers: [{name: c, image: busybox:1.35, command: [sleep, '60'], env: [{name: P, valueFrom: {secretKeyRef: {name: absent, key: k}}}]}]}");
    k.until("pod/no-secret", "{.status.containerStatuses[0].state.waiting.reason}", "CreateContainerConfigError", 20);
    assert_eq!(k.field("pod/no-secret", "{.status.containerStatuses[0].state.waiting.message}"), "secret \"absent\" not found");
    k.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: no-image}\nspec: {containers: [{name: c, image: '127.0.0.1:9/absent:1'}]}");
    let message = k.event("no-image", "Failed", 60);
    assert!(message.contains("127.0.0.1:9/absent:1"), "{message}");
    k.apply("apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: no-class}\nspec: {storageClassName: ssd, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}");
    assert!(k.event("no-class", "ProvisioningFailed", 20).contains("storageclass.storage.k8s.io \"ssd\" not found"));
    assert_eq!(k.field("pvc/no-class", "{.status.phase}"), "Pending");
    k.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: too-big}\nspec: {containers: [{name: c, image: busybox:1.35, resources: {requests: {cpu: '500'}}}]}");
    assert!(k.event("too-big", "FailedScheduling", 20).contains("0/1 nodes are available: 1 Insufficient cpu."));
    k.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: no-command}\nspec: {restartPolicy: Never, containers: [{name: c, image: busybox:1.35, command: [/absent]}]}");
    k.until("pod/no-command", "{.status.phase}", "Failed", 20);
    k.ok(&["delete", "pods", "--all", "--force", "--grace-period=0"]);
}

fn crash_loop(machine: &Machine) {
    let k = machine.namespace("manifests-crash");
    k.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: crash}\nspec: {containers: [{name: c, image: busybox:1.35, command: [sh, -c, 'echo last words; exit 3']}]}");
    k.until("pod/crash", "{.status.containerStatuses[0].state.waiting.reason}", "CrashLoopBackOff", 40);
    assert_eq!(k.field("pod/crash", "{.status.containerStatuses[0].lastState.terminated.exitCode}"), "3");
    assert_eq!(k.ok(&["logs", "crash", "-p"]), "last words");
    assert!(k.ok(&["get", "pod", "crash", "--no-headers"]).contains("CrashLoopBackOff"));
    k.ok(&["delete", "pod", "crash", "--force", "--grace-period=0"]);
}
