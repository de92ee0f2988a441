//! What every namespace has, and how one goes.

use crate::harness::Harness;
use serde_json::{Value, json};

#[tokio::test]
async fn the_default_account_and_the_root_certificate_come_back() {
    let h = Harness::start().await;
    let map = "/api/v1/namespaces/x/configmaps/kube-root-ca.crt";
    let account = h.get("/api/v1/namespaces/x/serviceaccounts/default").await;
    h.wait(map, |map| map["data"] == json!({"ca.crt": "the CA"})).await;
    h.patch(map, json!({"data": {"ca.crt": "another", "more": "x"}})).await;
    h.wait(map, |map| map["data"] == json!({"ca.crt": "the CA"})).await;
    h.delete(map, Value::Null).await;
    h.delete("/api/v1/namespaces/x/serviceaccounts/default", Value::Null).await;
    h.wait(map, |map| map["data"] == json!({"ca.crt": "the CA"})).await;
    h.wait("/api/v1/namespaces/x/serviceaccounts/default", |new| new.is_object() && new["metadata"]["uid"] != account["metadata"]["uid"]).await;
}

#[tokio::test]
async fn a_namespace_goes_with_everything_in_it_and_tells_what_it_waits_for() {
    let h = Harness::start().await;
    h.config_map("x", "free", &[]).await;
    h.config_map("x", "held", &[]).await;
    h.create("/api/v1/namespaces/x/persistentvolumeclaims", json!({
        "metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "standard", "resources": {"requests": {"storage": "1Gi"}}},
    })).await;
    h.event("data", "WaitForFirstConsumer").await;
    h.patch("/api/v1/namespaces/x/configmaps/held", json!({"metadata": {"finalizers": ["example.com/held"]}})).await;
    h.delete("/api/v1/namespaces/x", Value::Null).await;
    let remains = |namespace: &Value| {
        let conditions = namespace["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let text = |kind: &str| conditions.iter().find(|condition| condition["type"] == kind && condition["status"] == "True").and_then(|c| c["message"].as_str()).unwrap_or_default().to_owned();
        (text("NamespaceContentRemaining"), text("NamespaceFinalizersRemaining"))
    };
    let told = h
        .wait("/api/v1/namespaces/x", |namespace| remains(namespace).0 == "Some resources are remaining: configmaps. has 1 resource instances")
        .await;
    assert_eq!(told["status"]["phase"], "Terminating");
    assert_eq!(remains(&told).1, "Some content in the namespace has finalizers remaining: example.com/held in 1 resource instances");
    h.patch("/api/v1/namespaces/x/configmaps/held", json!({"metadata": {"finalizers": null}})).await;
    h.gone("/api/v1/namespaces/x").await;
    // A namespace of the same name begins empty.
    h.create("/api/v1/namespaces", json!({"metadata": {"name": "x"}})).await;
    h.wait("/api/v1/namespaces/x/serviceaccounts/default", Value::is_object).await;
    assert_eq!(h.get("/api/v1/namespaces/x/events").await["items"], json!([]));
}
