//! Observed → Step. Upstream: `manageReplicas` and `calculateStatus` (pkg/controller/replicaset, 1.36). Pure: no clock, no request.

use crate::owners::owner_ref;
use crate::pods::{BURST_LIMIT, active, available_at, ended, first_to_go, from_template, is_ready, terminating};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::sync::Arc;

/// Condition: pods cannot be made, or deleted.
pub(crate) const REPLICA_FAILURE: &str = "ReplicaFailure";

/// What there is: the set and its pods, ended and terminating ones too.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub(crate) set: Arc<ReplicaSet>,
    pub(crate) pods: Vec<Arc<Pod>>,
}

/// What to do: pods first, then the status.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// How many pods to make.
    pub(crate) create: usize,
    /// Pods to delete, the least useful first.
    pub(crate) delete: Vec<Arc<Pod>>,
    /// What to say, all having gone well; [`failed`] otherwise.
    pub(crate) status: ReplicaSetStatus,
    /// When to look again even if nothing changes.
    pub(crate) wake_at: Option<Timestamp>,
}

/// `spec.replicas`.
pub(crate) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn min_ready_seconds(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

/// What to do for a set, given what there is.
pub(crate) fn step(observed: &Observed, now: Timestamp) -> Step {
    let set = &*observed.set;
    let mut pods: Vec<Arc<Pod>> = observed.pods.iter().filter(|pod| active(pod)).cloned().collect();
    let status = count(set, &observed.pods, now);
    let min_ready = min_ready_seconds(set);
    let wake_at = pods.iter().filter_map(|pod| available_at(pod, min_ready)).filter(|at| *at > now).min();
    let wanted = usize::try_from(replicas(set)).unwrap_or(0);
    let (mut create, mut delete) = (0, Vec::new());
    if set.metadata.deletion_timestamp.is_none() {
        create = wanted.saturating_sub(pods.len()).min(BURST_LIMIT);
        let too_many = pods.len().saturating_sub(wanted).min(BURST_LIMIT);
        if too_many > 0 {
            pods.sort_by_cached_key(|pod| first_to_go(pod, now));
            pods.truncate(too_many);
            delete = pods;
        }
    }
    Step { create, delete, status, wake_at }
}

/// A pod of the set's template.
pub(crate) fn new_pod(set: &ReplicaSet) -> Pod {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    from_template(&template, &set.metadata, owner_ref(set))
}

/// Zero is left out, as Go leaves it out.
pub(crate) fn unless_zero(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count != 0)
}

fn count(set: &ReplicaSet, pods: &[Arc<Pod>], now: Timestamp) -> ReplicaSetStatus {
    let labels = set.spec.as_ref().and_then(|spec| spec.template.as_ref()).and_then(|template| template.metadata.as_ref()).and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    let min_ready = min_ready_seconds(set);
    let (mut all, mut labelled, mut ready, mut available, mut leaving) = (0, 0, 0, 0, 0);
    for pod in pods {
        if !active(pod) {
            leaving += i32::from(terminating(pod) && !ended(pod));
            continue;
        }
        all += 1;
        labelled += i32::from(mainstay_client::selector::has_labels(&labels, pod.metadata.labels.as_ref()));
        ready += i32::from(is_ready(pod));
        available += i32::from(available_at(pod, min_ready).is_some_and(|at| at <= now));
    }
    let conditions = set.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let conditions: Vec<ReplicaSetCondition> = conditions.into_iter().filter(|condition| condition.type_ != REPLICA_FAILURE).collect();
    ReplicaSetStatus {
        replicas: all,
        fully_labeled_replicas: unless_zero(labelled),
        ready_replicas: unless_zero(ready),
        available_replicas: unless_zero(available),
        terminating_replicas: Some(leaving),
        observed_generation: set.metadata.generation,
        conditions: Some(conditions).filter(|all| !all.is_empty()),
    }
}

/// The status after pods could not be made (`FailedCreate`) or deleted (`FailedDelete`): the first failure stays until all goes well.
pub(crate) fn failed(set: &ReplicaSet, status: &ReplicaSetStatus, reason: &str, message: &str, now: Timestamp) -> ReplicaSetStatus {
    let known = set.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten().find(|condition| condition.type_ == REPLICA_FAILURE);
    let new = || ReplicaSetCondition {
        type_: REPLICA_FAILURE.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(Time(Timestamp::from_second(now.as_second()).unwrap_or(now))),
    };
    let mut status = status.clone();
    status.conditions.get_or_insert_default().push(known.cloned().unwrap_or_else(new));
    status
}
