//! CronJobs: a Job whenever the schedule says so.
//!
//! Promises: at most one Job a scheduled time, by its name; of times that were missed only the last is made up for, if it is not too late; finished Jobs beyond
//! the history limits go. Inputs: cron jobs, Jobs. Outputs: Jobs, the cron job's status, events on it.
//!
//! * `step`: the algorithm; `carry`: its writes.

mod carry;
mod step;
#[cfg(test)]
mod tests;

use crate::owners::manager;
use crate::queue::Queue;
use crate::runner::{Group, Name, feed, work};
use carry::Carrier;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use mainstay_client::{Cluster, Delta};
use std::sync::Arc;

/// Cron jobs worked on at a time.
const WORKERS: usize = 4;

/// Runs the controller until the future is dropped.
pub async fn run(cluster: Cluster) {
    let cluster = cluster.named("cronjob-controller");
    let (cron_jobs, jobs) = (cluster.cron_jobs(), cluster.jobs());
    let queue: Arc<Queue<Name>> = Arc::new(Queue::new());
    cron_jobs.synced().await;
    jobs.synced().await;
    let mut group = Group::default();
    group.spawn(feed(cron_jobs.clone(), queue.clone(), |change: &Delta<CronJob>, add: &mut dyn FnMut(Name)| {
        change.newest().into_iter().for_each(|cron_job| add(Name::of(&**cron_job)));
    }));
    group.spawn(feed(jobs.clone(), queue.clone(), |change: &Delta<Job>, add: &mut dyn FnMut(Name)| {
        change.newest().and_then(|job| manager::<CronJob>(&job.metadata)).into_iter().for_each(add);
    }));
    let carrier = Arc::new(Carrier::new(cluster, cron_jobs, jobs));
    group.spawn(work("cronjob", WORKERS, queue, move |name| {
        let carrier = carrier.clone();
        async move { carrier.sync(&name).await }
    }));
    group.wait().await;
}
