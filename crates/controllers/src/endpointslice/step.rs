//! Service, pods, slices → writes. Pure.

use crate::services::{HEADLESS, Port, address, hostname, is_headless, is_ready, ports, publishes_not_ready, selector_of, target};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Upstream: `--max-endpoints-per-slice`.
const SLICE_LIMIT: usize = 100;

/// One thing to do.
#[derive(Debug)]
pub(super) enum Write {
    Create(Box<EndpointSlice>),
    Update(Box<EndpointSlice>),
    Delete(Arc<EndpointSlice>),
}

fn endpoint(service: &Service, pod: &Pod, address: &str) -> Endpoint {
    let serving = is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let ready = publishes_not_ready(service) || (serving && !terminating);
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) }),
        hostname: hostname(pod, service).map(str::to_owned),
        node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        target_ref: Some(target(pod)),
        ..Endpoint::default()
    }
}

fn endpoint_ports(ports: &[Port]) -> Option<Vec<EndpointPort>> {
    let port = |port: &Port| EndpointPort {
        name: Some(port.name.clone()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    };
    (!ports.is_empty()).then(|| ports.iter().map(port).collect())
}

fn ports_of_slice(slice: &EndpointSlice) -> Vec<Port> {
    let port = |port: &EndpointPort| Port {
        name: port.name.clone().unwrap_or_default(),
        port: port.port.unwrap_or(0),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        app_protocol: port.app_protocol.clone(),
    };
    let mut ports: Vec<Port> = slice.ports.iter().flatten().map(port).collect();
    ports.sort();
    ports
}

/// The service's labels, and who made the slice for whom.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(SERVICE_NAME.to_owned(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

fn new_slice(service: &Service, ports: &[Port], endpoints: Vec<Endpoint>) -> EndpointSlice {
    let name = service.metadata.name.clone().unwrap_or_default();
    EndpointSlice {
        address_type: "IPv4".to_owned(),
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Service".to_owned(),
                name,
                uid: service.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        endpoints: Some(endpoints),
        ports: endpoint_ports(ports),
    }
}

fn key(endpoint: &Endpoint) -> Option<&str> {
    endpoint.target_ref.as_ref()?.uid.as_deref()
}

/// What to write so that the slices say what the pods are. Endpoints stay in their slice; new ones fill the slices there are before another is made.
pub(super) fn step(service: &Service, pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>]) -> Vec<Write> {
    if selector_of(service).is_none() || service.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let mut wanted: BTreeMap<Vec<Port>, Vec<Endpoint>> = BTreeMap::new();
    for pod in pods {
        if let Some(address) = address(pod, true).filter(|address| address.parse::<Ipv4Addr>().is_ok()) {
            wanted.entry(ports(pod, service)).or_default().push(endpoint(service, pod, address));
        }
    }
    let mut usable: Vec<&Arc<EndpointSlice>> = slices.iter().filter(|slice| slice.address_type == "IPv4").collect();
    usable.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    if wanted.is_empty() {
        // An empty service keeps a slice, so that readers can tell "no endpoints" from "not looked at yet"; the one it has, if it has any.
        wanted.insert(usable.first().map(|slice| ports_of_slice(slice)).unwrap_or_default(), Vec::new());
    }
    let mut writes = Vec::new();
    for (ports, endpoints) in wanted {
        let (mine, others) = usable.into_iter().partition(|slice| ports_of_slice(slice) == ports);
        usable = others;
        group(service, &ports, endpoints, mine, &mut writes);
    }
    writes.extend(usable.into_iter().map(|slice| Write::Delete(slice.clone())));
    writes
}

