//! What becomes of an incoming object.

use mainstay_schema::{check, root};
use serde_json::{Value, json};

/// The clean value and the unknown fields, or the message.
fn walk(api_version: &str, kind: &str, mut value: Value) -> Result<(Value, Vec<String>), String> {
    let ty = root(api_version, kind).expect("a known kind");
    check(ty, &mut value).map(|c| (value, c.unknown)).map_err(|e| e.to_string())
}

#[test]
fn every_kind_that_is_served_is_known() {
    for (api_version, kinds) in [
        ("v1", "Namespace Pod Service Endpoints ConfigMap Secret ServiceAccount PersistentVolume PersistentVolumeClaim Node Event Binding PodTemplate DeleteOptions Status LimitRange ResourceQuota PodList ReplicationController"),
        ("apps/v1", "StatefulSet ControllerRevision Deployment ReplicaSet DaemonSet DeleteOptions"),
        ("batch/v1", "Job CronJob"),
        ("discovery.k8s.io/v1", "EndpointSlice"),
        ("events.k8s.io/v1", "Event"),
        ("storage.k8s.io/v1", "StorageClass VolumeAttachment CSIDriver CSINode"),
        ("coordination.k8s.io/v1", "Lease"),
        ("autoscaling/v1", "Scale HorizontalPodAutoscaler"),
        ("autoscaling/v2", "HorizontalPodAutoscaler"),
        ("authentication.k8s.io/v1", "TokenRequest TokenReview SelfSubjectReview"),
        ("authorization.k8s.io/v1", "SubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview"),
        ("policy/v1", "Eviction PodDisruptionBudget"),
        ("networking.k8s.io/v1", "NetworkPolicy Ingress IngressClass"),
        ("rbac.authorization.k8s.io/v1", "Role RoleBinding ClusterRole ClusterRoleBinding"),
        ("scheduling.k8s.io/v1", "PriorityClass"),
        ("node.k8s.io/v1", "RuntimeClass"),
        ("meta.k8s.io/v1", "PartialObjectMetadata DeleteOptions"),
    ] {
        for kind in kinds.split(' ') {
            assert!(root(api_version, kind).is_some(), "{api_version} {kind}");
        }
    }
    for (api_version, kind) in [("v1", "PodSpec"), ("v1", "OwnerReference"), ("v2", "Pod"), ("example.com/v1", "Pod"), ("apps.example.com/v1", "StatefulSet"), ("apps/v1", "Nonsense")] {
        assert!(root(api_version, kind).is_none(), "{api_version} {kind}");
    }
}

#[test]
fn a_wrong_type_is_refused_in_the_decoders_words() {
    for (api_version, kind, value, expected) in [
        ("apps/v1", "StatefulSet", json!({"spec": {"replicas": "3"}}), "json: cannot unmarshal string into Go struct field StatefulSetSpec.spec.replicas of type int32"),
        ("apps/v1", "StatefulSet", json!({"spec": {"replicas": 1.5}}), "json: cannot unmarshal number 1.5 into Go struct field StatefulSetSpec.spec.replicas of type int32"),
        ("apps/v1", "StatefulSet", json!({"spec": {"replicas": 3_000_000_000_u64}}), "json: cannot unmarshal number 3000000000 into Go struct field StatefulSetSpec.spec.replicas of type int32"),
        ("v1", "Pod", json!({"spec": {"containers": [{"env": [{"name": "A", "value": 1}]}]}}), "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string"),
        ("v1", "Pod", json!({"spec": {"containers": {}}}), "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"),
        ("v1", "Pod", json!({"spec": []}), "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec"),
        ("v1", "Pod", json!({"spec": {"hostNetwork": "yes"}}), "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool"),
        ("v1", "Pod", json!({"spec": {"containers": [{"imagePullPolicy": 1}]}}), "json: cannot unmarshal number into Go struct field Container.spec.containers.imagePullPolicy of type v1.PullPolicy"),
        ("v1", "Pod", json!({"metadata": {"labels": {"a": true}}}), "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string"),
        ("v1", "Pod", json!({"metadata": {"labels": "a=b"}}), "json: cannot unmarshal string into Go struct field ObjectMeta.metadata.labels of type map[string]string"),
        ("v1", "Pod", json!("x"), "json: cannot unmarshal string into Go value of type v1.Pod"),
        ("v1", "Service", json!({"spec": {"ports": [{"targetPort": true}]}}), "json: cannot unmarshal bool into Go struct field ServicePort.spec.ports.targetPort of type int32"),
        ("v1", "Pod", json!({"spec": {"volumes": [{"name": "a", "emptyDir": 1}]}}), "json: cannot unmarshal number into Go struct field Volume.spec.volumes.emptyDir of type v1.EmptyDirVolumeSource"),
        ("v1", "Pod", json!({"spec": {"containers": [{"resources": {"limits": {"memory": "lots"}}}]}}), "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
        ("v1", "Pod", json!({"spec": {"containers": [{"resources": {"limits": []}}]}}), "json: cannot unmarshal array into Go struct field ResourceRequirements.spec.containers.resources.limits of type v1.ResourceList"),
        ("v1", "Secret", json!({"data": {"a": "not base64"}}), "illegal base64 data at input byte 3"),
        ("v1", "Secret", json!({"data": {"a": "YQ="}}), "illegal base64 data at input byte 3"),
        ("v1", "Secret", json!({"data": {"a": 5}}), "json: cannot unmarshal number into Go struct field Secret.data of type []uint8"),
        ("v1", "Pod", json!({"metadata": {"creationTimestamp": 5}}), "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string"),
    ] {
        assert_eq!(walk(api_version, kind, value.clone()), Err(expected.to_owned()), "{value}");
    }
}

#[test]
fn unknown_fields_are_named_and_pruned() {
    let value = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "bogus": 1, "spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "b", "imagee": "x", "ports": [{"containerPort": 1, "zz": {}}]}]}}, "replicaz": 2}});
    let (clean, unknown) = walk("apps/v1", "StatefulSet", value).unwrap();
    assert_eq!(unknown, ["bogus", "spec.replicaz", "spec.template.spec.containers[1].imagee", "spec.template.spec.containers[1].ports[0].zz"]);
    assert_eq!(clean, json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [{"containerPort": 1}]}]}}}}));
}

