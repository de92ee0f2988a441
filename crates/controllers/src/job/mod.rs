//! Jobs: pods that run to their end, so many times.
//!
//! Promises: every pod that ends is counted exactly once, whoever is killed when: a pod keeps its finalizer until its end is written down in the job's status,
//! and the count is raised only once the finalizer is gone. Inputs: jobs, pods. Outputs: pods, the job's status, events on the job; the job itself when its time to live is over.
//!
//! * `step`: the algorithm; `indexes`, `policy`, `backoff`, `pod`: its rules; `carry`: its writes.

mod backoff;
mod carry;
mod indexes;
mod pod;
mod policy;
mod step;
#[cfg(test)]
mod tests;

use crate::owners::{controller_of, manager};
use crate::queue::Queue;
use crate::runner::{Group, Name, feed, work};
use carry::Carrier;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use mainstay_client::{Cache, Cluster, Delta, selector};
use std::sync::Arc;

pub(crate) use step::{condition, finished};

/// Jobs worked on at a time.
const WORKERS: usize = 8;

/// Runs the controller until the future is dropped.
pub async fn run(cluster: Cluster) {
    let cluster = cluster.named("job-controller");
    let (jobs, pods) = (cluster.jobs(), cluster.pods());
    let queue: Arc<Queue<Name>> = Arc::new(Queue::new());
    jobs.synced().await;
    pods.synced().await;
    let mut group = Group::default();
    group.spawn(feed(jobs.clone(), queue.clone(), |change: &Delta<Job>, add: &mut dyn FnMut(Name)| {
        change.newest().into_iter().for_each(|job| add(Name::of(&**job)));
    }));
    let known = jobs.clone();
    group.spawn(feed(pods.clone(), queue.clone(), move |change: &Delta<Pod>, add: &mut dyn FnMut(Name)| {
        for pod in [&change.old, &change.new].into_iter().flatten() {
            jobs_of_pod(&known, pod, add);
        }
    }));
    let carrier = Arc::new(Carrier::new(cluster, jobs, pods));
    group.spawn(work("job", WORKERS, queue, move |name| {
        let carrier = carrier.clone();
        async move { carrier.sync(&name).await }
    }));
    group.wait().await;
}

/// The job that manages a pod; for an orphan every job that could adopt it, and the one it is named after, which may have left it a finalizer.
fn jobs_of_pod(jobs: &Cache<Job>, pod: &Pod, add: &mut dyn FnMut(Name)) {
    if controller_of(&pod.metadata).is_some() {
        manager::<Job>(&pod.metadata).into_iter().for_each(add);
        return;
    }
    let (namespace, labels) = (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.labels.as_ref());
    if pod::tracked(pod)
        && let Some(name) = labels.and_then(|labels| labels.get(pod::NAME_LABEL))
    {
        add(Name::new(namespace, name));
    }
    for job in jobs.list_in(namespace) {
        if pod::selects(&job, labels, selector::matches) {
            add(Name::of(&*job));
        }
    }
}
