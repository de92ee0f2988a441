//! Rows as `kubectl get` shows them; `|` stands between cells, wide ones follow `||`.

use crate::world::parse;
use expect_test::{Expect, expect};
use serde_json::Value;

const NOW: i64 = 1_769_860_800; // 2026-01-31T12:00:00Z

fn row(object: &Value, kind: &mainstay_api::Kind) -> String {
    let cells = |priority: u8| -> Vec<String> {
        let all = kind.columns.iter().filter(|c| c.priority == priority);
        all.map(|c| match (c.cell)(object, NOW) {
            Value::String(text) => text,
            other => other.to_string(),
        })
        .collect()
    };
    let wide = cells(1);
    let plain = cells(0).join("|");
    if wide.is_empty() { plain } else { format!("{plain} || {}", wide.join("|")) }
}

fn check(manifest: &str, expected: Expect) {
    let (object, kind) = parse(manifest);
    expected.assert_eq(&row(&object, kind));
}

/// A pod of one container and the given status.
fn check_pod(status: &str, expected: Expect) {
    check_pod_with("", status, expected);
}

fn check_pod_with(meta: &str, status: &str, expected: Expect) {
    let meta = format!("name: db-0, creationTimestamp: '2026-01-31T11:55:00Z'{meta}");
    check(
        &format!("apiVersion: v1\nkind: Pod\nmetadata: {{{meta}}}\nspec: {{containers: [{{name: a}}], nodeName: node-1}}\nstatus: {{{status}}}"),
        expected,
    );
}

