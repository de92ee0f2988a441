//! The controllers: each a pure step and a thin runner. One folder a controller.

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

/// Runs all controllers until the future is dropped.
pub async fn run(_config: Config, _cluster: Cluster) {
    todo!()
}
