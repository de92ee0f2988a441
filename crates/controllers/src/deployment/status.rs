//! Counts, conditions and progress. Upstream: `calculateStatus` (sync.go) and `syncRolloutStatus` (progress.go).

use super::limits::{max_unavailable, replicas};
use super::rollout::Sets;
use super::sets::Member;
use crate::owners::name_of;
use crate::replicaset::{REPLICA_FAILURE, unless_zero};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(crate) const PROGRESSING: &str = "Progressing";
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
pub(crate) const CREATE_FAILED: &str = "ReplicaSetCreateError";

/// Conditions while a step decides.
#[derive(Debug, Clone)]
pub(crate) struct Conditions {
    all: Vec<DeploymentCondition>,
    now: Timestamp,
}

impl Conditions {
    pub(crate) fn of(deployment: &Deployment, now: Timestamp) -> Self {
        let all = deployment.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        Self { all, now: Timestamp::from_second(now.as_second()).unwrap_or(now) }
    }

    pub(crate) fn get(&self, kind: &str) -> Option<&DeploymentCondition> {
        self.all.iter().find(|condition| condition.type_ == kind)
    }

    pub(crate) fn reason(&self, kind: &str) -> Option<&str> {
        self.get(kind)?.reason.as_deref()
    }

    pub(crate) fn remove(&mut self, kind: &str) {
        self.all.retain(|condition| condition.type_ != kind);
    }

    /// Nothing changes while status and reason stay; the time of transition stays while the status does.
    pub(crate) fn set(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        let now = Some(Time(self.now));
        let new = DeploymentCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_update_time: now.clone(),
            last_transition_time: now,
        };
        self.put(new);
    }

    fn put(&mut self, mut new: DeploymentCondition) {
        if let Some(known) = self.get(&new.type_) {
            if known.status == new.status && known.reason == new.reason {
                return;
            }
            if known.status == new.status {
                new.last_transition_time.clone_from(&known.last_transition_time);
            }
        }
        self.remove(&new.type_.clone());
        self.all.push(new);
    }

    /// Even if nothing but its time changes.
    fn renew(&mut self, status: &str, reason: &str, message: String) {
        let transition = self.get(PROGRESSING).filter(|known| known.status == status).and_then(|known| known.last_transition_time.clone());
        self.remove(PROGRESSING);
        self.set(PROGRESSING, status, reason, message);
        if let (Some(transition), Some(new)) = (transition, self.all.last_mut()) {
            new.last_transition_time = Some(transition);
        }
    }
}

/// `spec.progressDeadlineSeconds`, unless it means never.
pub(crate) fn deadline(deployment: &Deployment) -> Option<i32> {
    deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds).filter(|seconds| *seconds != i32::MAX)
}

/// `spec.paused`.
pub(crate) fn paused(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true)
}

/// Condition Progressing says so when a rollout rests, and when it goes on: the time in between does not count against its deadline.
pub(crate) fn note_pause(deployment: &Deployment, conditions: &mut Conditions) {
    if deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds).is_none() || conditions.reason(PROGRESSING) == Some(TIMED_OUT) {
        return;
    }
    let noted = conditions.reason(PROGRESSING) == Some("DeploymentPaused");
    match (paused(deployment), noted) {
        (true, false) => conditions.set(PROGRESSING, "Unknown", "DeploymentPaused", "Deployment is paused".to_owned()),
        (false, true) => conditions.set(PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed".to_owned()),
        _ => {}
    }
}

/// Counts and condition Available.
pub(crate) fn count(sets: &Sets<'_>, mut conditions: Conditions, collision_count: Option<i32>) -> (DeploymentStatus, Conditions) {
    let (deployment, members) = (sets.deployment, &sets.members);
    let sum = |of: fn(&Member) -> i32| members.iter().map(of).sum::<i32>();
    let available = sum(Member::available);
    let unavailable = (sets.total() - available).max(0);
    if available >= replicas(deployment) - max_unavailable(deployment) {
        conditions.set("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.".to_owned());
    } else {
        conditions.set("Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.".to_owned());
    }
    let terminating: Option<Vec<i32>> = members.iter().map(Member::terminating).collect();
    let status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: unless_zero(sum(Member::actual)),
        updated_replicas: unless_zero(sets.newest.map_or(0, |newest| members[newest].actual())),
        ready_replicas: unless_zero(sum(Member::ready)),
        available_replicas: unless_zero(available),
        unavailable_replicas: unless_zero(unavailable),
        terminating_replicas: terminating.map(|all| all.iter().sum()),
        collision_count,
        conditions: None,
    };
    (status, conditions)
}

