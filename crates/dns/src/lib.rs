//! Cluster DNS: answers from a prebuilt table, forwards all else.

use mainstay_client::Cluster;
use std::net::{Ipv4Addr, SocketAddr};

/// What the server is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// `cluster.local`.
    pub domain: String,
    /// Where to listen, UDP and TCP: the DNS service's address on `lo`, port 53.
    pub listen: SocketAddr,
    /// Where all else is forwarded; empty: read from the host (`/run/systemd/resolve/resolv.conf` where 127.0.0.53 is configured).
    pub upstreams: Vec<SocketAddr>,
    /// Address of the host in pods.
    pub host: Option<Ipv4Addr>,
}

/// Binds, then serves until the future is dropped. `ready` is called once the socket answers.
pub async fn run(_config: Config, _cluster: Cluster, _ready: impl FnOnce() + Send) -> std::io::Result<()> {
    todo!()
}
