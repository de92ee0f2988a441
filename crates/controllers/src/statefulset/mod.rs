//! StatefulSets: each pod its stable name, its place in the order, its claims and its revision.
//!
//! Promises: at most one pod an ordinal (the API's unique names, see the node for processes); under OrderedReady a pod is created only when all before
//! it are available, and deleted only when all after it are gone; claims are created before their pod and never deleted by this controller.
//! Inputs: sets, pods, claims, revisions. Outputs: pods, claims, revisions, the set's status, events on the set.
//!
//! * `observe`: caches → [`observe::Observed`]; `step`: the algorithm; `carry`: its writes.
//! * `identity`, `revision`, `retention`, `status`: its rules.

mod carry;
mod identity;
mod observe;
mod retention;
mod revision;
mod status;
mod step;
#[cfg(test)]
mod tests;

use crate::queue::Queue;
use crate::runner::{Group, Name, feed, work};
use carry::Carrier;
use identity::{claim_templates, controller_of, name_of, parent_and_ordinal};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use mainstay_client::{Cache, Cluster, Delta, selector};
use observe::Caches;
use std::sync::Arc;

/// Sets worked on at a time. Upstream: `--concurrent-statefulset-syncs=5`.
const WORKERS: usize = 8;

/// Runs the controller until the future is dropped.
pub async fn run(cluster: Cluster) {
    let cluster = cluster.named("statefulset-controller");
    let caches = Caches {
        sets: cluster.stateful_sets(),
        pods: cluster.pods(),
        claims: cluster.persistent_volume_claims(),
        revisions: cluster.controller_revisions(),
    };
    let queue: Arc<Queue<Name>> = Arc::new(Queue::new());
    caches.synced().await;
    let mut group = Group::default();
    group.spawn(feed(caches.sets.clone(), queue.clone(), |change: &Delta<StatefulSet>, add: &mut dyn FnMut(Name)| {
        change.newest().into_iter().for_each(|set| add(Name::of(&**set)));
    }));
    let sets = caches.sets.clone();
    group.spawn(feed(caches.pods.clone(), queue.clone(), move |change: &Delta<Pod>, add: &mut dyn FnMut(Name)| {
        for pod in [&change.old, &change.new].into_iter().flatten() {
            sets_of_pod(&sets, pod, add);
        }
    }));
    let sets = caches.sets.clone();
    group.spawn(feed(caches.claims.clone(), queue.clone(), move |change: &Delta<PersistentVolumeClaim>, add: &mut dyn FnMut(Name)| {
        // Only a claim that went away, or was put there, can be what a set waits for.
        if change.old.is_none() != change.new.is_none() {
            change.newest().into_iter().for_each(|claim| sets_of_claim(&sets, claim, add));
        }
    }));
    let carrier = Arc::new(Carrier::new(cluster, caches));
    group.spawn(work("statefulset", WORKERS, queue, move |name| {
        let carrier = carrier.clone();
        async move { carrier.sync(&name).await }
    }));
    group.wait().await;
}

/// The set that manages a pod, or for an orphan every set that could adopt it.
fn sets_of_pod(sets: &Cache<StatefulSet>, pod: &Pod, add: &mut dyn FnMut(Name)) {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(owner) = controller_of(&pod.metadata) {
        if owner.kind == "StatefulSet" && owner.api_version.starts_with("apps/") {
            add(Name::new(namespace, &owner.name));
        }
        return;
    }
    let Some((parent, _)) = parent_and_ordinal(name_of(&pod.metadata)) else { return };
    if let Some(set) = sets.get(namespace, parent)
        && set.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, pod.metadata.labels.as_ref()))
    {
        add(Name::new(namespace, parent));
    }
}

/// The set for which a claim of this name is made.
fn sets_of_claim(sets: &Cache<StatefulSet>, claim: &PersistentVolumeClaim, add: &mut dyn FnMut(Name)) {
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let Some((stem, _)) = parent_and_ordinal(name_of(&claim.metadata)) else { return };
    for (split, _) in stem.match_indices('-') {
        let (template, set) = (&stem[..split], &stem[split + 1..]);
        if let Some(found) = sets.get(namespace, set)
            && claim_templates(&found).iter().any(|known| name_of(&known.metadata) == template)
        {
            add(Name::new(namespace, set));
        }
    }
}