#[test]
fn the_value_becomes_what_go_would_write() {
    for (kind, value, expected) in [
        ("Pod", json!({"metadata": {"creationTimestamp": null, "labels": {"a": null}}, "spec": {"hostNetwork": false, "enableServiceLinks": false, "nodeName": "", "priority": 0, "tolerations": [], "containers": []}, "status": {}}),
            json!({"metadata": {"labels": {"a": ""}}, "spec": {"enableServiceLinks": false, "priority": 0, "containers": []}, "status": {}})),
        ("Pod", json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": 1, "memory": "1024Mi"}, "limits": {"cpu": 0.5}}, "stdin": false}], "volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "500m"}}}], "volumes": [{"name": "v", "emptyDir": {}}]}})),
        ("Secret", json!({"data": {"a": "YWJj\nZGVm", "b": ""}, "immutable": false}), json!({"data": {"a": "YWJjZGVm", "b": ""}, "immutable": false})),
        ("Service", json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 0}]}}), json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}, {"port": 81}]}})),
        ("Pod", json!({"metadata": {"creationTimestamp": "2026-01-31T12:00:00+01:00"}}), json!({"metadata": {"creationTimestamp": "2026-01-31T11:00:00Z"}})),
        ("Pod", json!({"spec": {"containers": [{"command": ["a", null]}, null]}}), json!({"spec": {"containers": [{"command": ["a", ""]}, {}]}})),
        ("Pod", json!(null), json!({})),
    ] {
        assert_eq!(walk("v1", kind, value.clone()), Ok((expected, vec![])), "{value}");
    }
    let revision = json!({"data": {"spec": {"template": {"$patch": "replace", "x": null}}}, "revision": 0});
    assert_eq!(walk("apps/v1", "ControllerRevision", revision.clone()), Ok((revision, vec![])), "free-form fields stay as they are");
}

#[test]
fn merge_keys_and_list_types_are_upstreams() {
    let pod_spec = root("v1", "Pod").unwrap().field("spec").unwrap();
    let key = |field: &str| pod_spec.merge_strategy(field).merge_key;
    assert_eq!((key("containers"), key("hostAliases"), key("tolerations"), key("topologySpreadConstraints")), (Some("name"), Some("ip"), None, Some("topologyKey")));
    assert!(pod_spec.merge_strategy("volumes").retain_keys && pod_spec.merge_strategy("volumes").merge);
    let container = pod_spec.field("containers").unwrap().items().unwrap();
    assert_eq!(container.merge_strategy("ports").merge_key, Some("containerPort"));
    assert_eq!(container.list_type("ports").keys, "containerPort,protocol");
    let meta = root("v1", "Pod").unwrap().field("metadata").unwrap();
    assert!(meta.merge_strategy("finalizers").merge && meta.merge_strategy("finalizers").merge_key.is_none());
    assert_eq!(meta.merge_strategy("ownerReferences").merge_key, Some("uid"));
    assert_eq!(root("apps/v1", "Deployment").unwrap().field("spec").unwrap().merge_strategy("strategy").retain_keys, true);
}
