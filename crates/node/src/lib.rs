//! The node agent: pods to sandboxes, volumes and containers, and its kubelet-like service.

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
    /// Below it: `containers/`, `sandboxes/`, `node.sock`; gone at reboot.
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
    _config: Config,
    _cluster: Cluster,
    _images: Images,
    _network: Network,
    _containers: Containers,
    _ready: impl FnOnce() + Send,
    _shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    todo!()
}

/// Stops every pod of this node gracefully, in reverse ordinal order within a set, at most `limit`; the objects stay. For `down`.
pub async fn stop_all(_config: &Config, _cluster: &Cluster, _containers: &Containers, _limit: std::time::Duration) -> Result<(), Error> {
    todo!()
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
