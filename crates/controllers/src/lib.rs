//! The controllers: each a pure step and a thin runner. One folder a controller.
//!
//! * `statefulset`: pods, claims and revisions of StatefulSets.
//! * `endpointslice`, `endpoints`: which pods serve a service; `services`: what both know of it.
//! * `queue`, `runner`: what all of them share; who to look at next, and how often after a failure.

pub mod endpoints;
pub mod endpointslice;
mod queue;
mod runner;
mod services;
pub mod statefulset;

use mainstay_client::Cluster;
use std::path::PathBuf;

/// What the controllers are told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where class `standard` makes volumes: `<data-dir>/volumes`.
    pub volumes_dir: PathBuf,
    /// This node's name, for the affinity of local volumes.
    pub node: String,
    /// PEM, for `kube-root-ca.crt`.
    pub ca_certificate: String,
}

/// Runs all controllers until the future is dropped. One line a controller.
pub async fn run(config: Config, cluster: Cluster) {
    let _ = config;
    let mut group = runner::Group::default();
    group.keep("statefulset", with(&cluster, statefulset::run));
    group.keep("endpointslice", with(&cluster, endpointslice::run));
    group.keep("endpoints", with(&cluster, endpoints::run));
    group.wait().await;
}

/// A controller that needs nothing but the cluster.
fn with<F>(cluster: &Cluster, run: impl Fn(Cluster) -> F + Send + 'static) -> impl Fn() -> F + Send + 'static {
    let cluster = cluster.clone();
    move || run(cluster.clone())
}
