//! Deployments: one ReplicaSet a template; the newest grows as the older ones shrink.
//!
//! Promises: during a RollingUpdate never more than `maxSurge` pods too many are asked for and never more than `maxUnavailable` available ones given up; under
//! Recreate no new pod before the last old one has gone; a template that comes back is given its old ReplicaSet with a new number.
//! Inputs: deployments, ReplicaSets, pods (Recreate only). Outputs: ReplicaSets, the deployment's status and revision, events on the deployment.
//!
//! * `step`: which path; `rollout`: the paths; `sets`: ReplicaSets as they are to be; `status`: counts, conditions, progress; `carry`: the writes.

mod carry;
mod limits;
mod rollout;
mod sets;
mod status;
mod step;
#[cfg(test)]
mod tests;

use crate::owners::{controller_of, manager};
use crate::queue::Queue;
use crate::runner::{Group, Name, feed, work};
use carry::Carrier;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use mainstay_client::{Cache, Cluster, Delta, selector};
use std::sync::Arc;

/// Deployments worked on at a time.
const WORKERS: usize = 8;

/// Runs the controller until the future is dropped.
pub async fn run(cluster: Cluster) {
    let cluster = cluster.named("deployment-controller");
    let (deployments, sets, pods) = (cluster.deployments(), cluster.replica_sets(), cluster.pods());
    let queue: Arc<Queue<Name>> = Arc::new(Queue::new());
    deployments.synced().await;
    sets.synced().await;
    pods.synced().await;
    let mut group = Group::default();
    group.spawn(feed(deployments.clone(), queue.clone(), |change: &Delta<Deployment>, add: &mut dyn FnMut(Name)| {
        change.newest().into_iter().for_each(|deployment| add(Name::of(&**deployment)));
    }));
    let known = deployments.clone();
    group.spawn(feed(sets.clone(), queue.clone(), move |change: &Delta<ReplicaSet>, add: &mut dyn FnMut(Name)| {
        for set in [&change.old, &change.new].into_iter().flatten() {
            deployments_of_set(&known, set, add);
        }
    }));
    let (known, of_sets) = (deployments.clone(), sets.clone());
    group.spawn(feed(pods.clone(), queue.clone(), move |change: &Delta<Pod>, add: &mut dyn FnMut(Name)| {
        change.newest().into_iter().for_each(|pod| recreated_by(&known, &of_sets, pod, add));
    }));
    let carrier = Arc::new(Carrier::new(cluster, deployments, sets, pods));
    group.spawn(work("deployment", WORKERS, queue, move |name| {
        let carrier = carrier.clone();
        async move { carrier.sync(&name).await }
    }));
    group.wait().await;
}

/// The deployment that manages a set, or for an orphan every one that could adopt it.
fn deployments_of_set(deployments: &Cache<Deployment>, set: &ReplicaSet, add: &mut dyn FnMut(Name)) {
    if controller_of(&set.metadata).is_some() {
        manager::<Deployment>(&set.metadata).into_iter().for_each(add);
        return;
    }
    for deployment in deployments.list_in(set.metadata.namespace.as_deref().unwrap_or_default()) {
        if deployment.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, set.metadata.labels.as_ref())) {
            add(Name::of(&*deployment));
        }
    }
}

/// Under Recreate the end of an old pod is what a deployment waits for.
fn recreated_by(deployments: &Cache<Deployment>, sets: &Cache<ReplicaSet>, pod: &Pod, add: &mut dyn FnMut(Name)) {
    let set = manager::<ReplicaSet>(&pod.metadata).and_then(|name| sets.get(&name.namespace, &name.name));
    let Some(name) = set.and_then(|set| manager::<Deployment>(&set.metadata)) else { return };
    if deployments.get(&name.namespace, &name.name).is_some_and(|deployment| limits::strategy(&deployment) == limits::Strategy::Recreate) {
        add(name);
    }
}
