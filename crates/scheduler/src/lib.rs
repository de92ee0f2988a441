//! Pod to node: filters and scores, pure, and the runner that binds.
//!
//! * `view`: nodes, their pods and what is free; what filters and scores look at.
//! * `filters` (with `affinity`, `spread`, `volumes`, `resources`): may this pod run there, and if not, why, in upstream's words.
//! * `scores`: which of the nodes left is best.
//! * `decide`: both together for one pod; `queue`: who waits for what; `runner`: events in, bindings out.
//!
//! Upstream: pkg/scheduler (1.36). Left out: preemption, extenders, image locality, dynamic resources.

mod affinity;
mod decide;
mod filters;
mod queue;
mod resources;
mod runner;
mod scores;
mod spread;
#[cfg(test)]
mod tests;
mod view;
mod volumes;

use mainstay_client::Cluster;

/// Runs the scheduler until the future is dropped.
pub async fn run(cluster: Cluster) {
    runner::run(cluster.named("default-scheduler")).await;
}
