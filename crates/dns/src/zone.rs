//! What names there are: one entry a service, its endpoints in it.

use crate::Config;
use hickory_proto::rr::Name;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Read by the server, written by the keeper; held for microseconds by either.
pub(crate) type SharedZone = Arc<RwLock<Zone>>;

/// The table.
#[derive(Debug)]
pub(crate) struct Zone {
    /// `cluster.local.`, lower case.
    pub domain: Name,
    /// `["cluster", "local"]`.
    pub domain_labels: Vec<String>,
    /// The server's own address, for `ns.dns.<domain>`.
    pub server: Option<Ipv4Addr>,
    /// The host's.
    pub host: Option<Ipv4Addr>,
    namespaces: HashMap<Box<str>, Namespace>,
    reverse: HashMap<Ipv4Addr, Vec<Name>>,
}

#[derive(Debug, Default)]
struct Namespace {
    services: HashMap<Box<str>, Service>,
    /// Pods with this address: more than one on the host's network.
    pods: HashMap<Ipv4Addr, u32>,
}

/// One service.
#[derive(Debug, PartialEq)]
pub(crate) struct Service {
    pub kind: Kind,
    /// The service's own, for SRV of a service with an address.
    pub ports: Vec<Port>,
    /// Ready ones, or all if the service publishes those that are not.
    pub endpoints: Vec<Endpoint>,
}

/// What its name means.
#[derive(Debug, PartialEq)]
pub(crate) enum Kind {
    /// ClusterIP, NodePort, LoadBalancer.
    Address(Ipv4Addr),
    /// `clusterIP: None`.
    Headless,
    /// ExternalName.
    Alias(Name),
}

/// A named port.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Port {
    /// Empty if the only one.
    pub name: String,
    /// `tcp`, `udp`, `sctp`.
    pub protocol: String,
    pub port: u16,
}

/// One pod behind a service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Endpoint {
    pub address: Ipv4Addr,
    /// Its name below the service's: the pod's `hostname`, or the address with dashes.
    pub label: String,
    pub ports: Arc<Vec<Port>>,
}

impl Zone {
    pub(crate) fn shared(config: &Config) -> std::io::Result<SharedZone> {
        Ok(Arc::new(RwLock::new(Self::new(config).map_err(std::io::Error::other)?)))
    }

    pub(crate) fn new(config: &Config) -> Result<Self, hickory_proto::ProtoError> {
        let domain_labels: Vec<String> = config.domain.trim_matches('.').to_ascii_lowercase().split('.').map(str::to_owned).collect();
        let domain = fqdn(&domain_labels)?;
        let server = match config.listen.ip() {
            std::net::IpAddr::V4(v4) if !v4.is_unspecified() => Some(v4),
            _ => None,
        };
        Ok(Self { domain, domain_labels, server, host: config.host, namespaces: HashMap::new(), reverse: HashMap::new() })
    }

    /// Replaces a service's entry; `None` removes it.
    pub(crate) fn set_service(&mut self, namespace: &str, name: &str, service: Option<Service>) {
        let old = self.namespaces.get_mut(namespace).and_then(|n| n.services.remove(name));
        let gone: Vec<(Ipv4Addr, Name)> = old.iter().flat_map(|s| self.reverse_names(namespace, name, s)).collect();
        for (address, host) in gone {
            if let Some(names) = self.reverse.get_mut(&address) {
                names.retain(|n| *n != host);
                if names.is_empty() {
                    self.reverse.remove(&address);
                }
            }
        }
        match service {
            Some(service) => {
                for (address, host) in self.reverse_names(namespace, name, &service) {
                    self.reverse.entry(address).or_default().push(host);
                }
                self.namespaces.entry(namespace.into()).or_default().services.insert(name.into(), service);
            }
            None => self.forget_empty(namespace),
        }
    }

