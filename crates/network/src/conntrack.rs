//! Forgetting UDP flows to endpoints that are gone: conntrack would lead their packets there for as long as they come.

use nlink::netlink::netfilter::{ConntrackFilter, IpProtocol};
use nlink::netlink::{Connection, Netfilter};
use std::net::Ipv4Addr;

/// Each of: address sent to (any if `None`), port sent to, endpoint that answered. A failure is logged: the flows then end by their timeout.
pub(crate) async fn forget(flows: Vec<(Option<Ipv4Addr>, u16, Ipv4Addr)>) {
    if flows.is_empty() {
        return;
    }
    let connection = match Connection::<Netfilter>::new() {
        Ok(connection) => connection,
        Err(error) => return tracing::warn!(%error, "UDP flows to gone endpoints stay until they time out"),
    };
    for (address, port, endpoint) in flows {
        let mut filter = ConntrackFilter::new().proto(IpProtocol::Udp).orig_dst_port(port).reply_src(endpoint);
        if let Some(address) = address {
            filter = filter.orig_dst(address);
        }
        if let Err(error) = connection.flush_conntrack_matching(&filter).await {
            tracing::warn!(%error, port, %endpoint, "UDP flows to a gone endpoint stay until they time out");
        }
    }
}
