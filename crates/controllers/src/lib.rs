//! The controllers: each a pure step and a thin runner. One folder a controller.
//!
//! * `statefulset`: pods, claims and revisions of StatefulSets.
//! * `queue`, `runner`: what all of them share; who to look at next, and how often after a failure.

mod queue;
mod runner;
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
    group.keep("statefulset", {
        let cluster = cluster.clone();
        move || statefulset::run(cluster.clone())
    });
    group.wait().await;
}
