//! ReplicaSets: so many pods of one template.
//!
//! Promises: never more pods are made than are missing in what the set's own writes have left; orphans that match are adopted first; the least useful
//! pods go first. Inputs: sets, pods. Outputs: pods, the set's status, events on the set.
//!
//! * `step`: the algorithm and the counts; `carry`: its writes.

mod carry;
mod step;
#[cfg(test)]
mod tests;

use crate::owners::{controller_of, manager};
use crate::queue::Queue;
use crate::runner::{Group, Name, feed, work};
pub(crate) use step::{REPLICA_FAILURE, unless_zero};

use carry::Carrier;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use mainstay_client::{Cache, Cluster, Delta, selector};
use std::sync::Arc;

/// Sets worked on at a time.
const WORKERS: usize = 8;

/// Runs the controller until the future is dropped.
pub async fn run(cluster: Cluster) {
    let cluster = cluster.named("replicaset-controller");
    let (sets, pods) = (cluster.replica_sets(), cluster.pods());
    let queue: Arc<Queue<Name>> = Arc::new(Queue::new());
    sets.synced().await;
    pods.synced().await;
    let mut group = Group::default();
    group.spawn(feed(sets.clone(), queue.clone(), |change: &Delta<ReplicaSet>, add: &mut dyn FnMut(Name)| {
        change.newest().into_iter().for_each(|set| add(Name::of(&**set)));
    }));
    let known = sets.clone();
    group.spawn(feed(pods.clone(), queue.clone(), move |change: &Delta<Pod>, add: &mut dyn FnMut(Name)| {
        for pod in [&change.old, &change.new].into_iter().flatten() {
            sets_of_pod(&known, pod, add);
        }
    }));
    let carrier = Arc::new(Carrier::new(cluster, sets, pods));
    group.spawn(work("replicaset", WORKERS, queue, move |name| {
        let carrier = carrier.clone();
        async move { carrier.sync(&name).await }
    }));
    group.wait().await;
}

/// The set that manages a pod, or for an orphan every set that could adopt it.
fn sets_of_pod(sets: &Cache<ReplicaSet>, pod: &Pod, add: &mut dyn FnMut(Name)) {
    if controller_of(&pod.metadata).is_some() {
        manager::<ReplicaSet>(&pod.metadata).into_iter().for_each(add);
        return;
    }
    for set in sets.list_in(pod.metadata.namespace.as_deref().unwrap_or_default()) {
        if set.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, pod.metadata.labels.as_ref())) {
            add(Name::of(&*set));
        }
    }
}
