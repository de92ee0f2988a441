//! `hostPort`: the host's ports that lead to this node's pods.

use crate::context::Node;
use crate::pod::reference::{containers, host_network, init_containers, is_sidecar};
use k8s_openapi::api::core::v1::{ContainerPort, Pod};
use mainstay_network::{HostPort, Protocol};

fn ports(pod: &Pod) -> impl Iterator<Item = &ContainerPort> {
    let sidecars = init_containers(pod).iter().filter(|c| is_sidecar(c));
    containers(pod).iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten()).filter(|p| p.host_port.unwrap_or(0) > 0)
}

pub(crate) fn has_any(pod: &Pod) -> bool {
    !host_network(pod) && ports(pod).next().is_some()
}

/// Tells the network of all of them.
pub(crate) async fn apply(node: &Node) {
    let mut all = Vec::new();
    for entry in node.registry.all() {
        let view = entry.view();
        let Some(ip) = view.state.sandbox.done().and_then(|a| a.ip.parse().ok()) else { continue };
        if !has_any(&view.pod) {
            continue;
        }
        for port in ports(&view.pod) {
            let (Ok(host), Ok(target)) = (u16::try_from(port.host_port.unwrap_or(0)), u16::try_from(port.container_port)) else { continue };
            let address = port.host_ip.as_deref().and_then(|ip| ip.parse().ok()).filter(|ip: &std::net::Ipv4Addr| !ip.is_unspecified());
            let protocol = match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            };
            all.push(HostPort { pod: entry.pod.uid.clone(), host: (address, host), target: (ip, target), protocol });
        }
    }
    if let Err(error) = node.network.set_host_ports(all).await {
        tracing::error!(%error, "host ports could not be set");
    }
}
