//! What both endpoint controllers know of a service and its pods.

pub(crate) use crate::pods::is_ready;

use crate::runner::Name;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mainstay_client::{Cache, selector};
use std::sync::Arc;

/// Label of endpoints of a headless service.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// A port at which a pod serves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) port: i32,
    pub(crate) protocol: String,
    pub(crate) app_protocol: Option<String>,
}

/// The selector of a service that has one and is not an alias; others' endpoints are their makers' business.
pub(crate) fn selector_of(service: &Service) -> Option<&selector::Labels> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().filter(|selector| !selector.is_empty())
}

/// `clusterIP: None`.
pub(crate) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// `spec.publishNotReadyAddresses`.
pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true)
}

/// Every service whose selector matches a pod.
pub(crate) fn services_of(services: &Cache<Service>, pod: &Pod, add: &mut dyn FnMut(Name)) {
    let labels = pod.metadata.labels.as_ref();
    for service in services.list_in(pod.metadata.namespace.as_deref().unwrap_or_default()) {
        if selector_of(&service).is_some_and(|wanted| selector::has_labels(wanted, labels)) {
            add(Name::of(&*service));
        }
    }
}

/// The pods that a service selects, by name.
pub(crate) fn pods_of(pods: &Cache<Pod>, service: &Service) -> Vec<Arc<Pod>> {
    let Some(wanted) = selector_of(service) else { return Vec::new() };
    let mut found = pods.list_in(service.metadata.namespace.as_deref().unwrap_or_default());
    found.retain(|pod| selector::has_labels(wanted, pod.metadata.labels.as_ref()));
    found
}

/// The address of a pod that may serve: it has one and has not ended. Upstream: `ShouldPodBeInEndpoints`.
pub(crate) fn address(pod: &Pod, with_terminating: bool) -> Option<&str> {
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) || (!with_terminating && pod.metadata.deletion_timestamp.is_some()) {
        return None;
    }
    status.pod_ip.as_deref().filter(|address| !address.is_empty())
}

/// The name that a pod has under a service: its hostname, if it says to belong to that very service.
pub(crate) fn hostname<'a>(pod: &'a Pod, service: &Service) -> Option<&'a str> {
    let spec = pod.spec.as_ref()?;
    let belongs = spec.subdomain.is_some() && spec.subdomain == service.metadata.name && pod.metadata.namespace == service.metadata.namespace;
    spec.hostname.as_deref().filter(|hostname| belongs && !hostname.is_empty())
}

/// What an endpoint says it is.
pub(crate) fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// Where a pod serves each port of a service; a named port that the pod does not have is left out. Sorted.
pub(crate) fn ports(pod: &Pod, service: &Service) -> Vec<Port> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let mut found: Vec<Port> = ports
        .iter()
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let number = target_port(pod, port, &protocol)?;
            Some(Port { name: port.name.clone().unwrap_or_default(), port: number, protocol, app_protocol: port.app_protocol.clone() })
        })
        .collect();
    found.sort();
    found
}

fn target_port(pod: &Pod, port: &ServicePort, protocol: &str) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars = spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
            let mut ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
            ports.find(|port| port.name.as_ref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol).map(|port| port.container_port)
        }
    }
}
