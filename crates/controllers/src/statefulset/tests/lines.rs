//! The one parser of test lines.
//!
//! A set: `web replicas=3 OrderedReady partition=1 OnDelete start=2 minReady=10 claims=www scaled=Delete deleted=Delete current=old deleting history=1`.
//! Pods: `web-0 Running,Ready rev=old  web-1 Pending` (two spaces apart); flags: a phase, Ready, NotReady, Terminating, unlabelled, since=5 (seconds ago).
//! Claims: `www-web-0`, `www-web-1 Terminating`, `www-web-2 owner=pod:web-2`, `… owner=set`, `… owner=stale-pod:web-2`, `… owner=other`.

use super::super::identity::{REVISION, new_claim, new_pod, ordinal, pod_name};
use super::super::observe::Observed;
use super::super::revision::{Update, update};
use super::super::step::step;
use expect_test::Expect;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use mainstay_client::Resource;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const SET_UID: &str = "set-uid";

/// The time at which all tests happen.
pub(super) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("in range")
}

fn words(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split_whitespace().map(|word| word.split_once('=').unwrap_or((word, "")))
}

fn number(text: &str) -> i64 {
    text.parse().expect("a number")
}

/// A set from its line, its template at image `new` (or as `image` says).
pub(super) fn set(line: &str, image: &str) -> StatefulSet {
    let mut words = words(line);
    let name = words.next().expect("a name").0;
    let mut spec = json!({"selector": {"matchLabels": {"app": name}}, "serviceName": name, "replicas": 1,
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": image}], "volumes": [{"name": "own", "emptyDir": {}}]}}});
    let mut metadata = json!({"name": name, "namespace": "default", "uid": SET_UID, "generation": 1});
    let mut status = json!({"replicas": 0});
    for (key, value) in words {
        match key {
            "replicas" => spec["replicas"] = json!(number(value)),
            "OrderedReady" | "Parallel" => spec["podManagementPolicy"] = json!(key),
            "partition" => spec["updateStrategy"]["rollingUpdate"]["partition"] = json!(number(value)),
            "OnDelete" => spec["updateStrategy"] = json!({"type": "OnDelete"}),
            "norolling" => spec["updateStrategy"] = json!({"type": "RollingUpdate"}),
            "start" => spec["ordinals"] = json!({"start": number(value)}),
            "minReady" => spec["minReadySeconds"] = json!(number(value)),
            "claims" => {
                let template = |name: &str| json!({"metadata": {"name": name, "labels": {"mine": "yes"}}, "spec": {"accessModes": ["ReadWriteOnce"]}});
                spec["volumeClaimTemplates"] = value.split(',').map(template).collect::<Vec<Value>>().into();
            }
            "scaled" => spec["persistentVolumeClaimRetentionPolicy"]["whenScaled"] = json!(value),
            "deleted" => spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] = json!(value),
            "deleting" => metadata["deletionTimestamp"] = json!("2027-01-15T07:59:00Z"),
            "history" => spec["revisionHistoryLimit"] = json!(number(value)),
            "current" => status["currentRevision"] = json!(value),
            "currentReplicas" => status["currentReplicas"] = json!(number(value)),
            other => panic!("no such word: {other}"),
        }
    }
    StatefulSet::from_value(&json!({"metadata": metadata, "spec": spec, "status": status})).expect("a set")
}

/// The revision of a set's own template.
pub(super) fn revision_of(set: &StatefulSet, number: i64) -> ControllerRevision {
    let Update::Create(mut revision) = update(set, &[], 0) else { panic!("created") };
    revision.revision = number;
    *revision
}

fn pod(set: &StatefulSet, line: &str, revisions: &BTreeMap<&str, String>) -> Pod {
    let mut words = words(line);
    let name = words.next().expect("a name").0;
    let ordinal = name.rsplit('-').next().and_then(|digits| digits.parse().ok()).expect("an ordinal");
    let mut pod = new_pod(set, &set.spec.as_ref().expect("a spec").template, &revisions["new"], ordinal);
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.uid = Some(format!("{name}-uid"));
    let mut status = json!({"phase": "Pending"});
    let mut since = 3_600;
    for (key, value) in words {
        for flag in key.split(',') {
            match flag {
                "Running" | "Pending" | "Failed" | "Succeeded" => status["phase"] = json!(flag),
                "Ready" => status["conditions"] = json!([{"type": "Ready", "status": "True"}]),
                "NotReady" => status["conditions"] = json!([{"type": "Ready", "status": "False"}]),
                "Terminating" => pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now())),
                "unlabelled" => {
                    pod.metadata.labels.as_mut().map(|labels| labels.remove(super::super::identity::POD_NAME));
                }
                "rev" => {
                    pod.metadata.labels.as_mut().map(|labels| labels.insert(REVISION.to_owned(), revisions.get(value).cloned().unwrap_or_else(|| value.to_owned())));
                }
                "since" => since = number(value),
                other => panic!("no such flag: {other}"),
            }
        }
    }
    if !status["conditions"].is_null() {
        status["conditions"][0]["lastTransitionTime"] = json!((now() - SignedDuration::from_secs(since)).to_string());
    }
    let mut value = pod.to_value();
    value["status"] = status;
    Pod::from_value(&value).expect("a pod")
}

