//! The rules, one sentence each. A set: `replicas=3 minReady=5 deleting`; pods, two spaces apart: `a Running,Ready since=5`.

use super::step::{Observed, failed, new_pod, step};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use mainstay_client::Resource;
use serde_json::{Value, json};
use std::sync::Arc;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("in range")
}

fn words(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split_whitespace().map(|word| word.split_once('=').unwrap_or((word, "")))
}

fn set(line: &str) -> ReplicaSet {
    let mut spec = json!({"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web", "tier": "x"}}, "spec": {"containers": []}}});
    let mut metadata = json!({"name": "web", "namespace": "default", "uid": "set", "generation": 2});
    let mut status = Value::Null;
    for (key, value) in words(line) {
        match key {
            "replicas" => spec["replicas"] = json!(value.parse::<i32>().expect("a number")),
            "minReady" => spec["minReadySeconds"] = json!(value.parse::<i32>().expect("a number")),
            "deleting" => metadata["deletionTimestamp"] = json!("2027-01-15T07:59:00Z"),
            "failed" => status = json!({"replicas": 0, "conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": value}]}),
            other => panic!("no such word: {other}"),
        }
    }
    ReplicaSet::from_value(&json!({"metadata": metadata, "spec": spec, "status": status})).expect("a set")
}

fn pod(line: &str) -> Arc<Pod> {
    let mut value = json!({"metadata": {"uid": "u", "labels": {"app": "web", "tier": "x"}}, "spec": {"nodeName": "n", "containers": []}, "status": {"phase": "Pending"}});
    for (key, since) in words(line) {
        for flag in key.split(',') {
            match flag {
                "Running" | "Failed" | "Succeeded" | "Pending" => value["status"]["phase"] = json!(flag),
                "Ready" => value["status"]["conditions"] = json!([{"type": "Ready", "status": "True", "lastTransitionTime": (now() - SignedDuration::from_secs(3600)).to_string()}]),
                "Terminating" => value["metadata"]["deletionTimestamp"] = json!("2027-01-15T07:59:00Z"),
                "bare" => value["metadata"]["labels"] = json!({"app": "web"}),
                "since" => value["status"]["conditions"][0]["lastTransitionTime"] = json!((now() - SignedDuration::from_secs(since.parse().expect("a number"))).to_string()),
                name => {
                    value["metadata"]["name"] = json!(name);
                    value["metadata"]["uid"] = json!(name);
                }
            }
        }
    }
    Arc::new(Pod::from_value(&value).expect("a pod"))
}

fn observed(line: &str, pods: &str) -> Observed {
    Observed { set: Arc::new(set(line)), pods: pods.split("  ").filter(|line| !line.is_empty()).map(pod).collect() }
}

/// `create 2; delete a b; 3 2 1 1 0` (replicas, labelled, ready, available, terminating).
fn said(line: &str, pods: &str) -> String {
    let step = step(&observed(line, pods), now());
    let mut parts = Vec::new();
    if step.create > 0 {
        parts.push(format!("create {}", step.create));
    }
    if !step.delete.is_empty() {
        let names: Vec<&str> = step.delete.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
        parts.push(format!("delete {}", names.join(" ")));
    }
    let (status, number) = (step.status, |count: Option<i32>| count.unwrap_or(0));
    parts.push(format!(
        "{} {} {} {} {}",
        status.replicas,
        number(status.fully_labeled_replicas),
        number(status.ready_replicas),
        number(status.available_replicas),
        number(status.terminating_replicas)
    ));
    if let Some(at) = step.wake_at {
        parts.push(format!("again in {} s", at.duration_since(now()).as_secs()));
    }
    parts.join("; ")
}

#[test]
fn pods_are_made_and_deleted_until_there_are_as_many_as_wished() {
    for (set, pods, expected) in [
        ("replicas=3", "", "create 3; 0 0 0 0 0"),
        ("replicas=3", "a Running,Ready  b Pending", "create 1; 2 2 1 1 0"),
        ("replicas=1", "a Running,Ready  b Pending", "delete b; 2 2 1 1 0"),
        ("replicas=0", "a Running,Ready  b Pending", "delete b a; 2 2 1 1 0"),
        ("replicas=2", "a Running,Ready  b Running,Ready", "2 2 2 2 0"),
        ("replicas=600", "", "create 500; 0 0 0 0 0"),
        ("replicas=2 deleting", "a Running,Ready", "1 1 1 1 0"),
    ] {
        assert_eq!(said(set, pods), expected, "{set}: {pods}");
    }
}

#[test]
fn ended_and_terminating_pods_do_not_count() {
    for (set, pods, expected) in [
        ("replicas=1", "a Failed", "create 1; 0 0 0 0 0"),
        ("replicas=1", "a Succeeded", "create 1; 0 0 0 0 0"),
        ("replicas=1", "a Running,Ready,Terminating", "create 1; 0 0 0 0 1"),
        ("replicas=1", "a Failed,Terminating  b Running", "1 1 0 0 0"),
    ] {
        assert_eq!(said(set, pods), expected, "{set}: {pods}");
    }
}

#[test]
fn a_pod_is_available_after_min_ready_seconds_and_labelled_as_the_template() {
    assert_eq!(said("replicas=2 minReady=10", "a Running,Ready since=4  b Running,Ready since=11"), "2 2 2 1 0; again in 6 s");
    assert_eq!(said("replicas=1", "a Running,Ready,bare"), "1 0 1 1 0");
}

#[test]
fn a_failure_is_told_until_all_goes_well() {
    let (fresh, known) = (set("replicas=1"), set("replicas=1 failed=quota"));
    let message = |set: &ReplicaSet| {
        let status = step(&Observed { set: Arc::new(set.clone()), pods: Vec::new() }, now()).status;
        let failed = failed(set, &status, "FailedCreate", "no", now());
        assert_eq!(status.conditions, None, "gone when all goes well");
        failed.conditions.and_then(|all| all[0].message.clone())
    };
    assert_eq!((message(&fresh).as_deref(), message(&known).as_deref()), (Some("no"), Some("quota")));
}

#[test]
fn a_new_pod_is_the_templates_and_the_sets() {
    let pod = new_pod(&set("replicas=1"));
    let owner = &pod.metadata.owner_references.as_ref().expect("an owner")[0];
    assert_eq!((owner.kind.as_str(), owner.controller, pod.metadata.generate_name.as_deref()), ("ReplicaSet", Some(true), Some("web-")));
    assert_eq!(pod.metadata.labels.map(|labels| labels.len()), Some(2));
}