/// One set of ports: its endpoints into its slices.
fn group(service: &Service, ports: &[Port], endpoints: Vec<Endpoint>, slices: Vec<&Arc<EndpointSlice>>, writes: &mut Vec<Write>) {
    let mut left: HashMap<String, Endpoint> = endpoints.iter().filter_map(|endpoint| Some((key(endpoint)?.to_owned(), endpoint.clone()))).collect();
    let mut contents: Vec<Vec<Endpoint>> = slices
        .iter()
        .map(|slice| slice.endpoints.iter().flatten().filter_map(|endpoint| left.remove(key(endpoint)?)).collect())
        .collect();
    // In the pods' order, which is by name: `left` alone has none.
    let mut fresh = endpoints.into_iter().filter(|endpoint| key(endpoint).is_some_and(|key| left.contains_key(key))).peekable();
    for content in &mut contents {
        content.extend(fresh.by_ref().take(SLICE_LIMIT.saturating_sub(content.len())));
    }
    let kept = contents.iter().filter(|content| !content.is_empty()).count();
    let mut spare = usize::from(kept == 0 && fresh.peek().is_none());
    for (slice, content) in slices.iter().zip(contents) {
        if content.is_empty() && spare == 0 {
            writes.push(Write::Delete((*slice).clone()));
            continue;
        }
        if content.is_empty() {
            spare = 0;
        }
        let mut next = EndpointSlice::clone(slice);
        next.endpoints = Some(content);
        next.metadata.labels = Some(labels(service));
        let unchanged = next.metadata.labels == slice.metadata.labels && next.endpoints.as_deref() == Some(slice.endpoints.as_deref().unwrap_or_default());
        if !unchanged {
            writes.push(Write::Update(Box::new(next)));
        }
    }
    while fresh.peek().is_some() || (spare > 0 && slices.is_empty()) {
        spare = 0;
        writes.push(Write::Create(Box::new(new_slice(service, ports, fresh.by_ref().take(SLICE_LIMIT).collect()))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_client::Resource;
    use serde_json::json;

    /// `a 10.0.0.1 Ready`, flags as words.
    fn pod(line: &str) -> Arc<Pod> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let has = |flag: &str| words.contains(&flag);
        let phase = if has("Failed") { "Failed" } else { "Running" };
        let mut metadata = json!({"name": words[0], "namespace": "default", "uid": words[0], "labels": {"app": "web"}});
        if has("Terminating") {
            metadata["deletionTimestamp"] = json!("2026-01-31T12:00:00Z");
        }
        let ports = if has("http=8080") { json!([{"name": "http", "containerPort": 8080}]) } else { json!([{"name": "http", "containerPort": 80}]) };
        let value = json!({"metadata": metadata, "spec": {"hostname": words[0], "subdomain": "web", "nodeName": "n1", "containers": [{"name": "c", "ports": ports}]},
            "status": {"phase": phase, "podIP": if words[1] == "-" { "" } else { words[1] }, "conditions": [{"type": "Ready", "status": if has("Ready") { "True" } else { "False" }}]}});
        Arc::new(Pod::from_value(&value).expect("a pod"))
    }

    fn service(flags: &str) -> Service {
        let mut spec = json!({"selector": {"app": "web"}, "clusterIP": if flags.contains("headless") { "None" } else { "10.96.0.7" },
            "publishNotReadyAddresses": flags.contains("publish"), "ports": [{"name": "http", "port": 80, "targetPort": "http"}]});
        if flags.contains("portless") {
            spec["ports"] = json!([]);
        }
        if flags.contains("no-selector") {
            spec["selector"] = json!(null);
        }
        Service::from_value(&json!({"metadata": {"name": "web", "namespace": "default", "uid": "s", "labels": {"tier": "front"}}, "spec": spec})).expect("a service")
    }

    fn show(slice: &EndpointSlice) -> String {
        let endpoint = |endpoint: &Endpoint| {
            let conditions = endpoint.conditions.as_ref().expect("conditions");
            let letter = |yes: Option<bool>, letter: char| if yes == Some(true) { letter } else { '-' };
            let letters: String = [letter(conditions.ready, 'r'), letter(conditions.serving, 's'), letter(conditions.terminating, 't')].iter().collect();
            format!("{}={}/{letters}", endpoint.hostname.as_deref().unwrap_or("?"), endpoint.addresses[0])
        };
        let ports: Vec<String> = slice.ports.iter().flatten().filter_map(|port| port.port).map(|port| port.to_string()).collect();
        let endpoints: Vec<String> = slice.endpoints.iter().flatten().map(endpoint).collect();
        format!(":{} {}", ports.join(","), endpoints.join(" "))
    }

    fn check(service_flags: &str, pods: &[&str], expected: &[&str]) {
        let pods: Vec<Arc<Pod>> = pods.iter().map(|line| pod(line)).collect();
        let found: Vec<String> = step(&service(service_flags), &pods, &[])
            .iter()
            .map(|write| match write {
                Write::Create(slice) => show(slice).trim().to_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(found, expected, "{service_flags} {pods:?}");
    }

    #[test]
    fn an_endpoint_says_whether_it_is_ready_serving_or_terminating() {
        check("", &["a 10.0.0.1 Ready", "b 10.0.0.2", "c 10.0.0.3 Ready Terminating"], &[":80 a=10.0.0.1/rs- b=10.0.0.2/--- c=10.0.0.3/-st"]);
        check("publish", &["a 10.0.0.1", "b 10.0.0.2 Ready Terminating"], &[":80 a=10.0.0.1/r-- b=10.0.0.2/rst"]);
        check("", &["a - Ready", "b 10.0.0.2 Failed"], &[":"]);
        check("no-selector", &["a 10.0.0.1 Ready"], &[]);
    }

    #[test]
    fn pods_with_other_ports_are_in_other_slices_and_a_headless_service_needs_none() {
        check("", &["a 10.0.0.1 Ready", "b 10.0.0.2 Ready http=8080"], &[":80 a=10.0.0.1/rs-", ":8080 b=10.0.0.2/rs-"]);
        check("headless portless", &["a 10.0.0.1 Ready"], &[": a=10.0.0.1/rs-"]);
    }

    #[test]
    fn a_slice_names_its_service_and_maker() {
        let Write::Create(slice) = &step(&service("headless"), &[], &[])[0] else { panic!("created") };
        let labels: Vec<String> = slice.metadata.labels.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(labels, ["endpointslice.kubernetes.io/managed-by=endpointslice-controller.k8s.io", "kubernetes.io/service-name=web", "service.kubernetes.io/headless=", "tier=front"]);
        assert_eq!(slice.metadata.generate_name.as_deref(), Some("web-"));
    }

    /// Applies the writes to the slices and returns how many there were.
    fn settle(service: &Service, pods: &[Arc<Pod>], slices: &mut Vec<Arc<EndpointSlice>>) -> usize {
        let writes = step(service, pods, slices);
        let count = writes.len();
        for write in writes {
            match write {
                Write::Create(mut slice) => {
                    slice.metadata.name = Some(format!("web-{}", slices.len()));
                    slices.push(Arc::from(slice));
                }
                Write::Update(slice) => {
                    let place = slices.iter().position(|one| one.metadata.name == slice.metadata.name).expect("there");
                    slices[place] = Arc::from(slice);
                }
                Write::Delete(slice) => slices.retain(|one| one.metadata.name != slice.metadata.name),
            }
        }
        count
    }

    #[test]
    fn endpoints_stay_where_they_are_and_slices_hold_a_hundred() {
        let service = service("");
        let pods: Vec<Arc<Pod>> = (0..250).map(|n| pod(&format!("p{n} 10.0.{}.{} Ready", n / 200, n % 200))).collect();
        let mut slices = Vec::new();
        assert_eq!(settle(&service, &pods, &mut slices), 3);
        assert_eq!(slices.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).collect::<Vec<_>>(), [100, 100, 50]);
        assert_eq!(settle(&service, &pods, &mut slices), 0, "nothing changed, nothing written");
        let without: Vec<Arc<Pod>> = pods.iter().filter(|pod| pod.metadata.name.as_deref() != Some("p150")).cloned().collect();
        assert_eq!(settle(&service, &without, &mut slices), 1, "one slice of three");
        assert_eq!(settle(&service, &pods, &mut slices), 1);
        assert_eq!(settle(&service, &pods[..90], &mut slices), 3);
        assert_eq!(settle(&service, &[], &mut slices), 1);
        assert_eq!(slices.len(), 1, "an empty service keeps a slice");
        assert_eq!(settle(&service, &[], &mut slices), 0);
    }
}
