//! Which rules there should be, as plain data: what services and host ports mean, without a kernel.

use crate::types::Protocol;
use crate::{HostPort, Ranges, ServicePort};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::net::Ipv4Addr;

/// One chain that chooses among endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Never empty: a service without endpoints has no chain, and what is not led to one is refused.
    pub endpoints: Vec<(Ipv4Addr, u16)>,
    /// Clients stay with their endpoint for this long.
    pub affinity_seconds: Option<u32>,
}

impl Target {
    /// How many rules its chain has.
    pub(crate) fn rules(&self) -> usize {
        self.endpoints.len() * if self.affinity_seconds.is_some() { 2 } else { 1 }
    }
}

/// Address, protocol and port that a packet is sent to.
pub(crate) type Destination = (Ipv4Addr, Protocol, u16);

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Desired {
    /// By chain name.
    pub targets: BTreeMap<String, Target>,
    /// Service addresses, and host ports bound to one address, to chain names.
    pub services: BTreeMap<Destination, String>,
    /// Ports on any address of the host, to chain names.
    pub ports: BTreeMap<(Protocol, u16), String>,
    /// Pods that may be led to themselves.
    pub hairpin: BTreeSet<Ipv4Addr>,
}

/// Two that claim the same destination: the first by name has it, the others are left out and said.
pub(crate) fn desired(services: &[ServicePort], host_ports: &[HostPort], ranges: &Ranges) -> Desired {
    let mut desired = Desired::default();
    let mut services: Vec<&ServicePort> = services.iter().filter(|s| !s.endpoints.is_empty()).collect();
    services.sort_by(|a, b| (&a.name, a.protocol, a.port).cmp(&(&b.name, b.protocol, b.port)));
    for service in services {
        let mut endpoints = service.endpoints.clone();
        endpoints.sort_unstable();
        endpoints.dedup();
        if endpoints == [(service.address, service.port)] && service.node_port.is_none() && service.external.is_empty() {
            // Served at its own address on `lo` (`kube-dns`, `kubernetes`): nothing to translate.
            continue;
        }
        let target = Target { endpoints, affinity_seconds: service.affinity_seconds };
        let chain = chain_name("svc", &service.name, service.protocol, service.port);
        let addresses = std::iter::once(&service.address).chain(&service.external);
        let destinations: Vec<Destination> = addresses.map(|a| (*a, service.protocol, service.port)).collect();
        let port = service.node_port.map(|p| (service.protocol, p));
        desired.insert(chain, target, &destinations, port, ranges);
    }
    let mut host_ports: Vec<&HostPort> = host_ports.iter().collect();
    host_ports.sort_by(|a, b| (&a.pod, a.protocol, a.host).cmp(&(&b.pod, b.protocol, b.host)));
    for host_port in host_ports {
        let target = Target { endpoints: vec![host_port.target], affinity_seconds: None };
        let (address, port) = host_port.host;
        let chain = chain_name("host", &host_port.pod, host_port.protocol, port);
        let address = address.filter(|a| !a.is_unspecified());
        let destination = address.map(|a| (a, host_port.protocol, port));
        desired.insert(chain, target, destination.as_slice(), address.is_none().then_some((host_port.protocol, port)), ranges);
    }
    desired
}

impl Desired {
    fn insert(&mut self, chain: String, target: Target, to: &[Destination], port: Option<(Protocol, u16)>, ranges: &Ranges) {
        let mut used = false;
        for destination in to {
            used |= claim(&mut self.services, *destination, &chain);
        }
        if let Some(port) = port {
            used |= claim(&mut self.ports, port, &chain);
        }
        if used {
            self.hairpin.extend(target.endpoints.iter().map(|(a, _)| *a).filter(|a| crate::ranges::contains(ranges.pods, *a)));
            self.targets.insert(chain, target);
        }
    }

    /// UDP destinations and the endpoints they no longer lead to. A flow that is already translated would stay with them.
    pub(crate) fn abandoned(&self, new: &Desired) -> Vec<(Option<Ipv4Addr>, u16, Ipv4Addr)> {
        let udp = |protocol: Protocol| protocol == Protocol::Udp;
        let services = self.services.iter().filter(|((_, p, _), _)| udp(*p));
        let services = services.map(|(to, chain)| (Some(to.0), to.2, chain, new.services.get(to)));
        let ports = self.ports.iter().filter(|((p, _), _)| udp(*p));
        let ports = ports.map(|(to, chain)| (None, to.1, chain, new.ports.get(to)));
        let mut gone = Vec::new();
        for (address, port, old_chain, new_chain) in services.chain(ports) {
            let kept = new_chain.and_then(|c| new.targets.get(c));
            for endpoint in self.targets.get(old_chain).iter().flat_map(|t| &t.endpoints) {
                if !kept.is_some_and(|t| t.endpoints.contains(endpoint)) {
                    gone.push((address, port, endpoint.0));
                }
            }
        }
        gone
    }
}

fn claim<K: Ord + Copy + std::fmt::Debug>(map: &mut BTreeMap<K, String>, key: K, chain: &str) -> bool {
    if let Some(owner) = map.get(&key) {
        tracing::warn!(?key, owner, left_out = chain, "two claim the same destination");
        return false;
    }
    map.insert(key, chain.to_owned());
    true
}

/// Readable in `nft list ruleset`, unique by its hash, within the kernel's 127 bytes.
fn chain_name(kind: &str, name: &str, protocol: Protocol, port: u16) -> String {
    let hash = stable_hash(format!("{name} {} {port}", protocol.word()).as_bytes());
    let readable: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_./".contains(c) { c } else { '/' }).take(80).collect();
    format!("{kind}-{hash:016x}-{readable}")
}

