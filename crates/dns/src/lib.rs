//! Cluster DNS: answers from a table kept by the caches, forwards all else.
//!
//! * `zone`: what names there are, one entry a service, rebuilt when the service or one of its slices changes.
//! * `answer`: a question to records: pure, by Kubernetes' DNS specification (kubernetes/dns, docs/specification.md) and CoreDNS' reading of it.
//! * `keeper`: the caches' changes into the zone.
//! * `server`: sockets, size limits, truncation. `upstream`: forwarding.

mod answer;
mod keeper;
mod random;
mod server;
mod upstream;
mod zone;

use mainstay_client::Cluster;
use std::net::{Ipv4Addr, SocketAddr};

/// What the server is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// `cluster.local`.
    pub domain: String,
    /// Where to listen, UDP and TCP: the DNS service's address on `lo`, port 53.
    pub listen: SocketAddr,
    /// Where all else is forwarded; empty: read from the host (`/run/systemd/resolve/resolv.conf` where 127.0.0.53 is configured), again
    /// whenever that changes.
    pub upstreams: Vec<SocketAddr>,
    /// Address of the host in pods: what `host.mainstay.internal` leads to.
    pub host: Option<Ipv4Addr>,
}

/// Binds, then serves until the future is dropped. `ready` is called once the socket answers and the table holds what the cluster has.
pub async fn run(config: Config, cluster: Cluster, ready: impl FnOnce() + Send) -> std::io::Result<()> {
    let zone = zone::Zone::shared(&config)?;
    let server = server::Server::bind(&config, zone.clone()).await?;
    let keeper = keeper::Keeper::start(&cluster, zone).await;
    ready();
    tokio::select! {
        result = server.serve() => result,
        () = keeper.keep() => Err(std::io::Error::other("the caches have ended")),
    }
}
