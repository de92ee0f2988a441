//! Carries a step out: requests, events, and what must be seen again before the next step.

use super::identity::name_of;
use super::observe::{Caches, Claiming, Observed};
use super::status::{differs, patch};
use super::step::{Owners, Step, Write, corrected, delete_options, step};
use crate::owners::{confirm, owner_values, owners_patch, patch_if_there, with, without};
use crate::runner::{Name, OwnWrites};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use mainstay_client::{Cluster, Error, Recorder, Resource, Severity, reference};
use serde_json::json;
use std::time::Duration;

/// Names tried for one revision before giving up until the next attempt.
const COLLISIONS_LIMIT: i32 = 8;

/// Why a set was left half way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The API said no.
    #[error(transparent)]
    Api(#[from] Error),
    /// A pod cannot be made now.
    #[error("pod {pod}: {error}")]
    Refused { pod: String, error: String },
    /// The watch is behind; nothing was done.
    #[error("the caches have not yet seen what was written last")]
    Behind,
    /// Nothing may be adopted.
    #[error(transparent)]
    Owner(#[from] crate::owners::Failure),
    /// Too many revisions of the same hash.
    #[error("no free name for a revision of StatefulSet {name}")]
    Collisions { name: Name },
}

/// What was written for each set, by the cache that will show it.
#[derive(Default)]
struct Written {
    sets: OwnWrites,
    pods: OwnWrites,
    claims: OwnWrites,
    revisions: OwnWrites,
}

pub(crate) struct Carrier {
    cluster: Cluster,
    caches: Caches,
    recorder: Recorder,
    written: Written,
}

impl Carrier {
    pub(crate) fn new(cluster: Cluster, caches: Caches) -> Self {
        let recorder = cluster.recorder();
        Self { cluster, caches, recorder, written: Written::default() }
    }

    /// Looks at one set and does what its step says. Answers when to look again.
    pub(crate) async fn sync(&self, name: &Name) -> Result<Option<Duration>, Failure> {
        self.catch_up(name).await?;
        let Some(set) = self.caches.sets.get(&name.namespace, &name.name) else {
            for own in [&self.written.sets, &self.written.pods, &self.written.claims, &self.written.revisions] {
                own.forget(name);
            }
            return Ok(None);
        };
        let (mut observed, claiming) = self.caches.observe(set.clone());
        if !claiming.is_empty() {
            self.claim(name, &set, claiming).await?;
            self.catch_up(name).await?;
            observed = self.caches.observe(set).0;
        }
        loop {
            let now = Timestamp::now();
            let decided = step(&observed, now);
            if let Some(waits) = &decided.waits {
                tracing::debug!(set = %name, waits, "waits");
            }
            let outcome = self.carry_out(name, &observed, &decided).await;
            if matches!(&outcome, Err(Failure::Collisions { .. })) && observed.collision_count < COLLISIONS_LIMIT + collisions(&observed.set) {
                observed.collision_count += 1;
                continue;
            }
            let written = self.write_status(name, &observed.set, &decided).await;
            let cleaned = self.clean_up(&decided).await;
            outcome?;
            written?;
            cleaned?;
            let until = decided.wake_at.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
            return Ok(until);
        }
    }

    async fn catch_up(&self, name: &Name) -> Result<(), Failure> {
        let seen = self.written.sets.seen(&self.caches.sets, name).await
            && self.written.pods.seen(&self.caches.pods, name).await
            && self.written.claims.seen(&self.caches.claims, name).await
            && self.written.revisions.seen(&self.caches.revisions, name).await;
        if seen { Ok(()) } else { Err(Failure::Behind) }
    }

    async fn carry_out(&self, name: &Name, observed: &Observed, step: &Step) -> Result<(), Failure> {
        for batch in &step.batches {
            // All of a batch are tried, then the first failure counts.
            let outcomes = join_all(batch.iter().map(|write| self.write(name, observed, write))).await;
            outcomes.into_iter().collect::<Result<Vec<()>, Failure>>()?;
        }
        Ok(())
    }

    async fn write(&self, name: &Name, observed: &Observed, write: &Write) -> Result<(), Failure> {
        let set = &*observed.set;
        match write {
            Write::CreateRevision(revision) => self.create_revision(name, revision).await,
            Write::Renumber(revision, number) => {
                let patch = json!({ "revision": number, "metadata": { "resourceVersion": revision.metadata.resource_version } });
                let written: ControllerRevision = self.cluster.merge_patch(&name.namespace, name_of(&revision.metadata), None, &patch).await?;
                self.written.revisions.note(name, &written.metadata);
                Ok(())
            }
            Write::CreatePod { pod, claims, owners } => self.create_pod(name, set, pod, claims, owners).await,
            Write::CreateClaims { pod, claims } => self.create_claims(name, set, name_of(&pod.metadata), claims).await,
            Write::Refuse { pod, error } => {
                self.pod_event(set, "Create", pod, Err(error));
                Err(Failure::Refused { pod: pod.clone(), error: error.clone() })
            }
            Write::CorrectPod { pod, ordinal } => {
                let outcome = self.cluster.merge_patch::<Pod>(&name.namespace, name_of(&pod.metadata), None, &corrected(observed, pod, *ordinal)).await;
                match &outcome {
                    Ok(_) => self.pod_event(set, "Update", name_of(&pod.metadata), Ok(())),
                    Err(error) => self.pod_event(set, "Update", name_of(&pod.metadata), Err(&error.message())),
                }
                self.written.pods.note(name, &outcome?.metadata);
                Ok(())
            }
            Write::DeletePod(pod) => self.delete_pod(name, set, pod).await,
            Write::SetOwners(owners) => self.set_owners(name, owners).await,
            Write::ForeignClaim(claim) => {
                let words = format!("PersistentVolumeClaim {claim} has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim");
                self.recorder.record(reference(set), Severity::Warning, "ConflictingController", words);
                Ok(())
            }
        }
    }

    /// An equal one of the same name is as good as a new one; another one of the same name is a collision.
    async fn create_revision(&self, name: &Name, revision: &ControllerRevision) -> Result<(), Failure> {
        let metadata = match self.cluster.create(revision).await {
            Ok(created) => created.metadata,
            Err(error) if error.is_already_exists() => {
                let live: ControllerRevision = self.cluster.get(&name.namespace, name_of(&revision.metadata)).await?;
                let data = |revision: &ControllerRevision| revision.data.as_ref().map(|data| data.0.clone());
                if !super::revision::same_data(data(&live).as_ref(), data(revision).as_ref()) {
                    return Err(Failure::Collisions { name: name.clone() });
                }
                live.metadata
            }
            Err(error) => return Err(error.into()),
        };
        self.written.revisions.note(name, &metadata);
        Ok(())
    }

    async fn create_claims(&self, name: &Name, set: &StatefulSet, pod: &str, claims: &[PersistentVolumeClaim]) -> Result<(), Failure> {
        let outcomes = join_all(claims.iter().map(|claim| self.create_claim(name, set, pod, claim))).await;
        outcomes.into_iter().collect()
    }

    async fn create_claim(&self, name: &Name, set: &StatefulSet, pod: &str, claim: &PersistentVolumeClaim) -> Result<(), Failure> {
        let (claim_name, set_name) = (name_of(&claim.metadata), name_of(&set.metadata));
        match self.cluster.create(claim).await {
            Ok(created) => {
                self.written.claims.note(name, &created.metadata);
                let words = format!("Create Claim {claim_name} Pod {pod} in StatefulSet {set_name} success");
                self.recorder.record(reference(set), Severity::Normal, "SuccessfulCreate", words);
                Ok(())
            }
            // The cache is about to show it.
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => {
                let words = format!("Create Claim {claim_name} for Pod {pod} in StatefulSet {set_name} failed error: {}", error.message());
                self.recorder.record(reference(set), Severity::Warning, "FailedCreate", words);
                Err(error.into())
            }
        }
    }

    async fn create_pod(&self, name: &Name, set: &StatefulSet, pod: &Pod, claims: &[PersistentVolumeClaim], owners: &[Owners]) -> Result<(), Failure> {
        let pod_name = name_of(&pod.metadata);
        if let Err(failure) = self.create_claims(name, set, pod_name, claims).await {
            self.pod_event(set, "Create", pod_name, Err(&failure.to_string()));
            return Err(failure);
        }
        match self.cluster.create(pod).await {
            Ok(created) => self.written.pods.note(name, &created.metadata),
            Err(error) => {
                if !error.is_already_exists() {
                    self.pod_event(set, "Create", pod_name, Err(&error.message()));
                }
                return Err(error.into());
            }
        }
        for owners in owners {
            if let Err(failure) = self.set_owners(name, owners).await {
                self.pod_event(set, "Update", pod_name, Err(&failure.to_string()));
                return Err(failure);
            }
        }
        self.pod_event(set, "Create", pod_name, Ok(()));
        Ok(())
    }

    async fn delete_pod(&self, name: &Name, set: &StatefulSet, pod: &Pod) -> Result<(), Failure> {
        let pod_name = name_of(&pod.metadata);
        match self.cluster.delete_returning::<Pod>(&name.namespace, pod_name, &delete_options(pod)).await {
            Ok(left) => {
                self.written.pods.note_revision(name, left.as_deref());
                self.pod_event(set, "Delete", pod_name, Ok(()));
                Ok(())
            }
            // Gone, or already another of the same name: what was wanted.
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => {
                self.pod_event(set, "Delete", pod_name, Err(&error.message()));
                Err(error.into())
            }
        }
    }

    async fn set_owners(&self, name: &Name, owners: &Owners) -> Result<(), Failure> {
        let metadata = &owners.claim.metadata;
        let patch = json!({ "metadata": { "uid": metadata.uid, "resourceVersion": metadata.resource_version, "ownerReferences": owner_values(&owners.owners) } });
        match self.cluster.merge_patch::<PersistentVolumeClaim>(&name.namespace, name_of(metadata), None, &patch).await {
            Ok(written) => self.written.claims.note(name, &written.metadata),
            // A claim that is gone has no owner to care for.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// "Create Pod web-0 in StatefulSet web successful": upstream's words since 1.35.
    fn pod_event(&self, set: &StatefulSet, verb: &str, pod: &str, outcome: Result<(), &str>) {
        let set_name = name_of(&set.metadata);
        let (severity, reason, words) = match outcome {
            Ok(()) => (Severity::Normal, format!("Successful{verb}"), format!("{verb} Pod {pod} in StatefulSet {set_name} successful")),
            Err(error) => (Severity::Warning, format!("Failed{verb}"), format!("{verb} Pod {pod} in StatefulSet {set_name} failed error: {error}")),
        };
        self.recorder.record(reference(set), severity, &reason, words);
    }

    async fn write_status(&self, name: &Name, set: &StatefulSet, step: &Step) -> Result<(), Failure> {
        if !differs(set.status.as_ref(), &step.status) {
            return Ok(());
        }
        let mut patch = patch(&step.status);
        // Never the status of an earlier set of this name.
        patch["metadata"] = json!({ "uid": set.metadata.uid });
        match self.cluster.merge_patch::<StatefulSet>(&name.namespace, &name.name, Some("status"), &patch).await {
            Ok(written) => self.written.sets.note(name, &written.metadata),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn clean_up(&self, step: &Step) -> Result<(), Failure> {
        for revision in &step.cleanup {
            let metadata = &revision.metadata;
            let options = json!({ "preconditions": { "uid": metadata.uid } });
            match self.cluster.delete::<ControllerRevision>(metadata.namespace.as_deref().unwrap_or_default(), name_of(metadata), &options).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Adopts and releases.
    async fn claim(&self, name: &Name, set: &StatefulSet, claiming: Vec<Claiming>) -> Result<(), Failure> {
        let mut confirmed = false;
        for one in claiming {
            if !matches!(one, Claiming::Release(_)) && !confirmed {
                confirm(&self.cluster, set).await?;
                confirmed = true;
            }
            match one {
                Claiming::Adopt(pod) => {
                    if let Some(written) = self.own::<Pod>(&pod.metadata, with(&pod.metadata, set)).await? {
                        self.written.pods.note(name, &written.metadata);
                    }
                }
                Claiming::Release(pod) => {
                    if let Some(written) = self.own::<Pod>(&pod.metadata, without(&pod.metadata, &set.metadata)).await? {
                        self.written.pods.note(name, &written.metadata);
                    }
                }
                Claiming::AdoptRevision(revision) => {
                    if let Some(written) = self.own::<ControllerRevision>(&revision.metadata, with(&revision.metadata, set)).await? {
                        self.written.revisions.note(name, &written.metadata);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Carrier {
    /// `None` when the object went away meanwhile.
    async fn own<K: Resource>(&self, metadata: &ObjectMeta, owners: Vec<OwnerReference>) -> Result<Option<K>, Error> {
        patch_if_there(&self.cluster, metadata, &owners_patch(metadata, &owners)).await
    }
}

fn collisions(set: &StatefulSet) -> i32 {
    set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0)
}