fn claim(set: &StatefulSet, line: &str) -> PersistentVolumeClaim {
    let mut words = words(line);
    let name = words.next().expect("a name").0;
    let template = &set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_ref()).expect("a template")[0];
    let mut value = new_claim(set, template, 0).to_value();
    value["metadata"]["name"] = json!(name);
    for (key, owner) in words {
        match key {
            "Terminating" => value["metadata"]["deletionTimestamp"] = json!("2027-01-15T07:59:00Z"),
            "owner" => {
                let (kind, name, uid, version) = match owner.split_once(':').unwrap_or((owner, "")) {
                    ("set", _) => ("StatefulSet", "web".to_owned(), SET_UID.to_owned(), "apps/v1"),
                    ("stale-set", _) => ("StatefulSet", "web".to_owned(), "earlier".to_owned(), "apps/v1"),
                    ("pod", pod) => ("Pod", pod.to_owned(), format!("{pod}-uid"), "v1"),
                    ("stale-pod", pod) => ("Pod", pod.to_owned(), "earlier".to_owned(), "v1"),
                    _ => ("Other", "x".to_owned(), "other".to_owned(), "example.com/v1"),
                };
                value["metadata"]["ownerReferences"] = json!([{"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true, "blockOwnerDeletion": true}]);
            }
            other => panic!("no such word: {other}"),
        }
    }
    PersistentVolumeClaim::from_value(&value).expect("a claim")
}

fn items(lines: &str) -> impl Iterator<Item = &str> {
    lines.split("  ").map(str::trim).filter(|line| !line.is_empty())
}

/// What there is, from three lines; revisions `old` (number 1) and `new` (2, the set's template).
pub(super) fn observed(set_line: &str, pods: &str, claims: &str) -> (Observed, BTreeMap<&'static str, String>) {
    let old = revision_of(&set(set_line, "old"), 1);
    let mut set = set(set_line, "new");
    let new = revision_of(&set, 2);
    let name = |revision: &ControllerRevision| revision.metadata.name.clone().unwrap_or_default();
    let names = BTreeMap::from([("old", name(&old)), ("new", name(&new))]);
    let status = set.status.as_mut().expect("a status");
    let current = status.current_revision.take().unwrap_or_else(|| "new".to_owned());
    status.current_revision = Some(names.get(current.as_str()).cloned().unwrap_or(current));
    let pods = items(pods).map(|line| Arc::new(pod(&set, line, &names))).collect();
    let claims = items(claims).map(|line| claim(&set, line)).map(|claim| (claim.metadata.name.clone().unwrap_or_default(), Arc::new(claim))).collect();
    (Observed { set: Arc::new(set), revisions: vec![Arc::new(old), Arc::new(new)], pods, claims, collision_count: 0 }, names)
}

/// Holds what `step` says of itself against the text expected.
pub(super) fn check(set_line: &str, pods: &str, expected: Expect) {
    check_with_claims(set_line, pods, "", expected);
}

pub(super) fn check_with_claims(set_line: &str, pods: &str, claims: &str, expected: Expect) {
    let (observed, names) = observed(set_line, pods, claims);
    let step = step(&observed, now());
    let mut text = step.to_string();
    for (short, name) in &names {
        text = text.replace(name.as_str(), short);
    }
    if let Some(at) = step.wake_at {
        text.push_str(&format!("look again in {} s\n", at.duration_since(now()).as_secs()));
    }
    expected.assert_eq(&text);
    assert_names(&observed);
}

/// Whatever a test says, an ordinal and a name are each other's inverse.
fn assert_names(observed: &Observed) {
    for pod in &observed.pods {
        if let Some(ordinal) = ordinal(&observed.set, pod) {
            assert_eq!(Some(pod_name(&observed.set, ordinal)), pod.metadata.name);
        }
    }
}

/// The status that a step wants: `replicas ready available current updated`, and the two revisions.
pub(super) fn status(set_line: &str, pods: &str) -> String {
    let (observed, names) = observed(set_line, pods, "");
    let status = step(&observed, now()).status;
    let short = |name: Option<String>| names.iter().find(|(_, long)| Some(*long) == name.as_ref()).map_or("?", |(short, _)| *short);
    format!(
        "{} {} {} {} {} {}→{}",
        status.replicas,
        status.ready_replicas.unwrap_or(0),
        status.available_replicas.unwrap_or(0),
        status.current_replicas.unwrap_or(0),
        status.updated_replicas.unwrap_or(0),
        short(status.current_revision),
        short(status.update_revision)
    )
}
