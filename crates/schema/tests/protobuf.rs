//! Bodies that kubectl 1.32 sends, and broken ones.

use mainstay_schema::{ProtobufError, check, decode_protobuf, root};
use serde_json::{Value, json};

#[test]
fn what_kubectl_sends_becomes_what_it_would_have_sent_as_json() {
    let meta = |name: &str| json!({"name": name});
    let labelled = |name: &str| json!({"name": name, "labels": {"app": name}});
    for (body, expected) in [
        // kubectl create secret generic s --from-literal=a=b --from-literal=c=
        (&include_bytes!("kubectl-1.32/secrets.pb")[..], json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta("s"), "data": {"a": "Yg==", "c": ""}})),
        (include_bytes!("kubectl-1.32/configmaps.pb"), json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("c"), "data": {"k": "v"}})),
        (include_bytes!("kubectl-1.32/namespaces.pb"), json!({"apiVersion": "v1", "kind": "Namespace", "metadata": meta("n"), "spec": {}, "status": {}})),
        (include_bytes!("kubectl-1.32/serviceaccounts.pb"), json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("sa")})),
        // kubectl create service nodeport svc --tcp=80:http --node-port 30080
        (include_bytes!("kubectl-1.32/services.pb"), json!({"apiVersion": "v1", "kind": "Service", "metadata": labelled("svc"), "status": {"loadBalancer": {}},
            "spec": {"type": "NodePort", "selector": {"app": "svc"}, "ports": [{"name": "80-http", "port": 80, "protocol": "TCP", "targetPort": "http", "nodePort": 30080}]}})),
        // kubectl create deployment d --image=nginx --replicas=0 --port=80
        (include_bytes!("kubectl-1.32/deployments.pb"), json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": labelled("d"), "status": {},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "d"}}, "strategy": {}, "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "nginx", "image": "nginx", "ports": [{"containerPort": 80}], "resources": {}}]}}}})),
        // kubectl create job j --image=busybox -- sleep 1
        (include_bytes!("kubectl-1.32/jobs.pb"), json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta("j"), "status": {},
            "spec": {"template": {"metadata": {}, "spec": {"restartPolicy": "Never", "containers": [{"name": "j", "image": "busybox", "command": ["sleep", "1"], "resources": {}}]}}}})),
        // kubectl create token default --duration=1h --audience x
        (include_bytes!("kubectl-1.32/token.pb"), json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": {"audiences": ["x"], "expirationSeconds": 3600}, "status": {"token": ""}})),
        // kubectl create pdb p --selector a=b --min-available 50%
        (include_bytes!("kubectl-1.32/poddisruptionbudgets.pb"), json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta("p"), "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}},
            "status": {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}})),
        // kubectl create quota q --hard cpu=1,memory=1024Mi
        (include_bytes!("kubectl-1.32/resourcequotas.pb"), json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta("q"), "spec": {"hard": {"cpu": "1", "memory": "1Gi"}}, "status": {}})),
    ] {
        let decoded = decode_protobuf(body).unwrap();
        let mut clean = decoded.clone();
        check(root(expected["apiVersion"].as_str().unwrap(), expected["kind"].as_str().unwrap()).unwrap(), &mut clean).unwrap();
        assert_eq!(clean, decoded, "the walk finds nothing to clean");
        assert_eq!(decoded, expected);
    }
}

/// Writes a message by hand.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &meta), field(2, raw)].concat()
}

#[test]
fn special_types_take_their_json_form() {
    // Event: 1 metadata, 6 firstTimestamp, 8 count, 10 eventTime; ObjectMeta: 8 creationTimestamp.
    let seconds = [0x08, 0x80, 0xc8, 0xe6, 0xcb, 0x06];
    let micro = [&seconds[..], &[0x10, 0xc0, 0xc4, 0x07]].concat();
    let event = [field(1, &field(8, &[])), field(6, &seconds), vec![0x40, 0x00], field(10, &micro)].concat();
    let decoded = decode_protobuf(&envelope("v1", "Event", &event)).unwrap();
    assert_eq!(decoded, json!({"apiVersion": "v1", "kind": "Event", "metadata": {}, "firstTimestamp": "2026-01-28T05:52:00Z", "eventTime": "2026-01-28T05:52:00.000123Z"}));
    // ControllerRevision: 2 data {1 raw}, 3 revision.
    let revision = [field(2, &field(1, br#"{"a":[1]}"#)), vec![0x18, 0x07]].concat();
    assert_eq!(decode_protobuf(&envelope("apps/v1", "ControllerRevision", &revision)).unwrap(), json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "data": {"a": [1]}, "revision": 7}));
    // Volumes inline their source: Pod.spec 2, volumes 1, volume {1 name, 2 source {2 emptyDir {}}}.
    let pod = field(2, &field(1, &[field(1, b"v"), field(2, &field(2, &[]))].concat()));
    assert_eq!(decode_protobuf(&envelope("v1", "Pod", &pod)).unwrap()["spec"], json!({"volumes": [{"name": "v", "emptyDir": {}}]}));
}

#[test]
fn broken_bodies_are_refused() {
    assert!(matches!(decode_protobuf(b"{}"), Err(ProtobufError::Magic)));
    assert!(matches!(decode_protobuf(b""), Err(ProtobufError::Magic)));
    assert!(matches!(decode_protobuf(&envelope("example.com/v1", "Thing", b"")), Err(ProtobufError::Unknown { .. })));
    let service = include_bytes!("kubectl-1.32/services.pb");
    for end in 4..service.len() {
        // Cut anywhere: an error or a smaller object, never a panic.
        let _ = decode_protobuf(&service[..end]);
    }
    for at in 4..service.len() {
        for bit in 0..8 {
            let mut bytes = service.to_vec();
            bytes[at] ^= 1 << bit;
            let _ = decode_protobuf(&bytes);
        }
    }
    // A wrapped object in a wrapped object in …
    let mut nested: Vec<u8> = envelope("v1", "Pod", b"");
    for _ in 0..3 {
        nested = envelope("apps/v1", "ControllerRevision", &field(2, &field(1, &nested)));
    }
    let decoded: Value = decode_protobuf(&nested).unwrap();
    assert_eq!(decoded["data"]["data"]["data"]["kind"], "Pod");
}
