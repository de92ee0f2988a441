use crate::harness::*;
use serde_json::{Value, json};

async fn scheduled_pod(api: &Api, name: &str, grace: i64) -> Value {
    let mut body = pod(name);
    body["spec"]["nodeName"] = "n1".into();
    body["spec"]["terminationGracePeriodSeconds"] = grace.into();
    let made = api.post(PODS, body).await.expect(201).json();
    api.merge(&format!("{PODS}/{name}/status"), json!({"status": {"phase": "Running"}})).await.expect(200);
    made
}

async fn with_accounts() -> Api {
    let api = Api::new().await;
    api.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await.expect(201);
    api
}

#[tokio::test]
async fn a_running_pod_goes_gracefully_and_only_ever_sooner() {
    let api = with_accounts().await;
    scheduled_pod(&api, "p", 30).await;
    let path = format!("{PODS}/p");
    let grace = |value: &Value| value["metadata"]["deletionGracePeriodSeconds"].clone();
    let first = api.delete(&path, json!({})).await.expect(200).json();
    assert_eq!((grace(&first), first["kind"].as_str()), (json!(30), Some("Pod")));
    assert_eq!(first["metadata"]["generation"], 2);
    let time = |value: &Value| value["metadata"]["deletionTimestamp"].as_str().unwrap().to_owned();
    let longer = api.delete(&path, json!({"gracePeriodSeconds": 60})).await.expect(200).json();
    assert_eq!((grace(&longer), time(&longer)), (json!(30), time(&first)));
    let sooner = api.delete(&path, json!({"gracePeriodSeconds": 5})).await.expect(200).json();
    assert_eq!(grace(&sooner), json!(5));
    assert!(time(&sooner) < time(&first));
    let gone = api.delete(&path, json!({"gracePeriodSeconds": 0})).await.expect(200).json();
    assert_eq!(gone["kind"], "Pod");
    api.get(&path).await.expect(404);
}

#[tokio::test]
async fn a_pod_that_no_node_has_goes_at_once_but_not_before_its_finalizers() {
    let api = with_accounts().await;
    api.post(PODS, pod("a")).await.expect(201);
    api.delete(&format!("{PODS}/a"), json!({})).await.expect(200);
    api.get(&format!("{PODS}/a")).await.expect(404);

    scheduled_pod(&api, "b", 30).await;
    let path = format!("{PODS}/b");
    api.merge(&path, json!({"metadata": {"finalizers": ["example.com/hold"]}})).await.expect(200);
    api.delete(&path, json!({"gracePeriodSeconds": 0})).await.expect(200);
    let held = api.get(&path).await.expect(200).json();
    assert_eq!(held["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(
        api.merge(&path, json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}})).await.line(),
        "422 Invalid: Pod \"b\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers [\"example.com/more\"]"
    );
    api.merge(&path, json!({"metadata": {"finalizers": null}})).await.expect(200);
    api.get(&path).await.expect(404);
}

#[tokio::test]
async fn propagation_is_written_as_finalizers() {
    let api = Api::new().await;
    for (name, options, finalizer) in [
        ("orphan", json!({"propagationPolicy": "Orphan"}), Some("orphan")),
        ("foreground", json!({"propagationPolicy": "Foreground"}), Some("foregroundDeletion")),
        ("old", json!({"orphanDependents": true}), Some("orphan")),
        ("background", json!({"propagationPolicy": "Background"}), None),
        ("plain", json!({}), None),
    ] {
        api.post(SETS, set(name)).await.expect(201);
        let path = format!("{SETS}/{name}");
        api.delete(&path, options).await.expect(200);
        match finalizer {
            Some(finalizer) => {
                let left = api.get(&path).await.expect(200).json();
                assert_eq!(left["metadata"]["finalizers"], json!([finalizer]), "{name}");
                assert!(left["metadata"]["deletionTimestamp"].is_string() && left["metadata"]["generation"] == 2, "{name}");
            }
            None => drop(api.get(&path).await.expect(404)),
        }
    }
    assert_eq!(
        api.delete(&format!("{SETS}/x"), json!({"propagationPolicy": "Later"})).await.line(),
        "422 Invalid: DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"Later\": supported values: \"Background\", \"Foreground\", \"Orphan\""
    );
}

