//! Carries a step out: adoption, pods, the status.

use super::step::{Observed, Step, failed, new_pod, step};
use crate::failure::Failure;
use crate::owners::{Belongs, belongs, confirm, owners_patch, patch_if_there, with, without};
use crate::patch::status_patch;
use crate::pods::PodControl;
use crate::runner::{Name, OwnWrites};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use mainstay_client::{Cache, Cluster, reference, selector};
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Carrier {
    cluster: Cluster,
    sets: Cache<ReplicaSet>,
    pods: Cache<Pod>,
    control: PodControl,
    written_sets: OwnWrites,
    written_pods: OwnWrites,
}

impl Carrier {
    pub(crate) fn new(cluster: Cluster, sets: Cache<ReplicaSet>, pods: Cache<Pod>) -> Self {
        let control = PodControl::new(cluster.clone());
        Self { cluster, sets, pods, control, written_sets: OwnWrites::default(), written_pods: OwnWrites::default() }
    }

    /// Looks at one set and does what its step says. Answers when to look again.
    pub(crate) async fn sync(&self, name: &Name) -> Result<Option<Duration>, Failure> {
        self.catch_up(name).await?;
        let Some(set) = self.sets.get(&name.namespace, &name.name) else {
            self.written_sets.forget(name);
            self.written_pods.forget(name);
            return Ok(None);
        };
        let mut observed = self.observe(&set);
        if self.claim(name, &set).await? {
            self.catch_up(name).await?;
            observed = self.observe(&set);
        }
        let now = Timestamp::now();
        let decided = step(&observed, now);
        let outcome = self.carry_out(name, &set, &decided).await;
        let status = match &outcome {
            Ok(()) => decided.status.clone(),
            Err((reason, failure)) => failed(&set, &decided.status, reason, &words(failure), now),
        };
        self.write_status(name, &set, status).await?;
        outcome.map_err(|(_, failure)| failure)?;
        Ok(decided.wake_at.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default()))
    }

    async fn catch_up(&self, name: &Name) -> Result<(), Failure> {
        let seen = self.written_sets.seen(&self.sets, name).await && self.written_pods.seen(&self.pods, name).await;
        if seen { Ok(()) } else { Err(Failure::Behind) }
    }

    fn in_namespace(&self, set: &ReplicaSet) -> impl Iterator<Item = (Arc<Pod>, Belongs)> {
        let pods = self.pods.list_in(set.metadata.namespace.as_deref().unwrap_or_default());
        let matches = |pod: &Pod| set.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, pod.metadata.labels.as_ref()));
        pods.into_iter().map(move |pod| {
            let belongs = belongs(&set.metadata, &pod.metadata, matches(&pod));
            (pod, belongs)
        })
    }

    fn observe(&self, set: &Arc<ReplicaSet>) -> Observed {
        let pods = self.in_namespace(set).filter(|(_, belongs)| *belongs == Belongs::Yes).map(|(pod, _)| pod).collect();
        Observed { set: set.clone(), pods }
    }

    /// Adopts and releases. Whether anything was written.
    async fn claim(&self, name: &Name, set: &Arc<ReplicaSet>) -> Result<bool, Failure> {
        let changes: Vec<(Arc<Pod>, Belongs)> = self.in_namespace(set).filter(|(_, belongs)| matches!(belongs, Belongs::Adopt | Belongs::Release)).collect();
        if changes.iter().any(|(_, belongs)| *belongs == Belongs::Adopt) {
            confirm(&self.cluster, &**set).await?;
        }
        for (pod, belongs) in &changes {
            let owners = if *belongs == Belongs::Adopt { with(&pod.metadata, &**set) } else { without(&pod.metadata, &set.metadata) };
            if let Some(written) = patch_if_there::<Pod>(&self.cluster, &pod.metadata, &owners_patch(&pod.metadata, &owners)).await? {
                self.written_pods.note(name, &written.metadata);
            }
        }
        Ok(!changes.is_empty())
    }

    async fn carry_out(&self, name: &Name, set: &ReplicaSet, step: &Step) -> Result<(), (&'static str, Failure)> {
        let owner = reference(set);
        if step.create > 0 {
            let pods = vec![new_pod(set); step.create];
            let (_, outcome) = self.control.create_slowly(&owner, &pods, name, &self.written_pods).await;
            outcome.map_err(|error| ("FailedCreate", Failure::Api(error)))?;
        }
        self.control.delete_all(&owner, &step.delete, name, &self.written_pods).await.map_err(|error| ("FailedDelete", Failure::Api(error)))
    }

    async fn write_status(&self, name: &Name, set: &ReplicaSet, status: ReplicaSetStatus) -> Result<(), Failure> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let new = ReplicaSet { status: Some(status), ..set.clone() };
        let Some(patch) = status_patch(set, &new) else { return Ok(()) };
        match self.cluster.merge_patch::<ReplicaSet>(&name.namespace, &name.name, Some("status"), &patch).await {
            Ok(written) => self.written_sets.note(name, &written.metadata),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// The server's own words, for the condition's message.
fn words(failure: &Failure) -> String {
    match failure {
        Failure::Api(error) => error.message(),
        other => other.to_string(),
    }
}
