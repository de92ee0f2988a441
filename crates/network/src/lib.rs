//! Pod networking and service routing: namespaces, veth, routes, nftables.
//!
//! Routed `/32` veth pairs with gateway 169.254.1.1, no bridge; ClusterIP and NodePort by nftables, one transaction a change; every kernel
//! resource has a record in the run directory before it exists, and is undone from the record alone.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Ranges of this installation, chosen free of the host's routes at the first `up`, and kept in `<data-dir>/network.json`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ranges {
    /// Pod addresses of this node, e.g. 10.42.0.0/24.
    pub pods: (Ipv4Addr, u8),
    /// Service addresses, e.g. 10.43.0.0/16. The first is the `kubernetes` service's, the tenth DNS's.
    pub services: (Ipv4Addr, u8),
}

/// What went wrong, with what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel said no.
    #[error("network: {doing}: {reason}")]
    Kernel {
        /// `add veth ms1a2b3c`.
        doing: String,
        /// errno or netlink error text.
        reason: String,
    },
    /// No address is free.
    #[error("network: all {0} pod addresses are in use")]
    Exhausted(u32),
    /// A record could not be written or read.
    #[error("network: record {path}: {source}", path = path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// One pod's network: a pinned network namespace with `eth0` and `lo` up.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Sandbox {
    /// Pod uid.
    pub pod: String,
    /// Bind mount of the network namespace, for the runtime spec's namespace path.
    pub netns: PathBuf,
    /// The pod's address.
    pub address: Ipv4Addr,
}

/// Where a service's packets go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// `namespace/name:port`, for comments and stable hashing.
    pub name: String,
    /// Cluster address.
    pub address: Ipv4Addr,
    /// Service port.
    pub port: u16,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Node port, if any.
    pub node_port: Option<u16>,
    /// `sessionAffinity: ClientIP` with its timeout in seconds.
    pub affinity_seconds: Option<u32>,
    /// Ready endpoints; none: connections are refused at once, not timed out.
    pub endpoints: Vec<(Ipv4Addr, u16)>,
}

/// Transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of the host that leads to a pod (`hostPort`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Pod uid.
    pub pod: String,
    /// On the host; address `None` means all.
    pub host: (Option<Ipv4Addr>, u16),
    /// In the pod.
    pub target: (Ipv4Addr, u16),
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// The node's network. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Network {}

/// Picks ranges that collide with no route or address of the host, nor with `taken` (other instances).
pub async fn choose_ranges() -> Result<Ranges, Error> {
    todo!()
}

impl Network {
    /// Adopts what a previous process left (records in `run_dir`), undoes what is half done, makes the tables, the routes, forwarding, and
    /// the node-local service addresses (`kubernetes`, DNS) on `lo`. `instance` (≤ 6 characters) keeps two instances' names apart.
    pub async fn open(_run_dir: &Path, _instance: &str, _ranges: Ranges) -> Result<Self, Error> {
        todo!()
    }
    /// What will not work beside the host's other tenants (Docker, ufw, firewalld), in words with the command to run; empty: all is well.
    pub async fn warnings(&self) -> Vec<String> {
        todo!()
    }
    /// Makes a pod's network, or returns the one it has.
    pub async fn attach(&self, _pod: &str) -> Result<Sandbox, Error> {
        todo!()
    }
    /// Gives it back. Returns at once; the kernel takes 30 ms for a veth, in the background. The address rests a while before it is used again.
    pub async fn detach(&self, _pod: &str) -> Result<(), Error> {
        todo!()
    }
    /// Every sandbox there is.
    pub fn sandboxes(&self) -> Vec<Sandbox> {
        todo!()
    }
    /// Replaces all service rules in one transaction; does nothing if nothing changed. Established connections stay; UDP flows to gone endpoints are forgotten.
    pub async fn set_services(&self, _services: Vec<ServicePort>) -> Result<(), Error> {
        todo!()
    }
    /// Replaces all host ports in one transaction.
    pub async fn set_host_ports(&self, _ports: Vec<HostPort>) -> Result<(), Error> {
        todo!()
    }
    /// Removes everything of this instance from the kernel: interfaces, namespaces, rules, routes, addresses, sysctls it changed.
    pub async fn purge(_run_dir: &Path, _instance: &str) -> Result<(), Error> {
        todo!()
    }
}
