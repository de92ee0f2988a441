//! Observed → Step. Upstream: `syncDeployment` (pkg/controller/deployment/deployment_controller.go, 1.36). Pure: no clock, no request.

use super::limits::{Strategy, replicas, strategy};
use super::rollout::Sets;
use super::sets::{self, Member, REVISION};
use super::status::{self, Conditions, PROGRESSING};
use crate::owners::uid_of;
use crate::pods::ended;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;

/// What there is: the deployment, its ReplicaSets, and under Recreate their pods.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) sets: Vec<Arc<ReplicaSet>>,
    pub(crate) pods: Vec<Arc<Pod>>,
    /// `status.collisionCount`, or more while names collide.
    pub(crate) collision_count: Option<i32>,
}

/// What to do: the sets one after the other, then the status, then sets that nothing needs any more.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Sets to make or to change.
    pub(crate) sets: Vec<Member>,
    pub(crate) status: DeploymentStatus,
    /// The deployment's annotation of its revision, if it is to be another.
    pub(crate) revision: Option<String>,
    /// To be deleted.
    pub(crate) cleanup: Vec<Arc<ReplicaSet>>,
    /// When to look again even if nothing changes.
    pub(crate) wake_at: Option<Timestamp>,
}

/// What to do for a deployment, given what there is.
pub(crate) fn step(observed: &Observed, now: Timestamp) -> Step {
    let deployment = &*observed.deployment;
    let members: Vec<Member> = observed.sets.iter().cloned().map(Member::new).collect();
    let newest = sets::newest(deployment, &members);
    let mut walk = Walk {
        sets: Sets { deployment, members, newest },
        conditions: Conditions::of(deployment, now),
        cleanup: Vec::new(),
        revision: None,
        observed,
    };
    if deployment.metadata.deletion_timestamp.is_some() {
        walk.number();
        return walk.finish(false, now);
    }
    status::note_pause(deployment, &mut walk.conditions);
    walk.number();
    if status::paused(deployment) {
        walk.sets.keep_proportions();
        walk.clean_up();
        return walk.finish(false, now);
    }
    if walk.wish_changed() {
        walk.sets.keep_proportions();
        return walk.finish(false, now);
    }
    match strategy(deployment) {
        Strategy::Recreate => walk.recreate(),
        Strategy::RollingUpdate => walk.roll(),
    }
    walk.finish(true, now)
}

struct Walk<'a> {
    sets: Sets<'a>,
    conditions: Conditions,
    cleanup: Vec<Arc<ReplicaSet>>,
    revision: Option<String>,
    observed: &'a Observed,
}