#[tokio::test]
async fn preconditions_guard_a_delete() {
    let api = Api::new().await;
    let made = api.config_map("a", json!({})).await;
    let path = format!("{MAPS}/a");
    let uid = made["metadata"]["uid"].as_str().unwrap();
    assert_eq!(
        api.delete(&path, json!({"preconditions": {"uid": "other"}})).await.line(),
        format!("409 Conflict: Operation cannot be fulfilled on configmaps \"a\": the UID in the precondition (other) does not match the UID in record ({uid}). The object might have been deleted and then recreated")
    );
    assert!(api.delete(&path, json!({"preconditions": {"resourceVersion": "1"}})).await.line().starts_with("409 Conflict: "));
    api.delete(&path, json!({"preconditions": {"uid": uid, "resourceVersion": made["metadata"]["resourceVersion"]}})).await.expect(200);
}

#[tokio::test]
async fn a_collection_goes_by_selector() {
    let api = Api::new().await;
    for (name, tier) in [("a", "x"), ("b", "y"), ("c", "x")] {
        api.config_map(name, json!({"tier": tier})).await;
    }
    let gone = api.delete(&format!("{MAPS}?labelSelector=tier%3Dx"), Value::Null).await.expect(200).json();
    assert_eq!((&gone["kind"], gone["items"].as_array().unwrap().len()), (&json!("ConfigMapList"), 2));
    let left = api.get(MAPS).await.json();
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    api.call("DELETE", "/api/v1/namespaces?labelSelector=x", "").await.expect(405);
}

#[tokio::test]
async fn a_namespace_ends_through_its_finalizer_and_takes_nothing_new() {
    let api = Api::new().await;
    api.post("/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await.expect(201);
    let path = "/api/v1/namespaces/n";
    let going = api.delete(path, json!({})).await.expect(200).json();
    assert_eq!(going["status"]["phase"], "Terminating");
    let refused = api.post("/api/v1/namespaces/n/configmaps", json!({"metadata": {"name": "a"}})).await;
    assert_eq!(
        refused.line(),
        "403 Forbidden: configmaps \"a\" is forbidden: unable to create new content in namespace n because it is being terminated"
    );
    assert_eq!(refused.json()["details"]["causes"][0]["reason"], "NamespaceTerminating");
    api.put(path, json!({"metadata": {"name": "n"}, "spec": {"finalizers": []}})).await.expect(200);
    let held = api.get(path).await.expect(200).json();
    assert_eq!(held["spec"]["finalizers"], json!(["kubernetes"]));
    api.put(&format!("{path}/finalize"), json!({"metadata": {"name": "n"}, "spec": {"finalizers": []}})).await.expect(200);
    api.get(path).await.expect(404);
    assert_eq!(api.post("/api/v1/namespaces/n/configmaps", json!({"metadata": {"name": "a"}})).await.line(), "404 NotFound: namespaces \"n\" not found");
    assert_eq!(
        api.delete("/api/v1/namespaces/default", json!({})).await.line(),
        "403 Forbidden: namespaces \"default\" is forbidden: this namespace may not be deleted"
    );
}

#[tokio::test]
async fn an_eviction_deletes() {
    let api = with_accounts().await;
    scheduled_pod(&api, "p", 30).await;
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "default"}});
    assert_eq!(api.post(&format!("{PODS}/p/eviction"), eviction).await.expect(201).json()["status"], "Success");
    assert!(api.get(&format!("{PODS}/p")).await.json()["metadata"]["deletionTimestamp"].is_string());
}
