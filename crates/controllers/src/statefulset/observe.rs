//! Caches → Observed: reads only.

use super::identity::{claim_name, claim_templates, controller_of, ordinal, replicas, start, uid_of};
use super::revision;
use crate::owners::{Belongs, belongs};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use mainstay_client::{Cache, selector};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What there is: the set, its pods, the claims of all its ordinals, its history. Shared with the caches; never changed.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub(crate) set: Arc<StatefulSet>,
    /// Sorted, the newest last.
    pub(crate) revisions: Vec<Arc<ControllerRevision>>,
    /// Those that belong to the set, whatever their ordinal.
    pub(crate) pods: Vec<Arc<Pod>>,
    /// By name.
    pub(crate) claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    /// `status.collisionCount`, or more while names collide.
    pub(crate) collision_count: i32,
}

/// A change of ownership.
#[derive(Debug, Clone)]
pub(crate) enum Claiming {
    /// An orphan that the selector matches.
    Adopt(Arc<Pod>),
    /// One of ours that the selector, or its name, no longer matches.
    Release(Arc<Pod>),
    /// An orphan of the history.
    AdoptRevision(Arc<ControllerRevision>),
}

/// The caches a StatefulSet is seen through.
#[derive(Clone)]
pub(crate) struct Caches {
    pub(crate) sets: Cache<StatefulSet>,
    pub(crate) pods: Cache<Pod>,
    pub(crate) claims: Cache<PersistentVolumeClaim>,
    pub(crate) revisions: Cache<ControllerRevision>,
}

impl Caches {
    /// Returns when the first lists are in.
    pub(crate) async fn synced(&self) {
        self.sets.synced().await;
        self.pods.synced().await;
        self.claims.synced().await;
        self.revisions.synced().await;
    }

    /// What there is for `set`, and whose ownership has to change before it may be acted on.
    pub(crate) fn observe(&self, set: Arc<StatefulSet>) -> (Observed, Vec<Claiming>) {
        let namespace = set.metadata.namespace.clone().unwrap_or_default();
        let uid = uid_of(&set.metadata).to_owned();
        let matches = |labels: Option<&selector::Labels>| set.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, labels));
        let (mut pods, mut claiming) = (Vec::new(), Vec::new());
        for pod in self.pods.list_in(&namespace) {
            let ours = matches(pod.metadata.labels.as_ref()) && ordinal(&set, &pod).is_some();
            match belongs(&set.metadata, &pod.metadata, ours) {
                Belongs::Yes => pods.push(pod),
                Belongs::No => {}
                Belongs::Adopt => claiming.push(Claiming::Adopt(pod)),
                Belongs::Release => claiming.push(Claiming::Release(pod)),
            }
        }
        let mut revisions = Vec::new();
        for revision in self.revisions.list_in(&namespace) {
            match controller_of(&revision.metadata) {
                Some(owner) if owner.uid == uid => revisions.push(revision),
                None if matches(revision.metadata.labels.as_ref()) => {
                    if set.metadata.deletion_timestamp.is_none() {
                        claiming.push(Claiming::AdoptRevision(revision.clone()));
                    }
                    revisions.push(revision);
                }
                _ => {}
            }
        }
        revision::sort(&mut revisions);
        let claims = self.claims_of(&set, &namespace, &pods);
        let collision_count = set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
        (Observed { set, revisions, pods, claims, collision_count }, claiming)
    }

    fn claims_of(&self, set: &StatefulSet, namespace: &str, pods: &[Arc<Pod>]) -> BTreeMap<String, Arc<PersistentVolumeClaim>> {
        let templates = claim_templates(set);
        if templates.is_empty() {
            return BTreeMap::new();
        }
        let first = start(set);
        let mut ordinals: BTreeSet<i32> = (0..replicas(set)).map(|index| first.saturating_add(index)).collect();
        ordinals.extend(pods.iter().filter_map(|pod| ordinal(set, pod)));
        let names = ordinals.iter().flat_map(|ordinal| templates.iter().map(|template| claim_name(set, template, *ordinal)));
        names.filter_map(|name| self.claims.get(namespace, &name).map(|claim| (name, claim))).collect()
    }
}
