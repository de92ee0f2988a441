//! Carries a step out: adoption, ReplicaSets, the status, history.

use super::limits::{Strategy, strategy};
use super::sets::{Member, REVISION, is_same};
use super::status::CREATE_FAILED;
use super::step::{Observed, Step, creation_failed, step};
use crate::failure::Failure;
use crate::owners::{Belongs, belongs, confirm, name_of, owners_patch, patch_if_there, with, without};
use crate::patch::{difference, status_patch};
use crate::runner::{Name, OwnWrites};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use mainstay_client::{Cache, Cluster, Recorder, Resource, Severity, reference, selector};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Names tried for one ReplicaSet before giving up until the next attempt.
const COLLISIONS_LIMIT: i32 = 8;

pub(crate) struct Carrier {
    cluster: Cluster,
    deployments: Cache<Deployment>,
    sets: Cache<ReplicaSet>,
    pods: Cache<Pod>,
    recorder: Recorder,
    written_deployments: OwnWrites,
    written_sets: OwnWrites,
}

impl Carrier {
    pub(crate) fn new(cluster: Cluster, deployments: Cache<Deployment>, sets: Cache<ReplicaSet>, pods: Cache<Pod>) -> Self {
        let recorder = cluster.recorder();
        Self { cluster, deployments, sets, pods, recorder, written_deployments: OwnWrites::default(), written_sets: OwnWrites::default() }
    }

