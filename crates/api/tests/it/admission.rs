//! What admission adds and refuses, given other objects.

use crate::world::{World, create, update};
use expect_test::{Expect, expect};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn check_refused(manifest: &str, world: &World, expected: Expect) {
    let refusal = create(manifest, world).expect_err("refused");
    expected.assert_eq(&format!("{} {} {}", refusal.code, refusal.reason, refusal.message));
}

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: nginx}]}}";

#[test]
fn a_pod_needs_its_service_account() {
    check_refused(&POD.replace("containers", "serviceAccountName: x, containers"), &World::new(), expect![[r#"403 Forbidden pods "p" is forbidden: error looking up service account default/x: serviceaccount "x" not found"#]]);
    check_refused(&POD.replace("containers", "priorityClassName: urgent, containers"), &World::new(), expect![[r#"403 Forbidden pods "p" is forbidden: no PriorityClass with name urgent was found"#]]);
}

#[test]
fn a_pod_that_declines_gets_no_token() {
    let made = create(&POD.replace("containers", "automountServiceAccountToken: false, containers"), &World::new()).expect("created");
    assert!(made["spec"]["volumes"].is_null() && made["spec"]["containers"][0]["volumeMounts"].is_null());
    let mut world = World::new();
    world.objects[0].1["automountServiceAccountToken"] = json!(false);
    world.objects[0].1["imagePullSecrets"] = json!([{"name": "registry"}]);
    let made = create(POD, &world).expect("created");
    assert!(made["spec"]["volumes"].is_null());
    assert_eq!(made["spec"]["imagePullSecrets"], json!([{"name": "registry"}]));
}

#[test]
fn a_pods_own_tolerations_win() {
    let made = create(&POD.replace("containers", "tolerations: [{operator: Exists}], containers"), &World::new()).expect("created");
    assert_eq!(made["spec"]["tolerations"], json!([{"operator": "Exists"}]));
    let made = create(&POD.replace("containers", "tolerations: [{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}], containers"), &World::new()).expect("created");
    assert_eq!(made["spec"]["tolerations"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_claim_without_class_gets_the_default_one() {
    let claim = "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: c}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}";
    let class = |name: &str, default: &str, time: &str| json!({"metadata": {"name": name, "creationTimestamp": time, "annotations": {"storageclass.kubernetes.io/is-default-class": default}}});
    let mut world = World::new();
    world.add("storage.k8s.io/storageclasses", class("old", "true", "2026-01-01T00:00:00Z"));
    world.add("storage.k8s.io/storageclasses", class("standard", "true", "2026-01-02T00:00:00Z"));
    world.add("storage.k8s.io/storageclasses", class("newest", "false", "2026-01-03T00:00:00Z"));
    assert_eq!(create(claim, &world).expect("created")["spec"]["storageClassName"], "standard");
    // Empty is a wish for none.
    assert_eq!(create(&claim.replace("accessModes", "storageClassName: '', accessModes"), &world).expect("created")["spec"]["storageClassName"], "");
}

const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 80}]}}";

#[test]
fn addresses_are_given_once_until_none_is_left() {
    let mut world = World::new();
    let mut seen = BTreeSet::new();
    for i in 0..254 {
        let made = create(&SERVICE.replace("name: s", &format!("name: s{i}")), &world).expect("an address is free");
        let address = made["spec"]["clusterIP"].as_str().expect("an address").to_owned();
        assert!(address.starts_with("10.96.0.") && seen.insert(address));
        world.add("services", made);
    }
    check_refused(SERVICE, &world, expect![[r#"422 Invalid Service "s" is invalid: spec.clusterIPs: Invalid value: [""]: failed to allocate IP: range is full"#]]);
}

#[test]
fn an_address_that_is_taken_or_elsewhere_is_refused() {
    let mut world = World::new();
    world.add("services", json!({"metadata": {"name": "kubernetes", "namespace": "default"}, "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 443, "nodePort": 30001, "protocol": "TCP"}]}}));
    let asking = |address: &str| SERVICE.replace("ports", &format!("clusterIP: {address}, ports"));
    check_refused(&asking("10.96.0.1"), &world, expect![[r#"422 Invalid Service "s" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.1"]: failed to allocate IP 10.96.0.1: provided IP is already allocated"#]]);
    check_refused(&asking("192.0.2.1"), &world, expect![[r#"422 Invalid Service "s" is invalid: spec.clusterIPs: Invalid value: ["192.0.2.1"]: failed to allocate IP 192.0.2.1: the provided IP (192.0.2.1) is not in the valid range. The range of valid IPs is 10.96.0.0/24"#]]);
    let port = |number: &str| SERVICE.replace("ports: [{port: 80", &format!("type: NodePort, ports: [{{port: 80, nodePort: {number}"));
    check_refused(&port("30001"), &world, expect![[r#"422 Invalid Service "s" is invalid: spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated"#]]);
    check_refused(&port("8080"), &world, expect![[r#"422 Invalid Service "s" is invalid: spec.ports[0].nodePort: Invalid value: 8080: provided port is not in the valid range. The range of valid ports is 30000-30010"#]]);
}

#[test]
fn a_type_comes_and_goes_with_its_ports() {
    let world = World::new();
    let plain = create(SERVICE, &world).expect("created");
    let change = |old: &Value, kind: &str| {
        let mut new = old.clone();
        new["spec"]["type"] = kind.into();
        update(old, new, &world).expect("updated")
    };
    let with_port = change(&plain, "NodePort");
    let number = with_port["spec"]["ports"][0]["nodePort"].as_i64().expect("a node port");
    assert!((30000..=30010).contains(&number));
    assert_eq!(with_port["spec"]["externalTrafficPolicy"], "Cluster");
    let balanced = change(&with_port, "LoadBalancer");
    assert_eq!(balanced["spec"]["ports"][0]["nodePort"], number);
    let back = change(&balanced, "ClusterIP");
    assert_eq!(back["spec"], plain["spec"]);
    let mut external = back.clone();
    external["spec"]["type"] = "ExternalName".into();
    external["spec"]["externalName"] = "example.org".into();
    let external = update(&back, external, &world).expect("updated");
    assert!(external["spec"]["clusterIP"].is_null());
    assert!(change(&external, "ClusterIP")["spec"]["clusterIP"].is_string());
}

#[test]
fn a_node_port_is_kept_when_the_manifest_is_applied_again() {
    let world = World::new();
    let manifest = SERVICE.replace("ports", "type: NodePort, ports");
    let made = create(&manifest, &world).expect("created");
    let mut again = made.clone();
    again["spec"]["ports"] = json!([{"port": 80}]);
    assert_eq!(update(&made, again, &world).expect("updated")["spec"]["ports"], made["spec"]["ports"]);
}

#[test]
fn a_binding_names_the_node_once() {
    let kind = mainstay_api::kinds::by_plural("", "v1", "pods").expect("pods");
    let bind = kind.subresources.iter().find(|s| s.name == "binding").and_then(|s| s.post).expect("a binding hook");
    let mut pod = create(POD, &World::new()).expect("created");
    let empty = bind(&mut pod.clone(), &json!({})).expect_err("refused");
    expect![[r#"Binding "p" is invalid: target.name: Required value"#]].assert_eq(&empty.message);
    bind(&mut pod, &json!({"target": {"kind": "Node", "name": "n"}, "metadata": {"annotations": {"a": "b"}}})).expect("bound");
    assert_eq!((&pod["spec"]["nodeName"], &pod["status"]["conditions"][0]["status"]), (&json!("n"), &json!("True")));
    let again = bind(&mut pod, &json!({"target": {"name": "m"}})).expect_err("refused");
    expect![[r#"409 Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n""#]].assert_eq(&format!("{} {}", again.code, again.message));
}

#[test]
fn grace_is_for_pods_that_run() {
    let grace = mainstay_api::kinds::by_plural("", "v1", "pods").expect("pods").grace;
    let pod = |node: &str, phase: &str| json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}, "status": {"phase": phase}});
    let table = [
        (pod("", "Pending"), None, 0),
        (pod("n", "Running"), None, 30),
        (pod("n", "Running"), Some(5), 5),
        (pod("n", "Running"), Some(0), 0),
        (pod("n", "Running"), Some(-1), 1),
        (pod("n", "Succeeded"), None, 0),
    ];
    for (pod, requested, expected) in table {
        assert_eq!(grace(&pod, requested), Some(expected), "{pod} {requested:?}");
    }
}
