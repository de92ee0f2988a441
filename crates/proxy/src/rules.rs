//! Services and slices to rules.

use k8s_openapi::api::core::v1::{Service, ServicePort as Port};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use mainstay_network::{Protocol, ServicePort};
use std::collections::HashMap;
use std::net::Ipv4Addr;

const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// Upstream's default for `sessionAffinityConfig.clientIP.timeoutSeconds`: three hours.
const AFFINITY_SECONDS: i32 = 10_800;

/// One rule for each port of each service that has an IPv4 address; headless services and aliases have none. In a stable order.
///
/// Endpoints are those that are ready; if there are none, those that still serve while they terminate, so that a rollout of a single pod
/// drops nothing (KEP-1669). A slice's port belongs to the service's port of the same name.
pub fn rules<'a>(services: impl IntoIterator<Item = &'a Service>, slices: impl IntoIterator<Item = &'a EndpointSlice>) -> Vec<ServicePort> {
    let mut by_service: HashMap<(&str, &str), Vec<&EndpointSlice>> = HashMap::new();
    for slice in slices {
        let service = slice.metadata.labels.as_ref().and_then(|l| l.get(SERVICE_LABEL));
        if let (Some(namespace), Some(service)) = (&slice.metadata.namespace, service) {
            by_service.entry((namespace, service)).or_default().push(slice);
        }
    }
    let mut rules = Vec::new();
    for service in services {
        let (Some(namespace), Some(name)) = (&service.metadata.namespace, &service.metadata.name) else { continue };
        let slices = by_service.get(&(namespace.as_str(), name.as_str())).map_or(&[][..], Vec::as_slice);
        rules.extend(of_service(namespace, name, service, slices));
    }
    rules.sort_by(|a, b| (&a.name, a.protocol, a.port).cmp(&(&b.name, b.protocol, b.port)));
    rules
}

fn of_service(namespace: &str, name: &str, service: &Service, slices: &[&EndpointSlice]) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    // `None` and IPv6 addresses do not parse.
    let Some(address) = spec.cluster_ip.as_deref().and_then(|a| a.parse::<Ipv4Addr>().ok()) else { return Vec::new() };
    let affinity_seconds = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let seconds = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()).and_then(|c| c.timeout_seconds);
        u32::try_from(seconds.unwrap_or(AFFINITY_SECONDS)).unwrap_or(1)
    });
    let external = external(service);
    let mut rules = Vec::new();
    for port in spec.ports.iter().flatten() {
        let (Some(protocol), Ok(number)) = (protocol(port.protocol.as_deref()), u16::try_from(port.port)) else { continue };
        rules.push(ServicePort {
            name: format!("{namespace}/{name}:{}", port.name.as_deref().unwrap_or_default()),
            address,
            port: number,
            protocol,
            external: external.clone(),
            node_port: port.node_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0),
            affinity_seconds,
            endpoints: endpoints(port, protocol, slices),
        });
    }
    rules
}

