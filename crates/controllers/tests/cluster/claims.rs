//! Claims and volumes from beginning to end.

use crate::harness::Harness;
use serde_json::{Value, json};

const CLAIM: &str = "/api/v1/namespaces/x/persistentvolumeclaims/data";

async fn claim(h: &Harness, class: &str, more: Value) -> Value {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}});
    more.as_object().into_iter().flatten().for_each(|(key, value)| spec[key] = value.clone());
    h.create("/api/v1/namespaces/x/persistentvolumeclaims", json!({"metadata": {"name": "data"}, "spec": spec})).await
}

fn volume(name: &str) -> String {
    format!("/api/v1/persistentvolumes/{name}")
}

fn phase(object: &Value) -> &str {
    object["status"]["phase"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_claim_gets_a_directory_when_its_pod_has_a_node_and_gives_it_back_after_the_pod() {
    let h = Harness::start().await;
    h.wait("/apis/storage.k8s.io/v1/storageclasses/standard", Value::is_object).await;
    let made = claim(&h, "standard", Value::Null).await;
    assert_eq!(h.event("data", "WaitForFirstConsumer").await, "waiting for first consumer to be created before binding");
    h.pod("db-0", "data", None).await;
    assert_eq!(h.event("data", "WaitForPodScheduled").await, "waiting for pod db-0 to be scheduled");
    let begin = std::time::Instant::now();
    h.patch(CLAIM, json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "here"}}})).await;
    let bound = h.wait(CLAIM, |claim| phase(claim) == "Bound").await;
    println!("selected to bound: {:?}", begin.elapsed());
    let name = format!("pvc-{}", made["metadata"]["uid"].as_str().unwrap());
    assert_eq!(bound["spec"]["volumeName"], name);
    assert_eq!(bound["status"]["capacity"]["storage"], "1Gi");
    let annotations = &bound["metadata"]["annotations"];
    assert_eq!((&annotations["pv.kubernetes.io/bind-completed"], &annotations["volume.kubernetes.io/storage-provisioner"]), (&json!("yes"), &json!("mainstay.dev/local")));
    let pv = h.get(&volume(&name)).await;
    assert_eq!((phase(&pv), &pv["spec"]["claimRef"]["uid"], &pv["spec"]["persistentVolumeReclaimPolicy"]), ("Bound", &made["metadata"]["uid"], &json!("Delete")));
    let data = h.volumes().join(&name).join("data");
    assert_eq!(pv["spec"]["local"]["path"], data.to_str().unwrap());
    std::fs::write(data.join("file"), "x").unwrap();

    h.patch(CLAIM, json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}})).await;
    h.wait(CLAIM, |claim| claim["status"]["capacity"]["storage"] == "2Gi").await;
    assert_eq!(h.get(&volume(&name)).await["spec"]["capacity"]["storage"], "2Gi");

    h.delete("/api/v1/namespaces/x/pods/db-0", json!({"gracePeriodSeconds": 0})).await;
    h.pod("db-1", "data", Some("here")).await;
    h.delete(CLAIM, Value::Null).await;
    h.patch(CLAIM, json!({"metadata": {"labels": {"seen": "yes"}}})).await;
    assert!(h.get(CLAIM).await["metadata"]["deletionTimestamp"].is_string(), "a claim in use stays");
    assert!(data.join("file").exists());
    h.delete("/api/v1/namespaces/x/pods/db-1", json!({"gracePeriodSeconds": 0})).await;
    h.gone(CLAIM).await;
    h.gone(&volume(&name)).await;
    assert!(!data.exists());
}

#[tokio::test]
async fn a_volume_made_by_hand_is_bound_kept_and_free_again_when_its_claim_reference_is_removed() {
    let h = Harness::start().await;
    let spec = json!({"capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp/nothing"}});
    h.create("/api/v1/persistentvolumes", json!({"metadata": {"name": "pv-a"}, "spec": spec})).await;
    h.wait(&volume("pv-a"), |volume| phase(volume) == "Available").await;
    claim(&h, "", Value::Null).await;
    let bound = h.wait(CLAIM, |claim| phase(claim) == "Bound").await;
    assert_eq!((&bound["spec"]["volumeName"], &bound["status"]["capacity"]["storage"]), (&json!("pv-a"), &json!("5Gi")));
    h.delete(CLAIM, Value::Null).await;
    h.gone(CLAIM).await;
    h.wait(&volume("pv-a"), |volume| phase(volume) == "Released").await;
    h.patch(&volume("pv-a"), json!({"spec": {"claimRef": null}})).await;
    h.wait(&volume("pv-a"), |volume| phase(volume) == "Available").await;
    h.delete(&volume("pv-a"), Value::Null).await;
    h.gone(&volume("pv-a")).await;
}

#[tokio::test]
async fn a_claim_that_nobody_serves_says_why() {
    let h = Harness::start().await;
    claim(&h, "ssd", Value::Null).await;
    assert_eq!(h.event("data", "ProvisioningFailed").await, "storageclass.storage.k8s.io \"ssd\" not found");
    // A class that comes later is found.
    h.create("/apis/storage.k8s.io/v1/storageclasses", json!({"metadata": {"name": "ssd"}, "provisioner": "mainstay.dev/local"})).await;
    let bound = h.wait(CLAIM, |claim| phase(claim) == "Bound").await;
    // Finalizers set to nothing on a live claim are put back.
    h.patch(CLAIM, json!({"metadata": {"finalizers": null}})).await;
    h.wait(CLAIM, |claim| claim["metadata"]["finalizers"] == json!(["kubernetes.io/pvc-protection"])).await;
    assert_eq!(bound["spec"]["storageClassName"], "ssd");
}