/// Name of the set that remembers which clients stay with an endpoint. Another timeout is another set.
pub(crate) fn affinity_set(chain: &str, (address, port): (Ipv4Addr, u16), seconds: u32) -> String {
    format!("stay-{:016x}", stable_hash(format!("{chain} {address} {port} {seconds}").as_bytes()))
}

/// The same in every version and process.
fn stable_hash(bytes: &[u8]) -> u64 {
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// `name[!] address:port/protocol[+nodeport] -> endpoint…`, one a line; `!` has the external address 192.0.2.7, `host` lines are host ports.
    fn parse(text: &str) -> (Vec<ServicePort>, Vec<HostPort>) {
        let (mut services, mut host_ports) = (Vec::new(), Vec::new());
        let pair = |s: &str| -> (Ipv4Addr, u16) { s.split_once(':').map(|(a, p)| (a.parse().unwrap(), p.parse().unwrap())).unwrap() };
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let (left, right) = line.split_once("->").unwrap();
            let (name, to) = left.trim().split_once(' ').unwrap();
            let (to, rest) = to.split_once('/').unwrap();
            let (protocol, node_port) = rest.split_once('+').map_or((rest, None), |(p, n)| (p, Some(n.parse().unwrap())));
            let protocol = if protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
            let endpoints: Vec<(Ipv4Addr, u16)> = right.split_whitespace().map(pair).collect();
            let (address, port) = pair(to);
            if let Some(pod) = name.strip_prefix("host:") {
                let address = Some(address).filter(|a| !a.is_unspecified());
                host_ports.push(HostPort { pod: pod.into(), host: (address, port), target: endpoints[0], protocol });
            } else {
                let external = name.strip_suffix('!').map(|_| Ipv4Addr::new(192, 0, 2, 7)).into_iter().collect();
                services.push(ServicePort { name: name.into(), address, port, protocol, external, node_port, affinity_seconds: None, endpoints });
            }
        }
        (services, host_ports)
    }
    fn build(text: &str) -> Desired {
        let (services, host_ports) = parse(text);
        let ranges = Ranges { pods: (Ipv4Addr::new(10, 42, 0, 0), 24), services: (Ipv4Addr::new(10, 43, 0, 0), 20) };
        desired(&services, &host_ports, &ranges)
    }
    fn shape(d: &Desired) -> String {
        let services = d.services.keys().map(|(a, p, port)| format!("{a}:{port}/{}", p.word()));
        let ports = d.ports.keys().map(|(p, port)| format!("*:{port}/{}", p.word()));
        services.chain(ports).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_service_without_endpoints_has_no_chain() {
        let d = build("default/web:http 10.43.0.20:80/tcp+30080 ->");
        assert_eq!(d, Desired::default());
    }

    #[test]
    fn a_service_that_is_its_own_endpoint_needs_no_translation() {
        assert_eq!(build("kube-system/kube-dns:dns 10.43.0.10:53/udp -> 10.43.0.10:53"), Desired::default());
    }

    #[test]
    fn service_node_and_host_ports_lead_to_their_endpoints() {
        let d = build(
            "default/web:http 10.43.0.20:80/tcp+30080 -> 10.42.0.2:8080 10.42.0.3:8080
             host:pod-a 0.0.0.0:443/tcp -> 10.42.0.2:8443
             host:pod-b 192.0.2.2:53/udp -> 10.42.0.3:53",
        );
        assert_eq!(shape(&d), "10.43.0.20:80/tcp 192.0.2.2:53/udp *:443/tcp *:30080/tcp");
        assert_eq!(d.hairpin.len(), 2);
        assert!(d.targets.keys().any(|c| c.ends_with("-default/web/http")));
    }

    #[test]
    fn the_first_by_name_keeps_a_destination_that_two_claim() {
        let d = build("b/x: 10.43.0.20:80/tcp -> 10.42.0.2:1\n a/x: 10.43.0.20:80/tcp -> 10.42.0.3:1");
        assert_eq!(d.targets.len(), 1);
        assert!(d.services.values().all(|c| c.contains("a/x")));
    }

    #[test]
    fn an_external_address_leads_where_the_services_own_does() {
        let d = build("a/x! 10.43.0.20:80/tcp -> 10.42.0.2:1");
        assert_eq!(shape(&d), "10.43.0.20:80/tcp 192.0.2.7:80/tcp");
        assert_eq!(d.targets.len(), 1);
    }

    #[test]
    fn the_order_of_endpoints_changes_nothing() {
        let one = build("a/x: 10.43.0.20:80/tcp -> 10.42.0.2:1 10.42.0.3:1");
        assert_eq!(one, build("a/x: 10.43.0.20:80/tcp -> 10.42.0.3:1 10.42.0.2:1"));
    }

    #[test]
    fn udp_endpoints_that_are_gone_are_named_and_tcp_ones_are_not() {
        let old = build("a/x: 10.43.0.20:53/udp+30053 -> 10.42.0.2:53 10.42.0.3:53\n a/y: 10.43.0.20:53/tcp -> 10.42.0.2:53");
        let new = build("a/x: 10.43.0.20:53/udp+30053 -> 10.42.0.3:53");
        let gone = Ipv4Addr::new(10, 42, 0, 2);
        assert_eq!(old.abandoned(&new), [(Some(Ipv4Addr::new(10, 43, 0, 20)), 53, gone), (None, 30053, gone)]);
        assert_eq!(new.abandoned(&new), []);
    }
}
