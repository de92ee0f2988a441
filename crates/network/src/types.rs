//! What the node and the service rules say to the network, and what it answers.

use std::net::Ipv4Addr;
use std::path::PathBuf;

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
    /// Every range that could be chosen overlaps a route of the host.
    #[error("network: no {what} is free of the host's routes; tried {tried}")]
    NoRange {
        /// `pod range` or `service range`.
        what: &'static str,
        /// The candidates, for the reader to see.
        tried: String,
    },
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ServicePort {
    /// `namespace/name:port`, for comments and stable hashing.
    pub name: String,
    /// Cluster address.
    pub address: Ipv4Addr,
    /// Service port.
    pub port: u16,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Addresses beside the cluster's that lead there too: `externalIPs`, and those a load balancer's controller has written into the status.
    #[serde(default)]
    pub external: Vec<Ipv4Addr>,
    /// Node port, if any.
    pub node_port: Option<u16>,
    /// `sessionAffinity: ClientIP` with its timeout in seconds.
    pub affinity_seconds: Option<u32>,
    /// Ready endpoints; none: connections are refused at once, not timed out.
    pub endpoints: Vec<(Ipv4Addr, u16)>,
}

/// Transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of the host that leads to a pod (`hostPort`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
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


impl Error {
    pub(crate) fn kernel(doing: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Kernel { doing: doing.into(), reason: reason.to_string() }
    }
}

impl Ranges {
    /// The host's own address in the pod range, its first: what pods see the host as, and what hairpin and loopback traffic is
    /// rewritten to. It is on `lo`, so it stays when the uplink changes or goes.
    pub fn host(&self) -> Ipv4Addr {
        nth(self.pods, 1)
    }
    /// Address of the `kubernetes` service: the first of the service range.
    pub fn kubernetes(&self) -> Ipv4Addr {
        nth(self.services, 1)
    }
    /// Address of the DNS service: the tenth of the service range.
    pub fn dns(&self) -> Ipv4Addr {
        nth(self.services, 10)
    }
}

/// The address `n` after a range's network address.
pub(crate) fn nth((network, _): (Ipv4Addr, u8), n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(network).wrapping_add(n))
}

impl Protocol {
    /// IANA protocol number.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
    /// As in a chain's name.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}
