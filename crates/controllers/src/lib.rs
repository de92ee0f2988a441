//! The controllers: each a pure step and a thin runner. One folder a controller.
//!
//! * `statefulset`: pods, claims and revisions of StatefulSets.
//! * `deployment`, `replicaset`: pods without a name of their own; `job`, `cronjob`: pods that run to their end.
//! * `owners`, `pods`, `template`, `patch`, `failure`: what these share.
//! * `endpointslice`, `endpoints`: which pods serve a service; `services`: what both know of it.
//! * `claims`: claims bound to volumes, volumes of class `standard` made and removed, both protected while in use.
//! * `garbage`: what goes with its owner; `namespaces`: what goes with its namespace; `metadata`: the view both share.
//! * `serviceaccounts`: what every namespace has.
//! * `queue`, `runner`: what all of them share; who to look at next, and how often after a failure.

mod claims;
pub mod cronjob;
pub mod deployment;
pub mod endpoints;
pub mod endpointslice;
mod failure;
mod garbage;
pub mod job;
mod metadata;
mod namespaces;
mod owners;
mod patch;
mod pods;
mod queue;
#[cfg(test)]
mod random;
pub mod replicaset;
mod runner;
mod serviceaccounts;
mod services;
pub mod statefulset;
mod template;

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
    let mut group = runner::Group::default();
    let metadata = metadata::Metadata::new();
    group.keep("statefulset", with(&cluster, statefulset::run));
    group.keep("replicaset", with(&cluster, replicaset::run));
    group.keep("deployment", with(&cluster, deployment::run));
    group.keep("job", with(&cluster, job::run));
    group.keep("cronjob", with(&cluster, cronjob::run));
    group.keep("endpointslice", with(&cluster, endpointslice::run));
    group.keep("endpoints", with(&cluster, endpoints::run));
    group.keep("claims", with_also(&cluster, &config, claims::run));
    group.keep("serviceaccounts", with_also(&cluster, &config, serviceaccounts::run));
    group.keep("metadata", with_also(&cluster, &metadata, |cluster, metadata| metadata.run(cluster)));
    group.keep("garbage", with_also(&cluster, &metadata, garbage::run));
    group.keep("namespaces", with_also(&cluster, &metadata, namespaces::run));
    group.wait().await;
}

/// A controller that needs nothing but the cluster.
fn with<F>(cluster: &Cluster, run: impl Fn(Cluster) -> F + Send + 'static) -> impl Fn() -> F + Send + 'static {
    let cluster = cluster.clone();
    move || run(cluster.clone())
}

/// A controller that needs something else, too.
fn with_also<T, F>(cluster: &Cluster, also: &T, run: impl Fn(Cluster, T) -> F + Send + 'static) -> impl Fn() -> F + Send + 'static
where
    T: Clone + Send + 'static,
{
    let (cluster, also) = (cluster.clone(), also.clone());
    move || run(cluster.clone(), also.clone())
}