#[test]
fn headings() {
    let all: Vec<String> = mainstay_api::kinds::all()
        .iter()
        .map(|k| format!("{}: {}", k.resource(), k.columns.iter().map(|c| if c.priority == 0 { c.name.to_owned() } else { format!("({})", c.name) }).collect::<Vec<_>>().join(", ")))
        .collect();
    expect![[r#"
        configmaps: Name, Data, Age
        endpoints: Name, Endpoints, Age
        events: Last Seen, Type, Reason, Object, (Subobject), (Source), Message, (First Seen), (Count), (Name)
        namespaces: Name, Status, Age
        nodes: Name, Status, Roles, Age, Version, (Internal-IP), (External-IP), (OS-Image), (Kernel-Version), (Container-Runtime)
        persistentvolumeclaims: Name, Status, Volume, Capacity, Access Modes, StorageClass, VolumeAttributesClass, Age, (VolumeMode)
        persistentvolumes: Name, Capacity, Access Modes, Reclaim Policy, Status, Claim, StorageClass, VolumeAttributesClass, Reason, Age, (VolumeMode)
        pods: Name, Ready, Status, Restarts, Age, (IP), (Node), (Nominated Node), (Readiness Gates)
        secrets: Name, Type, Data, Age
        serviceaccounts: Name, Secrets, Age
        services: Name, Type, Cluster-IP, External-IP, Port(s), Age, (Selector)
        controllerrevisions.apps: Name, Controller, Revision, Age
        deployments.apps: Name, Ready, Up-to-date, Available, Age, (Containers), (Images), (Selector)
        replicasets.apps: Name, Desired, Current, Ready, Age, (Containers), (Images), (Selector)
        statefulsets.apps: Name, Ready, Age, (Containers), (Images)
        cronjobs.batch: Name, Schedule, Timezone, Suspend, Active, Last Schedule, Age, (Containers), (Images), (Selector)
        jobs.batch: Name, Status, Completions, Duration, Age, (Containers), (Images), (Selector)
        leases.coordination.k8s.io: Name, Holder, Age
        endpointslices.discovery.k8s.io: Name, AddressType, Ports, Endpoints, Age
        events.events.k8s.io: Last Seen, Type, Reason, Object, (Subobject), (Source), Message, (First Seen), (Count), (Name)
        storageclasses.storage.k8s.io: Name, Provisioner, ReclaimPolicy, VolumeBindingMode, AllowVolumeExpansion, Age"#]].assert_eq(&all.join("\n"));
}

#[test]
fn pods() {
    check_pod("phase: Pending", expect!["db-0|0/1|Pending|0|5m || <none>|node-1|<none>|<none>"]);
    check_pod("phase: Pending, containerStatuses: [{name: a, state: {waiting: {reason: ContainerCreating}}}]", expect!["db-0|0/1|ContainerCreating|0|5m || <none>|node-1|<none>|<none>"]);
    check_pod("phase: Running, podIP: 10.1.0.2, podIPs: [{ip: 10.1.0.2}], containerStatuses: [{name: a, ready: true, state: {running: {}}}]", expect!["db-0|1/1|Running|0|5m || 10.1.0.2|node-1|<none>|<none>"]);
    check_pod("phase: Running, containerStatuses: [{name: a, ready: false, restartCount: 2, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {finishedAt: '2026-01-31T11:58:40Z', exitCode: 1}}}]", expect!["db-0|0/1|CrashLoopBackOff|2 (80s ago)|5m || <none>|node-1|<none>|<none>"]);
    check_pod("phase: Succeeded, containerStatuses: [{name: a, state: {terminated: {reason: Completed, exitCode: 0}}}]", expect!["db-0|0/1|Completed|0|5m || <none>|node-1|<none>|<none>"]);
    check_pod("phase: Failed, containerStatuses: [{name: a, state: {terminated: {reason: OOMKilled, exitCode: 137}}}]", expect!["db-0|0/1|OOMKilled|0|5m || <none>|node-1|<none>|<none>"]);
    check_pod("phase: Failed, containerStatuses: [{name: a, state: {terminated: {exitCode: 3}}}]", expect!["db-0|0/1|ExitCode:3|0|5m || <none>|node-1|<none>|<none>"]);
    check_pod("phase: Failed, reason: Evicted", expect!["db-0|0/1|Evicted|0|5m || <none>|node-1|<none>|<none>"]);
    check_pod_with(", deletionTimestamp: '2026-01-31T11:59:59Z'", "phase: Running, containerStatuses: [{name: a, ready: true, state: {running: {}}}]", expect!["db-0|1/1|Terminating|0|5m || <none>|node-1|<none>|<none>"]);
    check_pod("phase: Running, containerStatuses: [{name: a, ready: true, state: {running: {}}}, {name: b, state: {terminated: {reason: Completed, exitCode: 0}}}], conditions: [{type: Ready, status: 'False'}]", expect!["db-0|1/1|NotReady|0|5m || <none>|node-1|<none>|<none>"]);
}

#[test]
fn pods_that_initialize() {
    let pod = |status: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{initContainers: [{{name: i}}, {{name: s, restartPolicy: Always}}], containers: [{{name: a}}]}}\nstatus: {{phase: Pending, {status}}}");
    check(&pod("initContainerStatuses: [{name: i, state: {running: {}}}]"), expect!["p|0/2|Init:0/2|0|<unknown> || <none>|<none>|<none>|<none>"]);
    check(&pod("initContainerStatuses: [{name: i, restartCount: 3, state: {terminated: {reason: Error, exitCode: 1}}}]"), expect!["p|0/2|Init:Error|3|<unknown> || <none>|<none>|<none>|<none>"]);
    check(&pod("initContainerStatuses: [{name: i, state: {waiting: {reason: PodInitializing}}}]"), expect!["p|0/2|Init:0/2|0|<unknown> || <none>|<none>|<none>|<none>"]);
    check(&pod("initContainerStatuses: [{name: i, state: {waiting: {reason: ImagePullBackOff}}}]"), expect!["p|0/2|Init:ImagePullBackOff|0|<unknown> || <none>|<none>|<none>|<none>"]);
    check(&pod("initContainerStatuses: [{name: i, restartCount: 1, state: {terminated: {exitCode: 0}}}, {name: s, started: true, ready: true, restartCount: 1, state: {running: {}}}], containerStatuses: [{name: a, state: {waiting: {reason: PodInitializing}}}]"), expect!["p|1/2|PodInitializing|1|<unknown> || <none>|<none>|<none>|<none>"]);
}

#[test]
fn workloads() {
    let template = "template: {spec: {containers: [{name: c, image: i}]}}";
    check(&format!("{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: d}}, spec: {{replicas: 3, selector: {{matchLabels: {{app: web}}}}, {template}}}, status: {{readyReplicas: 2, updatedReplicas: 1, availableReplicas: 2}}}}"), expect!["d|2/3|1|2|<unknown> || c|i|app=web"]);
    check(&format!("{{apiVersion: apps/v1, kind: ReplicaSet, metadata: {{name: r}}, spec: {{replicas: 3, selector: {{matchLabels: {{app: web}}}}, {template}}}, status: {{replicas: 2, readyReplicas: 1}}}}"), expect!["r|3|2|1|<unknown> || c|i|app=web"]);
    let job = |spec: &str, status: &str| format!("{{apiVersion: batch/v1, kind: Job, metadata: {{name: j}}, spec: {{{spec}, {template}}}, status: {{{status}}}}}");
    check(&job("completions: 3", "startTime: '2026-01-31T11:58:00Z', succeeded: 1"), expect!["j|Running|1/3|2m|<unknown> || c|i|<none>"]);
    check(&job("completions: 1", "startTime: '2026-01-31T11:50:00Z', completionTime: '2026-01-31T11:50:07Z', succeeded: 1, conditions: [{type: Complete, status: 'True'}]"), expect!["j|Complete|1/1|7s|<unknown> || c|i|<none>"]);
    check(&job("parallelism: 2", "conditions: [{type: Failed, status: 'True'}]"), expect!["j|Failed|0/1 of 2||<unknown> || c|i|<none>"]);
    check(&job("parallelism: 1", "conditions: [{type: Suspended, status: 'True'}]"), expect!["j|Suspended|0/1||<unknown> || c|i|<none>"]);
    check("{apiVersion: batch/v1, kind: CronJob, metadata: {name: c}, spec: {schedule: '0 2 * * *', suspend: true, jobTemplate: {spec: {template: {spec: {containers: [{name: c, image: i}]}}}}}, status: {active: [{name: a}], lastScheduleTime: '2026-01-31T11:58:00Z'}}", expect!["c|0 2 * * *|<none>|True|1|2m|<unknown> || c|i|<none>"]);
}

#[test]
fn the_other_kinds() {
    check("{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: NodePort, clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ports: [{port: 80, nodePort: 30080, protocol: TCP}, {port: 53, protocol: UDP}], selector: {tier: db, app: web}}}", expect!["s|NodePort|10.96.0.1|<none>|80:30080/TCP,53/UDP|<unknown> || app=web,tier=db"]);
    check("{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: LoadBalancer, clusterIPs: [None]}}", expect!["s|LoadBalancer|None|<pending>|<none>|<unknown> || <none>"]);
    check("{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: ExternalName, externalName: example.org}}", expect!["s|ExternalName|<none>|example.org|<none>|<unknown> || <none>"]);
    check("{apiVersion: v1, kind: Endpoints, metadata: {name: e}, subsets: [{addresses: [{ip: 1.1.1.1}, {ip: 1.1.1.2}], ports: [{port: 1}, {port: 2}]}]}", expect!["e|1.1.1.1:1,1.1.1.2:1,1.1.1.1:2 + 1 more...|<unknown>"]);
    check("{apiVersion: v1, kind: Endpoints, metadata: {name: e}}", expect!["e|<none>|<unknown>"]);
    check("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e}, addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [1.1.1.1]}]}", expect!["e|IPv4|80|1.1.1.1|<unknown>"]);
    check("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e}, addressType: IPv4}", expect!["e|IPv4|<unset>|<unset>|<unknown>"]);
    check("{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: c}, spec: {volumeName: v, storageClassName: standard, volumeMode: Filesystem}, status: {phase: Bound, capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce]}}", expect!["c|Bound|v|1Gi|RWO|standard|<unset>|<unknown> || Filesystem"]);
    check("{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: c, deletionTimestamp: '2026-01-31T11:59:59Z'}, status: {phase: Pending}}", expect!["c|Terminating|||||<unset>|<unknown> || <unset>"]);
    check("{apiVersion: v1, kind: PersistentVolume, metadata: {name: v}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadOnlyMany, ReadWriteOnce], persistentVolumeReclaimPolicy: Delete, storageClassName: standard, volumeMode: Filesystem, claimRef: {namespace: team, name: c}}, status: {phase: Bound}}", expect!["v|1Gi|RWO,ROX|Delete|Bound|team/c|standard|<unset>||<unknown> || Filesystem"]);
    check("{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: 'true'}}, provisioner: mainstay.dev/local, reclaimPolicy: Delete, volumeBindingMode: WaitForFirstConsumer}", expect!["standard (default)|mainstay.dev/local|Delete|WaitForFirstConsumer|false|<unknown>"]);
    check("{apiVersion: v1, kind: Node, metadata: {name: node-1, labels: {node-role.kubernetes.io/control-plane: '', node-role.kubernetes.io/a: ''}}, spec: {unschedulable: true}, status: {conditions: [{type: Ready, status: 'True'}], addresses: [{type: InternalIP, address: 10.0.0.1}], nodeInfo: {kubeletVersion: v1.36.0, osImage: Debian, kernelVersion: 6.18.0, containerRuntimeVersion: 'mainstay://1'}}}", expect!["node-1|Ready,SchedulingDisabled|a,control-plane|<unknown>|v1.36.0 || 10.0.0.1|<none>|Debian|6.18.0|mainstay://1"]);
    check("{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: web}, spec: {replicas: 3, template: {spec: {containers: [{name: a, image: x}, {name: b, image: z}]}}}, status: {readyReplicas: 2}}", expect!["web|2/3|<unknown> || a,b|x,z"]);
    check("{apiVersion: apps/v1, kind: ControllerRevision, metadata: {name: web-1, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: web, controller: true}]}, revision: 1}", expect!["web-1|statefulset.apps/web|1|<unknown>"]);
    check("{apiVersion: v1, kind: Secret, metadata: {name: s}, type: Opaque, data: {a: eA==, b: eA==}}", expect!["s|Opaque|2|<unknown>"]);
    check("{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {a: ''}, binaryData: {b: eA==}}", expect!["c|2|<unknown>"]);
    check("{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: l}, spec: {holderIdentity: me}}", expect!["l|me|<unknown>"]);
    check("{apiVersion: v1, kind: ServiceAccount, metadata: {name: a}}", expect!["a|0|<unknown>"]);
    check("{apiVersion: v1, kind: Namespace, metadata: {name: team}, status: {phase: Active}}", expect!["team|Active|<unknown>"]);
}

#[test]
fn events_look_the_same_in_both_groups() {
    let core = "{apiVersion: v1, kind: Event, metadata: {name: e}, involvedObject: {kind: Pod, name: p, fieldPath: 'spec.containers{a}'}, reason: Started, message: ' Container started ', type: Normal, source: {component: kubelet, host: node-1}, firstTimestamp: '2026-01-31T11:59:00Z', lastTimestamp: '2026-01-31T11:59:30Z', count: 2}";
    check(core, expect!["30s|Normal|Started|pod/p|Container started || spec.containers{a}|kubelet, node-1|60s|2|e"]);
    let (mut event, _) = parse(core);
    let row_of_new = mainstay_api::kinds::by_kind("events.k8s.io/v1", "Event").expect("a row");
    let (from_core, to_core) = row_of_new.convert.expect("two forms");
    let before = event.clone();
    from_core(&mut event);
    assert_eq!(row(&event, row_of_new), {
        let (object, kind) = parse(core);
        row(&object, kind)
    });
    expect![[r#"{"apiVersion":"v1","deprecatedCount":2,"deprecatedFirstTimestamp":"2026-01-31T11:59:00Z","deprecatedLastTimestamp":"2026-01-31T11:59:30Z","deprecatedSource":{"component":"kubelet","host":"node-1"},"kind":"Event","metadata":{"name":"e","namespace":"default"},"note":" Container started ","reason":"Started","regarding":{"fieldPath":"spec.containers{a}","kind":"Pod","name":"p"},"type":"Normal"}"#]].assert_eq(&event.to_string());
    to_core(&mut event);
    assert_eq!(event, before);
}
