//! Owners and owned.

use crate::harness::Harness;
use serde_json::{Value, json};

fn map(name: &str) -> String {
    format!("/api/v1/namespaces/x/configmaps/{name}")
}

fn policy(name: &str) -> Value {
    json!({"propagationPolicy": name})
}

#[tokio::test]
async fn a_background_deletion_reaches_the_whole_family() {
    let h = Harness::start().await;
    let a = h.config_map("x", "a", &[]).await;
    let b = h.config_map("x", "b", &[(&a, true)]).await;
    h.config_map("x", "c", &[(&b, true)]).await;
    let other = h.config_map("x", "other", &[]).await;
    h.config_map("x", "shared", &[(&a, true), (&other, false)]).await;
    h.delete(&map("a"), policy("Background")).await;
    for name in ["a", "b", "c"] {
        h.gone(&map(name)).await;
    }
    let shared = h.wait(&map("shared"), |shared| shared["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.len() == 1)).await;
    assert_eq!(shared["metadata"]["ownerReferences"][0]["name"], "other");
}

#[tokio::test]
async fn a_foreground_deletion_keeps_the_owner_until_its_blocking_dependents_are_gone() {
    let h = Harness::start().await;
    let a = h.config_map("x", "a", &[]).await;
    let b = h.config_map("x", "b", &[(&a, true)]).await;
    h.config_map("x", "c", &[(&b, true)]).await;
    h.patch(&map("c"), json!({"metadata": {"finalizers": ["example.com/held"]}})).await;
    h.delete(&map("a"), policy("Foreground")).await;
    let c = h.wait(&map("c"), |c| c["metadata"]["deletionTimestamp"].is_string()).await;
    assert_eq!(c["metadata"]["finalizers"][0], "example.com/held");
    for name in ["a", "b"] {
        let waiting = h.get(&map(name)).await;
        assert_eq!(waiting["metadata"]["finalizers"], json!(["foregroundDeletion"]), "{name}");
    }
    h.patch(&map("c"), json!({"metadata": {"finalizers": null}})).await;
    for name in ["c", "b", "a"] {
        h.gone(&map(name)).await;
    }
}

#[tokio::test]
async fn orphans_stay_and_have_no_owner_any_more() {
    let h = Harness::start().await;
    let a = h.config_map("x", "a", &[]).await;
    h.config_map("x", "b", &[(&a, true)]).await;
    h.delete(&map("a"), policy("Orphan")).await;
    h.gone(&map("a")).await;
    let b = h.get(&map("b")).await;
    assert!(b["metadata"]["uid"].is_string() && b["metadata"]["ownerReferences"].is_null(), "{b:#}");
}

#[tokio::test]
async fn an_owner_that_never_was_is_found_out_and_one_that_cannot_be_judged_is_believed() {
    let h = Harness::start().await;
    let a = h.config_map("x", "a", &[]).await;
    h.create("/api/v1/namespaces", json!({"metadata": {"name": "y"}})).await;
    let mut imposter = a.clone();
    imposter["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000000");
    let mut foreign = a.clone();
    foreign["kind"] = json!("Unknown");
    h.config_map("x", "believed", &[(&foreign, false)]).await;
    h.config_map("x", "of-imposter", &[(&imposter, false)]).await;
    h.config_map("y", "across", &[(&a, false)]).await;
    h.gone(&map("of-imposter")).await;
    h.gone("/api/v1/namespaces/y/configmaps/across").await;
    assert!(h.get(&map("believed")).await.is_object());
    assert!(h.get(&map("a")).await.is_object());
}