fn number(count: Option<i32>) -> i32 {
    count.unwrap_or(0)
}

/// All pods are of the newest template and available.
pub(crate) fn complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wish = replicas(deployment);
    number(status.updated_replicas) == wish
        && number(status.replicas) == wish
        && number(status.available_replicas) == wish
        && status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
}

/// More new pods, fewer old ones, more ready, more available: any of them is progress.
fn progressing(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let outdated = |status: &DeploymentStatus| number(status.replicas) - number(status.updated_replicas);
    number(new.updated_replicas) > number(old.updated_replicas)
        || outdated(new) < outdated(old)
        || number(new.ready_replicas) > number(old.ready_replicas)
        || number(new.available_replicas) > number(old.available_replicas)
}

fn deadline_at(deployment: &Deployment, conditions: &Conditions) -> Option<Timestamp> {
    let since = conditions.get(PROGRESSING)?.last_update_time.as_ref()?.0;
    since.checked_add(SignedDuration::from_secs(i64::from(deadline(deployment)?))).ok()
}

/// Condition Progressing, and ReplicaFailure as the sets have it.
pub(crate) fn progress(sets: &Sets<'_>, status: &DeploymentStatus, conditions: &mut Conditions, before: &Conditions, now: Timestamp) {
    let deployment = sets.deployment;
    let stored = deployment.status.clone().unwrap_or_default();
    let subject = || match sets.newest {
        Some(newest) => format!("ReplicaSet {:?}", sets.members[newest].name()),
        None => format!("Deployment {:?}", name_of(&deployment.metadata)),
    };
    let at_rest = status.replicas == status.updated_replicas && before.reason(PROGRESSING) == Some(COMPLETE);
    if deadline(deployment).is_none() {
        conditions.remove(PROGRESSING);
    } else if !at_rest {
        let timed_out = || match conditions.reason(PROGRESSING) {
            None | Some(COMPLETE) => false,
            Some(TIMED_OUT) => true,
            Some(_) => deadline_at(deployment, conditions).is_some_and(|at| at < now),
        };
        if complete(deployment, status) {
            conditions.set(PROGRESSING, "True", COMPLETE, format!("{} has successfully progressed.", subject()));
        } else if progressing(&stored, status) {
            conditions.renew("True", "ReplicaSetUpdated", format!("{} is progressing.", subject()));
        } else if timed_out() {
            conditions.set(PROGRESSING, "False", TIMED_OUT, format!("{} has timed out progressing.", subject()));
        }
    }
    match replica_failure(sets) {
        Some(failure) => conditions.put(failure),
        None => conditions.remove(REPLICA_FAILURE),
    }
}

fn replica_failure(sets: &Sets<'_>) -> Option<DeploymentCondition> {
    let of = |member: &Member| member.set.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == REPLICA_FAILURE).cloned();
    let newest = sets.newest.and_then(|newest| of(&sets.members[newest]));
    let found = newest.or_else(|| sets.members.iter().find_map(of))?;
    Some(DeploymentCondition {
        type_: found.type_,
        status: found.status,
        reason: found.reason,
        message: found.message,
        last_update_time: found.last_transition_time.clone(),
        last_transition_time: found.last_transition_time,
    })
}

/// When a rollout that makes no progress will have failed.
pub(crate) fn wake_at(deployment: &Deployment, status: &DeploymentStatus, conditions: &Conditions) -> Option<Timestamp> {
    if complete(deployment, status) || matches!(conditions.reason(PROGRESSING), None | Some(TIMED_OUT | COMPLETE)) {
        return None;
    }
    deadline_at(deployment, conditions)?.checked_add(SignedDuration::from_secs(1)).ok()
}

/// Puts both together.
pub(crate) fn finish(mut status: DeploymentStatus, conditions: Conditions) -> DeploymentStatus {
    status.conditions = Some(conditions.all).filter(|all| !all.is_empty());
    status
}