    /// Looks at one deployment and does what its step says. Answers when to look again.
    pub(crate) async fn sync(&self, name: &Name) -> Result<Option<Duration>, Failure> {
        self.catch_up(name).await?;
        let Some(deployment) = self.deployments.get(&name.namespace, &name.name) else {
            self.written_deployments.forget(name);
            self.written_sets.forget(name);
            return Ok(None);
        };
        if self.claim(name, &deployment).await? {
            self.catch_up(name).await?;
        }
        let mut observed = self.observe(&deployment);
        let first = observed.collision_count.unwrap_or(0);
        loop {
            let now = Timestamp::now();
            let decided = step(&observed, now);
            match self.carry_out(name, &deployment, &decided, now).await {
                Err(Failure::Collision { .. }) if observed.collision_count.unwrap_or(0) < first + COLLISIONS_LIMIT => {
                    observed.collision_count = Some(observed.collision_count.unwrap_or(0) + 1);
                    continue;
                }
                other => other?,
            }
            self.write_status(name, &deployment, decided.status.clone(), decided.revision.as_deref()).await?;
            self.clean_up(&decided).await?;
            return Ok(decided.wake_at.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default()));
        }
    }

    async fn catch_up(&self, name: &Name) -> Result<(), Failure> {
        let seen = self.written_deployments.seen(&self.deployments, name).await && self.written_sets.seen(&self.sets, name).await;
        if seen { Ok(()) } else { Err(Failure::Behind) }
    }

    fn in_namespace(&self, deployment: &Deployment) -> impl Iterator<Item = (Arc<ReplicaSet>, Belongs)> {
        let sets = self.sets.list_in(deployment.metadata.namespace.as_deref().unwrap_or_default());
        let matches = |set: &ReplicaSet| deployment.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, set.metadata.labels.as_ref()));
        sets.into_iter().map(move |set| {
            let belongs = belongs(&deployment.metadata, &set.metadata, matches(&set));
            (set, belongs)
        })
    }

    fn observe(&self, deployment: &Arc<Deployment>) -> Observed {
        let sets: Vec<Arc<ReplicaSet>> = self.in_namespace(deployment).filter(|(_, belongs)| *belongs == Belongs::Yes).map(|(set, _)| set).collect();
        let recreate = strategy(deployment) == Strategy::Recreate;
        let uids = sets.iter().filter(|_| recreate).filter_map(|set| set.metadata.uid.as_deref());
        let pods = uids.flat_map(|uid| self.pods.owned_by(uid)).collect();
        let collision_count = deployment.status.as_ref().and_then(|status| status.collision_count);
        Observed { deployment: deployment.clone(), sets, pods, collision_count }
    }

    /// Adopts and releases. Whether anything was written.
    async fn claim(&self, name: &Name, deployment: &Arc<Deployment>) -> Result<bool, Failure> {
        let changes: Vec<_> = self.in_namespace(deployment).filter(|(_, belongs)| matches!(belongs, Belongs::Adopt | Belongs::Release)).collect();
        if changes.iter().any(|(_, belongs)| *belongs == Belongs::Adopt) {
            confirm(&self.cluster, &**deployment).await?;
        }
        for (set, belongs) in &changes {
            let owners = if *belongs == Belongs::Adopt { with(&set.metadata, &**deployment) } else { without(&set.metadata, &deployment.metadata) };
            if let Some(written) = patch_if_there::<ReplicaSet>(&self.cluster, &set.metadata, &owners_patch(&set.metadata, &owners)).await? {
                self.written_sets.note(name, &written.metadata);
            }
        }
        Ok(!changes.is_empty())
    }

    async fn carry_out(&self, name: &Name, deployment: &Deployment, step: &Step, now: Timestamp) -> Result<(), Failure> {
        for member in &step.sets {
            if member.new {
                self.create(name, deployment, member, now).await?;
            } else {
                self.change(name, deployment, member).await?;
            }
        }
        Ok(())
    }

    /// An equal one of the same name is as good as a new one; another one of the same name is a collision.
    async fn create(&self, name: &Name, deployment: &Deployment, member: &Member, now: Timestamp) -> Result<(), Failure> {
        let mut set = (*member.set).clone();
        set.metadata.annotations = Some(member.annotations.clone());
        if let Some(spec) = &mut set.spec {
            spec.replicas = Some(member.replicas);
        }
        match self.cluster.create(&set).await {
            Ok(created) => {
                self.written_sets.note(name, &created.metadata);
                self.scaled(deployment, member);
                Ok(())
            }
            Err(error) if error.is_already_exists() => {
                let live: ReplicaSet = self.cluster.get(&name.namespace, member.name()).await?;
                if !is_same(deployment, &live) {
                    return Err(Failure::Collision { name: Name::of(&live) });
                }
                self.written_sets.note(name, &live.metadata);
                Ok(())
            }
            Err(error) => {
                let words = format!("Failed to create new replica set {:?}: {}", member.name(), error.message());
                self.recorder.record(reference(deployment), Severity::Warning, CREATE_FAILED, words.clone());
                self.write_status(name, deployment, creation_failed(deployment, &words, now), None).await?;
                Err(error.into())
            }
        }
    }

    async fn change(&self, name: &Name, deployment: &Deployment, member: &Member) -> Result<(), Failure> {
        let before = &member.set;
        let text = |all: Option<&std::collections::BTreeMap<String, String>>| json!(all.cloned().unwrap_or_default());
        let annotations = difference(&text(before.metadata.annotations.as_ref()), &text(Some(&member.annotations)));
        let mut patch = json!({ "metadata": { "uid": before.metadata.uid, "resourceVersion": before.metadata.resource_version } });
        if let Some(annotations) = annotations {
            patch["metadata"]["annotations"] = annotations;
        }
        patch["spec"] = json!({ "replicas": member.replicas, "minReadySeconds": member.min_ready_seconds });
        let written: ReplicaSet = self.cluster.merge_patch(&name.namespace, member.name(), None, &patch).await?;
        self.written_sets.note(name, &written.metadata);
        self.scaled(deployment, member);
        Ok(())
    }

    fn scaled(&self, deployment: &Deployment, member: &Member) {
        let (from, to) = (member.size_before(), member.replicas);
        if from != to {
            let direction = if to > from { "up" } else { "down" };
            let words = format!("Scaled {direction} replica set {} from {from} to {to}", member.name());
            self.recorder.record(reference(deployment), Severity::Normal, "ScalingReplicaSet", words);
        }
    }

    async fn write_status(&self, name: &Name, deployment: &Deployment, status: DeploymentStatus, revision: Option<&str>) -> Result<(), Failure> {
        if deployment.status.as_ref() == Some(&status) && revision.is_none() {
            return Ok(());
        }
        let new = Deployment { status: Some(status), ..deployment.clone() };
        let change = status_patch(deployment, &new);
        if change.is_none() && revision.is_none() {
            return Ok(());
        }
        let mut patch: Value = change.unwrap_or_else(|| json!({ "metadata": { "uid": deployment.metadata.uid } }));
        if let Some(revision) = revision {
            patch["metadata"]["annotations"] = json!({ (REVISION): revision });
        }
        match self.cluster.merge_patch::<Deployment>(&name.namespace, &name.name, Some("status"), &patch).await {
            Ok(written) => self.written_deployments.note(name, written.metadata()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn clean_up(&self, step: &Step) -> Result<(), Failure> {
        for set in &step.cleanup {
            let options = json!({ "preconditions": { "uid": set.metadata.uid, "resourceVersion": set.metadata.resource_version } });
            match self.cluster.delete::<ReplicaSet>(set.metadata.namespace.as_deref().unwrap_or_default(), name_of(&set.metadata), &options).await {
                Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}
