//! How a pod is named, in words and in events, and what it refers to.

use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, Volume};
use std::fmt;

/// A pod's identity. Shown as upstream does: `web-0_default(4b1c…)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PodRef {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}({})", self.name, self.namespace, self.uid)
    }
}

impl PodRef {
    pub(crate) fn of(pod: &Pod) -> Self {
        Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
        }
    }

    /// What an event about the pod refers to.
    pub(crate) fn object(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }

    /// What an event about one container refers to: `spec.containers{app}`.
    pub(crate) fn container_object(&self, pod: &Pod, container: &str) -> ObjectReference {
        let field = if init_containers(pod).iter().any(|c| c.name == container) { "initContainers" } else { "containers" };
        ObjectReference { field_path: Some(format!("spec.{field}{{{container}}}")), ..self.object() }
    }
}

pub(crate) fn containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().map_or(&[], |spec| &spec.containers)
}

pub(crate) fn init_containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or(&[])
}

pub(crate) fn volumes(pod: &Pod) -> &[Volume] {
    pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or(&[])
}

/// Init containers first, in order.
pub(crate) fn all_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    init_containers(pod).iter().chain(containers(pod))
}

pub(crate) fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    all_containers(pod).find(|c| c.name == name)
}

/// An init container that keeps running beside the others (KEP-753).
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

pub(crate) fn host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

/// Names of the claims the pod mounts, in its own namespace. An ephemeral volume's claim is `<pod>-<volume>`.
pub(crate) fn claims(pod: &Pod) -> Vec<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    volumes(pod)
        .iter()
        .filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(claim), _) => Some(claim.claim_name.clone()),
            (None, Some(_)) => Some(format!("{name}-{}", volume.name)),
            _ => None,
        })
        .collect()
}

/// Kinds whose change a pod may want to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Referenced {
    ConfigMap,
    Secret,
    Claim,
}

/// Whether the pod's volumes or environment use the named object of its namespace.
pub(crate) fn refers_to(pod: &Pod, kind: Referenced, name: &str) -> bool {
    match kind {
        Referenced::Claim => claims(pod).iter().any(|claim| claim == name),
        Referenced::ConfigMap => {
            volumes(pod).iter().any(|v| {
                v.config_map.as_ref().is_some_and(|c| c.name == name)
                    || projections(v).any(|p| p.config_map.as_ref().is_some_and(|c| c.name == name))
            }) || all_containers(pod).any(|c| {
                c.env_from.iter().flatten().any(|e| e.config_map_ref.as_ref().is_some_and(|r| r.name == name))
                    || env_sources(c).any(|s| s.config_map_key_ref.as_ref().is_some_and(|r| r.name == name))
            })
        }
        Referenced::Secret => {
            volumes(pod).iter().any(|v| {
                v.secret.as_ref().is_some_and(|s| s.secret_name.as_deref() == Some(name))
                    || projections(v).any(|p| p.secret.as_ref().is_some_and(|s| s.name == name))
            }) || all_containers(pod).any(|c| {
                c.env_from.iter().flatten().any(|e| e.secret_ref.as_ref().is_some_and(|r| r.name == name))
                    || env_sources(c).any(|s| s.secret_key_ref.as_ref().is_some_and(|r| r.name == name))
            }) || pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten()).any(|s| s.name == name)
        }
    }
}

fn projections(volume: &Volume) -> impl Iterator<Item = &k8s_openapi::api::core::v1::VolumeProjection> {
    volume.projected.iter().flat_map(|p| p.sources.iter().flatten())
}

fn env_sources(container: &Container) -> impl Iterator<Item = &k8s_openapi::api::core::v1::EnvVarSource> {
    container.env.iter().flatten().filter_map(|e| e.value_from.as_ref())
}

/// Upstream: `GetPodQOS` (pkg/apis/core/v1/helper/qos/qos.go).
pub(crate) fn qos_class(pod: &Pod) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for c in all_containers(pod) {
        let resources = c.resources.as_ref();
        for resource in ["cpu", "memory"] {
            let get = |limits: bool| {
                resources
                    .and_then(|r| if limits { r.limits.as_ref() } else { r.requests.as_ref() })
                    .and_then(|m| m.get(resource))
                    .and_then(|q| crate::quantity::milli(&q.0))
                    .filter(|v| *v > 0)
            };
            let (limit, request) = (get(true), get(false));
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|r| Some(r) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