impl Walk<'_> {
    fn next_number(&self) -> i64 {
        self.sets.old().map(|i| self.sets.members[i].revision()).max().unwrap_or(0) + 1
    }

    /// The newest set has the highest number, and the deployment has it too.
    fn number(&mut self) {
        let number = self.next_number();
        let Some(newest) = self.sets.newest else { return };
        let member = &mut self.sets.members[newest];
        member.follow(self.sets.deployment, number);
        self.revision = member.annotations.get(REVISION).cloned();
        if status::deadline(self.sets.deployment).is_some() && self.conditions.get(PROGRESSING).is_none() {
            let words = format!("Found new replica set {:?}", self.sets.members[newest].name());
            self.conditions.set(PROGRESSING, "True", "FoundNewReplicaSet", words);
        }
    }

    /// A set of the deployment's template, if there is none.
    fn create(&mut self) {
        if self.sets.newest.is_some() {
            return;
        }
        let deployment = self.sets.deployment;
        let number = self.next_number();
        self.sets.members.push(sets::create(deployment, self.observed.collision_count));
        let newest = self.sets.members.len() - 1;
        self.sets.newest = Some(newest);
        let size = self.sets.newest_size();
        let member = &mut self.sets.members[newest];
        member.follow(deployment, number);
        member.scale(deployment, size);
        self.revision = Some(number.to_string());
        if status::deadline(deployment).is_some() {
            let words = format!("Created new replica set {:?}", member.name());
            self.conditions.set(PROGRESSING, "True", "NewReplicaSetCreated", words);
        }
    }

    /// Some set was last scaled for another wish.
    fn wish_changed(&self) -> bool {
        let wish = i64::from(replicas(self.sets.deployment));
        let active = self.sets.members.iter().filter(|member| member.replicas > 0);
        active.filter_map(Member::desired).any(|desired| desired != wish)
    }

    fn roll(&mut self) {
        self.create();
        if self.sets.grow_newest() || self.sets.shrink_old() {
            return;
        }
        self.clean_up_if_complete();
    }

    fn recreate(&mut self) {
        if self.sets.empty_old() || self.old_pods_run() {
            return;
        }
        self.create();
        self.sets.grow_newest();
        self.clean_up_if_complete();
    }

    fn old_pods_run(&self) -> bool {
        let newest = self.sets.newest.map(|newest| uid_of(&self.sets.members[newest].set.metadata));
        let of_newest = |pod: &Pod| crate::owners::controller_of(&pod.metadata).is_some_and(|owner| Some(owner.uid.as_str()) == newest);
        self.sets.old().any(|i| self.sets.members[i].actual() > 0) || self.observed.pods.iter().any(|pod| !of_newest(pod) && !ended(pod))
    }

    fn clean_up_if_complete(&mut self) {
        let stored = self.sets.deployment.status.clone().unwrap_or_default();
        if status::complete(self.sets.deployment, &stored) {
            self.clean_up();
        }
    }

    /// Old sets beyond `revisionHistoryLimit`, the oldest first, unless they still have pods.
    fn clean_up(&mut self) {
        let limit = self.sets.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit);
        let Some(limit) = limit.filter(|limit| *limit != i32::MAX).and_then(|limit| usize::try_from(limit).ok()) else { return };
        let members = &self.sets.members;
        let mut old: Vec<&Member> = self.sets.old().map(|i| &members[i]).filter(|member| member.set.metadata.deletion_timestamp.is_none()).collect();
        let excess = old.len().saturating_sub(limit);
        old.sort_by_key(|member| (member.revision(), member.age()));
        let empty = |member: &&&Member| {
            let observed = member.set.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
            member.actual() == 0 && member.replicas == 0 && member.size_before() == 0 && member.set.metadata.generation.unwrap_or(0) <= observed
        };
        self.cleanup = old.iter().take(excess).filter(empty).map(|member| member.set.clone()).collect();
    }

    fn finish(self, rolling: bool, now: Timestamp) -> Step {
        let Walk { sets, conditions: before, cleanup, revision, observed } = self;
        let deployment = sets.deployment;
        let (counted, mut conditions) = status::count(&sets, before.clone(), observed.collision_count);
        if rolling {
            status::progress(&sets, &counted, &mut conditions, &before, now);
        }
        let wake_at = if status::paused(deployment) { None } else { status::wake_at(deployment, &counted, &conditions) };
        let status = status::finish(counted, conditions);
        let had = deployment.metadata.annotations.as_ref().and_then(|all| all.get(REVISION));
        let revision = revision.filter(|revision| Some(revision) != had);
        let mut changed: Vec<Member> = sets.members.into_iter().filter(|member| member.new || member.changed()).collect();
        // A set that cannot be made must not cost the old ones a pod.
        changed.sort_by_key(|member| !member.new);
        Step { sets: changed, status, revision, cleanup, wake_at }
    }
}

/// The status after the new ReplicaSet could not be made.
pub(crate) fn creation_failed(deployment: &Deployment, message: &str, now: Timestamp) -> DeploymentStatus {
    let mut conditions = Conditions::of(deployment, now);
    if status::deadline(deployment).is_some() {
        conditions.set(PROGRESSING, "False", status::CREATE_FAILED, message.to_owned());
    }
    status::finish(deployment.status.clone().unwrap_or_default(), conditions)
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for member in &self.sets {
            let (name, from, to) = (member.name(), member.size_before(), member.replicas);
            match (member.new, from == to) {
                (true, _) => writeln!(f, "create {name} with {to} at {}", member.revision())?,
                (false, false) => writeln!(f, "scale {name} from {from} to {to}")?,
                (false, true) => writeln!(f, "annotate {name}, revision {}", member.revision())?,
            }
        }
        for set in &self.cleanup {
            writeln!(f, "delete {}", crate::owners::name_of(&set.metadata))?;
        }
        Ok(())
    }
}
