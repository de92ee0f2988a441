//! What may change and what may not.

use crate::world::{World, create, update};
use expect_test::{Expect, expect};
use serde_json::{Value, json};

/// Creates the manifest, changes what stands at some pointers (null: removes), and updates.
fn check(manifest: &str, changes: &[(&str, Value)], expected: Expect) {
    let mut world = World::new();
    world.add("storage.k8s.io/storageclasses", json!({"metadata": {"name": "fixed"}}));
    world.add("storage.k8s.io/storageclasses", json!({"metadata": {"name": "grows"}, "allowVolumeExpansion": true}));
    let mut old = create(manifest, &world).expect("created");
    for (pointer, value) in changes.iter().filter(|(p, _)| p.starts_with("/status")) {
        set(&mut old, pointer, value.clone());
    }
    let mut new = old.clone();
    for (pointer, value) in changes {
        set(&mut new, pointer, value.clone());
    }
    let said = match update(&old, new, &world) {
        Ok(_) => "updated".to_owned(),
        Err(refusal) if refusal.causes.is_empty() => format!("{} {}", refusal.code, refusal.message),
        Err(refusal) => refusal.causes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    };
    expected.assert_eq(&said);
}

fn set(object: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    if object.pointer(parent).is_none() {
        set(object, parent, json!({}));
    }
    let parent = object.pointer_mut(parent).expect("a parent");
    match parent {
        Value::Array(list) => {
            let index: usize = key.parse().expect("an index");
            if index < list.len() { list[index] = value } else { list.push(value) }
        }
        Value::Object(map) if value.is_null() => drop(map.remove(key)),
        Value::Object(map) => drop(map.insert(key.replace("~1", "/"), value)),
        _ => panic!("{pointer} leads nowhere"),
    }
}

const SET: &str = "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: web}, spec: {serviceName: web, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: 'nginx:1'}]}}, volumeClaimTemplates: [{metadata: {name: www}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]}}";
const DEPLOYMENT: &str = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: 'nginx:1'}]}}}}";
const JOB: &str = "{apiVersion: batch/v1, kind: Job, metadata: {name: j, uid: u}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'nginx:1'}]}}}}";
const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: nginx}]}}";
const CLAIM: &str = "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: c}, spec: {storageClassName: grows, accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}}}";
const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}}";

#[test]
fn a_stateful_set_keeps_its_identity() {
    check(SET, &[], expect!["updated"]);
    check(SET, &[("/spec/replicas", json!(5)), ("/spec/template/spec/containers/0/image", json!("nginx:2")), ("/spec/updateStrategy/rollingUpdate/partition", json!(2)), ("/spec/revisionHistoryLimit", json!(3)), ("/spec/minReadySeconds", json!(1)), ("/spec/ordinals", json!({"start": 1}))], expect!["updated"]);
    for (pointer, value) in [("/spec/serviceName", json!("other")), ("/spec/podManagementPolicy", json!("Parallel")), ("/spec/volumeClaimTemplates/0/spec/resources/requests/storage", json!("2Gi"))] {
        check(SET, &[(pointer, value)], expect!["spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"]);
    }
    // The manifest as the user wrote it, without what was filled in.
    check(SET, &[("/spec/volumeClaimTemplates/0/status", Value::Null), ("/spec/volumeClaimTemplates/0/spec/volumeMode", Value::Null), ("/spec/volumeClaimTemplates/0/kind", Value::Null)], expect!["updated"]);
}

