//! The node agent: pods to sandboxes, volumes and containers, and its kubelet-like service.
//!
//! * [`run`] → `agent`: registers the node, adopts what runs, one worker a pod.
//! * `pod/`: what is known of a pod (`state`), what to do next (`step`, pure), what to tell the API (`status`, pure), who does it (`worker`).
//! * `container/`: from the pod's words to a runtime specification (`spec`, pure), environment, users, root file systems, cgroups.
//! * `volumes/`: one file a type. `probes/`: the three questions. `images`: pull policies.
//! * `service`, `logs`, `interactive`, `port_forward`: what a kubelet serves, on a unix socket.
//! * `gate`: at most one pod of an identity. `records`: what is found again after a crash.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod agent;
mod container;
mod context;
mod gate;
mod host_ports;
mod images;
mod interactive;
mod kernel;
mod logs;
mod mounts;
mod namespaces;
mod objects;
mod pod;
mod port_forward;
mod probes;
mod purge;
mod quantity;
mod records;
mod registration;
mod registry;
mod service;
mod stop_all;
mod volumes;

use mainstay_client::Cluster;
use mainstay_images::Images;
use mainstay_network::Network;
use mainstay_supervisor::Containers;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// What the agent is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Node name: the host's name, lower case.
    pub name: String,
    /// Below it: `pods/<uid>/` (volumes, hosts file, overlay upper directories), `logs/<ns>_<pod>_<uid>/<container>/<n>.log`, `volumes/` (claims' data).
    pub data_dir: PathBuf,
    /// Below it: `containers/`, `pods/`, `secrets/`, `node.sock`; gone at reboot.
    pub run_dir: PathBuf,
    /// Keeps two instances' cgroups and interfaces apart, ≤ 6 characters.
    pub instance: String,
    /// The DNS service's address.
    pub dns: Ipv4Addr,
    /// `cluster.local`.
    pub domain: String,
    /// Address and port of the `kubernetes` service, for the environment of containers.
    pub api: (Ipv4Addr, u16),
    /// The API's CA certificate, PEM.
    pub ca_certificate: String,
}

/// Runs the agent until `shutdown` resolves. Pods keep running when it ends. `ready` is called when the Node is Ready.
pub async fn run(
    config: Config,
    cluster: Cluster,
    images: Images,
    network: Network,
    containers: Containers,
    ready: impl FnOnce() + Send,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    agent::run(config, cluster, images, network, containers, ready, shutdown).await
}

/// Stops every pod of this node gracefully, in reverse ordinal order within a set, at most `limit`; the objects stay. For `down`.
///
/// Call it after [`run`] has ended and before the API server does. The pods' networks stay attached: the next start takes them up again.
pub async fn stop_all(config: &Config, cluster: &Cluster, containers: &Containers, limit: std::time::Duration) -> Result<(), Error> {
    stop_all::stop_all(config, cluster, containers, limit).await
}

/// Removes every process, mount, cgroup and file of this instance's pods, and the data of its volumes, from records and the kernel's tables
/// alone. The agent must not be running. Networks are `Network::purge`'s.
pub async fn purge(config: &Config) -> Result<(), Error> {
    purge::purge(config).await
}

/// What stopped the agent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel lacks something pods need.
    #[error("this kernel lacks {what}: {remedy}")]
    Kernel {
        /// `overlayfs`.
        what: &'static str,
        /// What to do.
        remedy: String,
    },
    /// Anything else at start.
    #[error("node: {doing}: {source}")]
    Start {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}