    /// Counts a pod's address in or out.
    pub(crate) fn set_pod(&mut self, namespace: &str, address: Ipv4Addr, there: bool) {
        if there {
            *self.namespaces.entry(namespace.into()).or_default().pods.entry(address).or_default() += 1;
            return;
        }
        let Some(pods) = self.namespaces.get_mut(namespace).map(|n| &mut n.pods) else { return };
        if let Some(count) = pods.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                pods.remove(&address);
            }
        }
        self.forget_empty(namespace);
    }

    /// Forgets everything but itself.
    pub(crate) fn clear(&mut self) {
        self.namespaces.clear();
        self.reverse.clear();
    }

    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.namespaces.get(namespace)?.services.get(name)
    }
    /// Whether anything in it has a name.
    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }
    pub(crate) fn has_pod(&self, namespace: &str, address: Ipv4Addr) -> bool {
        self.namespaces.get(namespace).is_some_and(|n| n.pods.contains_key(&address))
    }
    /// Names of an address: its services', else its pod's.
    pub(crate) fn names_of(&self, address: Ipv4Addr) -> Vec<Name> {
        if let Some(names) = self.reverse.get(&address) {
            return names.clone();
        }
        let of_pod = self.namespaces.iter().find(|(_, n)| n.pods.contains_key(&address));
        of_pod.and_then(|(namespace, _)| self.below(&[&dashed(address), namespace, "pod"]).ok()).into_iter().collect()
    }
    /// `labels` below the domain.
    pub(crate) fn below(&self, labels: &[&str]) -> Result<Name, hickory_proto::ProtoError> {
        let all: Vec<&str> = labels.iter().copied().chain(self.domain_labels.iter().map(String::as_str)).collect();
        fqdn(&all)
    }

    fn forget_empty(&mut self, namespace: &str) {
        if self.namespaces.get(namespace).is_some_and(|n| n.services.is_empty() && n.pods.is_empty()) {
            self.namespaces.remove(namespace);
        }
    }

    fn reverse_names(&self, namespace: &str, name: &str, service: &Service) -> Vec<(Ipv4Addr, Name)> {
        let mut names = Vec::new();
        if let Kind::Address(address) = service.kind {
            names.extend(self.below(&[name, namespace, "svc"]).ok().map(|n| (address, n)));
            return names;
        }
        for endpoint in &service.endpoints {
            names.extend(self.below(&[&endpoint.label, name, namespace, "svc"]).ok().map(|n| (endpoint.address, n)));
        }
        names
    }
}

/// A name from labels, absolute.
pub(crate) fn fqdn<L: AsRef<str>>(labels: &[L]) -> Result<Name, hickory_proto::ProtoError> {
    let mut name = Name::from_labels(labels.iter().map(|l| l.as_ref().as_bytes()))?;
    name.set_fqdn(true);
    Ok(name)
}

/// `10-42-0-7`.
pub(crate) fn dashed(address: Ipv4Addr) -> String {
    address.to_string().replace('.', "-")
}

/// The entry of a service with its slices. `None`: a service that has no name (an ExternalName that is none, an address of another family).
pub(crate) fn entry<'a>(service: &core::Service, slices: impl Iterator<Item = &'a discovery::EndpointSlice>) -> Option<Service> {
    let spec = service.spec.as_ref()?;
    let ports = spec.ports.iter().flatten().filter_map(|p| {
        Some(Port { name: p.name.clone().unwrap_or_default(), protocol: lower(p.protocol.as_deref()), port: u16::try_from(p.port).ok()? })
    });
    let kind = if spec.type_.as_deref() == Some("ExternalName") {
        let mut name = Name::from_ascii(spec.external_name.as_deref()?.trim_end_matches('.').to_ascii_lowercase()).ok()?;
        name.set_fqdn(true);
        Kind::Alias(name)
    } else {
        match spec.cluster_ip.as_deref() {
            Some("None") => Kind::Headless,
            Some(address) => Kind::Address(address.parse().ok()?),
            None => return None,
        }
    };
    let unready_too = spec.publish_not_ready_addresses == Some(true);
    let mut endpoints: Vec<Endpoint> = slices.flat_map(|slice| endpoints(slice, unready_too)).collect();
    endpoints.sort_by(|a, b| (a.address, &a.label).cmp(&(b.address, &b.label)));
    endpoints.dedup();
    Some(Service { kind, ports: ports.collect(), endpoints })
}

fn endpoints(slice: &discovery::EndpointSlice, unready_too: bool) -> Vec<Endpoint> {
    let ports = slice.ports.iter().flatten().filter_map(|p| {
        Some(Port { name: p.name.clone().unwrap_or_default(), protocol: lower(p.protocol.as_deref()), port: u16::try_from(p.port?).ok()? })
    });
    let ports: Arc<Vec<Port>> = Arc::new(ports.collect());
    let mut found = Vec::new();
    for endpoint in slice.endpoints.iter().flatten() {
        let ready = endpoint.conditions.as_ref().and_then(|c| c.ready) != Some(false);
        if !(ready || unready_too) {
            continue;
        }
        for address in endpoint.addresses.iter().filter_map(|a| a.parse::<Ipv4Addr>().ok()) {
            let label = endpoint.hostname.as_deref().filter(|h| !h.is_empty()).map_or_else(|| dashed(address), str::to_ascii_lowercase);
            found.push(Endpoint { address, label, ports: ports.clone() });
        }
    }
    found
}

fn lower(protocol: Option<&str>) -> String {
    protocol.unwrap_or("TCP").to_ascii_lowercase()
}
