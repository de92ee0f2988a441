//! Pod networking and service routing: namespaces, veth, routes, nftables.
//!
//! Routed `/32` veth pairs with gateway 169.254.1.1, no bridge; ClusterIP and NodePort by nftables, one transaction a change; every kernel
//! resource has a record in the run directory before it exists, and is undone from the record alone. IPv4 only.

mod conntrack;
mod desired;
mod host;
mod link;
mod netfilter;
mod netns;
mod network;
mod nft;
mod pool;
mod ranges;
mod reaper;
mod record;
mod tenants;
mod types;
mod wire;

pub use network::Network;
pub use ranges::choose_ranges;
pub use types::{Error, HostPort, Protocol, Ranges, Sandbox, ServicePort};