#[test]
fn a_deployment_and_a_job_keep_their_selectors() {
    check(DEPLOYMENT, &[("/spec/replicas", json!(5)), ("/spec/template/spec/containers/0/image", json!("nginx:2")), ("/spec/paused", json!(true))], expect!["updated"]);
    check(DEPLOYMENT, &[("/spec/strategy", json!({"type": "Recreate"}))], expect!["updated"]);
    check(DEPLOYMENT, &[("/spec/selector/matchLabels/app", json!("x")), ("/spec/template/metadata/labels/app", json!("x"))], expect![[r#"spec.selector: Invalid value: {"matchLabels":{"app":"x"}}: field is immutable"#]]);
    check(JOB, &[("/spec/parallelism", json!(5)), ("/spec/suspend", json!(true)), ("/spec/backoffLimit", json!(1)), ("/spec/ttlSecondsAfterFinished", json!(1))], expect!["updated"]);
    check(JOB, &[("/spec/completions", json!(5))], expect!["spec.completions: Invalid value: 5: field is immutable"]);
    check(JOB, &[("/spec/template/spec/nodeSelector", json!({"a": "b"})), ("/status/startTime", json!("2026-01-31T12:00:00Z"))], expect![[r#"spec.template: Invalid value: {"metadata":{"labels":{"batch.kubernetes.io/controller-uid":"u","batch.kubernetes.io/job-name":"j","controller-uid":"u","job-name":"j"}},"spec":{"containers":[{"image":"nginx:1","imagePullPolicy":"IfNotPresent","name":"c","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","nodeSelector":{"a":"b"},"restartPolicy":"Never","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}: field is immutable"#]]);
    check(&JOB.replace("template:", "suspend: true, template:"), &[("/spec/template/spec/nodeSelector", json!({"a": "b"}))], expect!["updated"]);
    check(&JOB.replace("template:", "completionMode: Indexed, completions: 2, parallelism: 2, template:"), &[("/spec/completions", json!(3)), ("/spec/parallelism", json!(3))], expect!["updated"]);
}

#[test]
fn a_pod_may_change_its_image_and_little_else() {
    check(POD, &[("/spec/containers/0/image", json!("nginx:2")), ("/spec/activeDeadlineSeconds", json!(5)), ("/metadata/labels", json!({"a": "b"}))], expect!["updated"]);
    check(POD, &[("/spec/tolerations/2", json!({"key": "a", "operator": "Exists"}))], expect!["updated"]);
    let tolerant = POD.replace("containers", "tolerations: [{key: a, operator: Exists}], containers");
    check(&tolerant, &[("/spec/tolerations/0", json!({"key": "b", "operator": "Exists"}))], expect!["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]);
    check(POD, &[("/spec/containers/0/command", json!(["sh"])), ("/spec/hostname", json!("h"))], expect![[r#"
        spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
        + containers[0].command: ["sh"]
        + hostname: "h""#]]);
    check(POD, &[("/spec/containers/1", json!({"name": "d", "image": "x", "imagePullPolicy": "Always"}))], expect!["spec.containers: Forbidden: pod updates may not add or remove containers"]);
    check(POD, &[("/spec/containers/0/image", json!(""))], expect!["spec.containers[0].image: Required value"]);
}

#[test]
fn a_claim_grows_if_its_class_allows_it() {
    let bound = ("/status/phase", json!("Bound"));
    let size = |s: &str| ("/spec/resources/requests/storage", json!(s));
    check(CLAIM, &[("/spec/volumeName", json!("v"))], expect!["updated"]);
    check(CLAIM, &[bound.clone(), size("3Gi")], expect!["updated"]);
    check(CLAIM, &[size("3Gi")], expect![[r#"403 persistentvolumeclaims "c" is forbidden: Only bound persistent volume claims can be expanded"#]]);
    check(&CLAIM.replace("grows", "fixed"), &[bound.clone(), size("3Gi")], expect![[r#"403 persistentvolumeclaims "c" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"#]]);
    check(CLAIM, &[bound.clone(), ("/status/capacity", json!({"storage": "2Gi"})), size("1Gi")], expect!["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]);
    check(CLAIM, &[bound, ("/spec/storageClassName", json!("fixed"))], expect![[r#"
        spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims
        - storageClassName: "grows"
        + storageClassName: "fixed""#]]);
}

#[test]
fn a_volume_keeps_its_source() {
    let volume = "{apiVersion: v1, kind: PersistentVolume, metadata: {name: v}, spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, nfs: {server: s, path: /x}}}";
    check(volume, &[("/spec/persistentVolumeReclaimPolicy", json!("Delete")), ("/spec/claimRef", json!({"name": "c"}))], expect!["updated"]);
    check(volume, &[("/spec/nfs/path", json!("/y"))], expect![[r#"
        spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation
        - nfs.path: "/x"
        + nfs.path: "/y""#]]);
}

#[test]
fn what_is_immutable_stays() {
    let class = "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: s}, provisioner: a/b, parameters: {type: ssd}}";
    check(class, &[("/parameters", json!({"type": "hdd"})), ("/reclaimPolicy", json!("Retain"))], expect![[r#"
        parameters: Invalid value: {"type":"hdd"}: field is immutable
        reclaimPolicy: Invalid value: "Retain": field is immutable"#]]);
    check(class, &[("/allowVolumeExpansion", json!(true))], expect!["updated"]);
    let map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {a: b}, immutable: true}";
    check(map, &[("/data/a", json!("c")), ("/immutable", Value::Null)], expect![[r#"
        immutable: Forbidden: field is immutable when `immutable` is set
        data: Forbidden: field is immutable when `immutable` is set"#]]);
    check("{apiVersion: v1, kind: Secret, metadata: {name: s}}", &[("/type", json!("mine"))], expect![[r#"type: Invalid value: "mine": field is immutable"#]]);
    check("{apiVersion: apps/v1, kind: ControllerRevision, metadata: {name: r}, revision: 1, data: {a: 1}}", &[("/revision", json!(2)), ("/data/a", json!(2))], expect![[r#"data: Invalid value: {"a":2}: field is immutable"#]]);
    check("{apiVersion: v1, kind: Namespace, metadata: {name: team}}", &[("/metadata/name", json!("m"))], expect![[r#"metadata.name: Invalid value: "m": field is immutable"#]]);
}

#[test]
fn a_service_keeps_its_address() {
    check(SERVICE, &[("/spec/clusterIP", Value::Null), ("/spec/clusterIPs", Value::Null)], expect!["updated"]);
    check(SERVICE, &[("/spec/clusterIP", json!("10.96.0.11"))], expect![[r#"spec.clusterIPs[0]: Invalid value: ["10.96.0.11"]: may not change once set"#]]);
    check(SERVICE, &[("/spec/clusterIP", json!("None")), ("/spec/clusterIPs", Value::Null)], expect![[r#"spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set"#]]);
    check(SERVICE, &[("/spec/type", json!("NodePort"))], expect!["updated"]);
    check(SERVICE, &[("/spec/type", json!("ExternalName")), ("/spec/externalName", json!("example.org"))], expect!["updated"]);
}

#[test]
fn an_update_that_says_nothing_new_changes_nothing() {
    let world = World::new();
    let others = [
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {a: b}}",
        "{apiVersion: v1, kind: Endpoints, metadata: {name: e}, subsets: [{addresses: [{ip: 10.0.0.1}], ports: [{port: 1}]}]}",
        "{apiVersion: v1, kind: Event, metadata: {name: e}, involvedObject: {namespace: default}}",
        "{apiVersion: v1, kind: Namespace, metadata: {name: team}}",
        "{apiVersion: v1, kind: Node, metadata: {name: node-1}}",
        "{apiVersion: v1, kind: PersistentVolume, metadata: {name: v}, spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, hostPath: {path: /x}}}",
        "{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {b: hello}}",
        "{apiVersion: v1, kind: ServiceAccount, metadata: {name: a}}",
        "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: None, selector: {app: web}}}",
        "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: LoadBalancer, externalTrafficPolicy: Local, ports: [{port: 80}]}}",
        "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: ExternalName, externalName: example.org}}",
        "{apiVersion: apps/v1, kind: ControllerRevision, metadata: {name: r}, revision: 1, data: {a: 1}}",
        "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: web}, spec: {updateStrategy: {type: OnDelete}, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {serviceAccountName: x, hostNetwork: true, initContainers: [{name: i, image: x}], containers: [{name: c, image: x, livenessProbe: {grpc: {port: 1}}, ports: [{containerPort: 1}]}], volumes: [{name: v}, {name: h, hostPath: {path: /x}}]}}}}",
        "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: l}, spec: {holderIdentity: me}}",
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e}, addressType: IPv4, ports: [{port: 1}]}",
        "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: s}, provisioner: a/b}",
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {hostNetwork: true, schedulingGates: [{name: a/b}], containers: [{name: c, image: x, ports: [{containerPort: 80}], resources: {limits: {cpu: '1'}}}], volumes: [{name: v}]}}",
    ];
    for manifest in others.iter().chain([&DEPLOYMENT, &JOB, &SET, &POD, &CLAIM, &SERVICE]) {
        let old = create(manifest, &world).expect("created");
        assert_eq!(update(&old, old.clone(), &world).expect("updated"), old, "{manifest}");
    }
}
