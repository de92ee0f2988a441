//! Counts and conditions.

pub(crate) use crate::pods::{available, available_at, phase, running_and_ready, terminating};

use super::identity::{REVISION, replicas};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// `spec.minReadySeconds`.
pub(crate) fn min_ready_seconds(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

/// The value of the revision label.
pub(crate) fn revision_of(pod: &Pod) -> &str {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION)).map(String::as_str).unwrap_or_default()
}

/// Upstream: `computeReplicaStatus`. Ready and available pods count also while they terminate.
pub(crate) fn count<'a>(set: &StatefulSet, pods: impl Iterator<Item = &'a Pod>, current: &str, update: &str, collision_count: i32, now: Timestamp) -> StatefulSetStatus {
    let (mut all, mut ready, mut free, mut at_current, mut at_update) = (0, 0, 0, 0, 0);
    for pod in pods {
        let created = !phase(pod).is_empty();
        all += i32::from(created);
        ready += i32::from(running_and_ready(pod));
        free += i32::from(available(pod, min_ready_seconds(set), now));
        if created && !terminating(pod) {
            at_current += i32::from(revision_of(pod) == current);
            at_update += i32::from(revision_of(pod) == update);
        }
    }
    StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas: all,
        ready_replicas: Some(ready),
        available_replicas: Some(free),
        current_replicas: Some(at_current),
        updated_replicas: Some(at_update),
        current_revision: Some(current.to_owned()),
        update_revision: Some(update.to_owned()),
        collision_count: Some(collision_count),
        conditions: None,
    }
}

/// When all pods are updated and ready, the new revision becomes the current one. Not under OnDelete, as upstream (kubernetes#73492).
pub(crate) fn complete_rolling_update(set: &StatefulSet, status: &mut StatefulSetStatus) {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref()).and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate");
    let all = replicas(set);
    if strategy == "RollingUpdate" && status.replicas == all && status.updated_replicas == Some(all) && status.ready_replicas == Some(all) {
        status.current_replicas = status.updated_replicas;
        status.current_revision.clone_from(&status.update_revision);
    }
}

/// Whether the status that is stored says something else. `conditions` are others' business.
pub(crate) fn differs(old: Option<&StatefulSetStatus>, new: &StatefulSetStatus) -> bool {
    let Some(old) = old else { return true };
    let zero = |count: Option<i32>| count.unwrap_or(0);
    old.observed_generation.unwrap_or(0) < new.observed_generation.unwrap_or(0)
        || old.replicas != new.replicas
        || zero(old.ready_replicas) != zero(new.ready_replicas)
        || zero(old.available_replicas) != zero(new.available_replicas)
        || zero(old.current_replicas) != zero(new.current_replicas)
        || zero(old.updated_replicas) != zero(new.updated_replicas)
        || old.current_revision != new.current_revision
        || old.update_revision != new.update_revision
        || old.collision_count != new.collision_count
}

/// As a merge patch: zero counts are left out, as Go leaves them out, and conditions untouched.
pub(crate) fn patch(status: &StatefulSetStatus) -> Value {
    let unless_zero = |count: Option<i32>| count.filter(|count| *count != 0);
    json!({ "status": {
        "observedGeneration": status.observed_generation,
        "replicas": status.replicas,
        "availableReplicas": status.available_replicas.unwrap_or(0),
        "readyReplicas": unless_zero(status.ready_replicas),
        "currentReplicas": unless_zero(status.current_replicas),
        "updatedReplicas": unless_zero(status.updated_replicas),
        "currentRevision": status.current_revision,
        "updateRevision": status.update_revision,
        "collisionCount": status.collision_count.unwrap_or(0),
    }})
}