/// `externalIPs`, and the addresses that whoever provides load balancers has written into the status (`ipMode: Proxy` wants its own hop). This is the
/// only node, so that the traffic policies `Local` and `Cluster` choose the same endpoints; clients' addresses are kept with either.
fn external(service: &Service) -> Vec<Ipv4Addr> {
    let named = service.spec.iter().flat_map(|s| s.external_ips.iter().flatten().map(String::as_str));
    let ingress = service.status.iter().filter_map(|s| s.load_balancer.as_ref()).flat_map(|l| l.ingress.iter().flatten());
    let balanced = ingress.filter(|i| i.ip_mode.as_deref() != Some("Proxy")).filter_map(|i| i.ip.as_deref());
    let mut found: Vec<Ipv4Addr> = named.chain(balanced).filter_map(|a| a.parse().ok()).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn endpoints(port: &Port, protocol: Protocol, slices: &[&EndpointSlice]) -> Vec<(Ipv4Addr, u16)> {
    let serving = |e: &Endpoint| {
        let conditions = e.conditions.as_ref();
        conditions.and_then(|c| c.terminating) == Some(true) && conditions.and_then(|c| c.serving) == Some(true)
    };
    let ready = |e: &Endpoint| e.conditions.as_ref().and_then(|c| c.ready) != Some(false);
    let found = chosen(port, protocol, slices, ready);
    if found.is_empty() { chosen(port, protocol, slices, serving) } else { found }
}

fn chosen(port: &Port, wanted: Protocol, slices: &[&EndpointSlice], fits: impl Fn(&Endpoint) -> bool) -> Vec<(Ipv4Addr, u16)> {
    let mut found = Vec::new();
    for slice in slices {
        let matching = slice.ports.iter().flatten().find(|p| {
            p.name.as_deref().unwrap_or_default() == port.name.as_deref().unwrap_or_default() && protocol(p.protocol.as_deref()) == Some(wanted)
        });
        let Some(number) = matching.and_then(|p| p.port).and_then(|p| u16::try_from(p).ok()) else { continue };
        for endpoint in slice.endpoints.iter().flatten().filter(|e| fits(e)) {
            // Upstream: only the first address counts, as all of them lead to the same pod.
            found.extend(endpoint.addresses.first().and_then(|a| a.parse::<Ipv4Addr>().ok()).map(|a| (a, number)));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, ServiceSpec, ServiceStatus};
    use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointPort};

    /// `<name> <address> [sticky] [@external address] [port[:name][+nodeport]…] = <endpoint[!]>…`; `!` not ready, `~` not ready but serving while it terminates.
    fn check(text: &str, expected: &str) {
        let (mut services, mut slices) = (Vec::new(), Vec::new());
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let (left, right) = line.split_once(" =").unwrap();
            let words: Vec<&str> = left.split_whitespace().collect();
            let mut spec = ServiceSpec { cluster_ip: Some(words[1].into()), ..Default::default() };
            let mut slice = EndpointSlice::default();
            slice.metadata.namespace = Some("default".into());
            slice.metadata.labels = Some([(SERVICE_LABEL.to_owned(), words[0].to_owned())].into());
            for word in &words[2..] {
                if *word == "sticky" {
                    spec.session_affinity = Some("ClientIP".into());
                    continue;
                }
                if let Some(address) = word.strip_prefix('@') {
                    spec.external_ips.get_or_insert_default().push(address.into());
                    continue;
                }
                let (word, node_port) = word.split_once('+').map_or((*word, None), |(w, n)| (w, Some(n.parse().unwrap())));
                let (port, name) = word.split_once(':').map_or((word, None), |(p, n)| (p, Some(n.to_owned())));
                let port: i32 = port.parse().unwrap();
                spec.ports.get_or_insert_default().push(Port { name: name.clone(), port, node_port, ..Default::default() });
                slice.ports.get_or_insert_default().push(EndpointPort { name, port: Some(port + 8000), ..Default::default() });
            }
            for word in right.split_whitespace() {
                let address = word.trim_end_matches(['!', '~']).to_owned();
                let terminating = word.ends_with('~');
                let conditions = EndpointConditions { ready: Some(address == word), serving: Some(terminating), terminating: Some(terminating) };
                let endpoint = Endpoint { addresses: vec![address], conditions: Some(conditions), ..Default::default() };
                slice.endpoints.get_or_insert_default().push(endpoint);
            }
            let mut service = Service { spec: Some(spec), ..Default::default() };
            service.metadata.namespace = Some("default".into());
            service.metadata.name = Some(words[0].into());
            services.push(service);
            slices.push(slice);
        }
        let found: Vec<String> = rules(&services, &slices).iter().map(show).collect();
        assert_eq!(found.join("; "), expected);
    }

    fn show(r: &ServicePort) -> String {
        let endpoints: Vec<String> = r.endpoints.iter().map(|(a, p)| format!("{a}:{p}")).collect();
        let node = r.node_port.map(|p| format!("+{p}")).unwrap_or_default();
        let stay = r.affinity_seconds.map(|s| format!(" for {s}s")).unwrap_or_default();
        let external: String = r.external.iter().map(|a| format!(" @{a}")).collect();
        format!("{} {}:{}{node}{stay}{external} -> {}", r.name, r.address, r.port, endpoints.join(" "))
    }

    #[test]
    fn each_port_leads_to_the_ready_endpoints_of_its_name() {
        check(
            "web 10.43.0.20 80:http+30080 53:dns = 10.42.0.3 10.42.0.2 10.42.0.4!",
            "default/web:dns 10.43.0.20:53 -> 10.42.0.2:8053 10.42.0.3:8053; default/web:http 10.43.0.20:80+30080 -> 10.42.0.2:8080 10.42.0.3:8080",
        );
    }

    #[test]
    fn a_service_without_ready_endpoints_has_a_rule_without_endpoints() {
        check("web 10.43.0.20 80 = 10.42.0.2!", "default/web: 10.43.0.20:80 -> ");
    }

    #[test]
    fn what_terminates_but_serves_is_used_only_when_nothing_is_ready() {
        check("web 10.43.0.20 80 = 10.42.0.2~", "default/web: 10.43.0.20:80 -> 10.42.0.2:8080");
        check("web 10.43.0.20 80 = 10.42.0.2~ 10.42.0.3", "default/web: 10.43.0.20:80 -> 10.42.0.3:8080");
    }

    #[test]
    fn external_addresses_lead_to_the_same_endpoints() {
        check("web 10.43.0.20 @192.0.2.9 @192.0.2.8 80 = 10.42.0.2", "default/web: 10.43.0.20:80 @192.0.2.8 @192.0.2.9 -> 10.42.0.2:8080");
    }

    #[test]
    fn an_address_that_a_load_balancer_gave_is_served_unless_it_is_a_proxys() {
        for (mode, expected) in [("VIP", 1), ("Proxy", 0)] {
            let ingress = LoadBalancerIngress { ip: Some("192.0.2.9".into()), ip_mode: Some(mode.into()), ..Default::default() };
            let status = ServiceStatus { load_balancer: Some(LoadBalancerStatus { ingress: Some(vec![ingress]) }), ..Default::default() };
            assert_eq!(external(&Service { status: Some(status), ..Default::default() }).len(), expected, "{mode}");
        }
    }

    #[test]
    fn headless_services_have_no_rules() {
        check("db None 5432 = 10.42.0.2", "");
    }

    #[test]
    fn session_affinity_has_upstreams_timeout() {
        check("web 10.43.0.20 sticky 80 = 10.42.0.2", "default/web: 10.43.0.20:80 for 10800s -> 10.42.0.2:8080");
    }
}
