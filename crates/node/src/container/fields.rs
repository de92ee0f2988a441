//! The downward API: a pod's own fields and resources as text.

use crate::pod::reference;
use crate::quantity;
use k8s_openapi::api::core::v1::{ObjectFieldSelector, Pod, ResourceFieldSelector};
use std::collections::BTreeMap;

/// What the object does not know of the pod yet, or never holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    pub(crate) pod_ip: String,
    pub(crate) node_ip: String,
    /// For containers without a limit.
    pub(crate) node_cpu_milli: i128,
    pub(crate) node_memory_bytes: i128,
    pub(crate) node_disk_bytes: i128,
}

/// Upstream: `FieldPath` selectors (pkg/fieldpath/fieldpath.go).
pub(crate) fn field(pod: &Pod, selector: &ObjectFieldSelector, around: &Surroundings) -> Result<String, String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |value: Option<&String>| Ok(value.cloned().unwrap_or_default());
    let path = selector.field_path.as_str();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        return match map {
            "metadata.labels" => text(meta.labels.as_ref().and_then(|m| m.get(key))),
            "metadata.annotations" => text(meta.annotations.as_ref().and_then(|m| m.get(key))),
            _ => Err(format!("unsupported fieldPath: {path}")),
        };
    }
    match path {
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => text(meta.namespace.as_ref()),
        "metadata.uid" => text(meta.uid.as_ref()),
        "metadata.labels" => Ok(lines(meta.labels.as_ref())),
        "metadata.annotations" => Ok(lines(meta.annotations.as_ref())),
        "spec.nodeName" => text(spec.and_then(|s| s.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" | "status.hostIPs" => Ok(around.node_ip.clone()),
        "status.podIP" | "status.podIPs" => Ok(around.pod_ip.clone()),
        _ => Err(format!("unsupported fieldPath: {path}")),
    }
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    map.into_iter().flatten().map(|(k, v)| format!("{k}={v:?}")).collect::<Vec<_>>().join("\n")
}

/// Upstream: `ExtractContainerResourceValue` (pkg/api/v1/resource/helpers.go). Rounded up to whole divisors.
pub(crate) fn resource(pod: &Pod, container: &str, selector: &ResourceFieldSelector, around: &Surroundings) -> Result<String, String> {
    let name = selector.container_name.as_deref().filter(|n| !n.is_empty()).unwrap_or(container);
    let container = reference::container(pod, name).ok_or_else(|| format!("container {name:?} not found in pod"))?;
    let resources = container.resources.as_ref();
    let (kind, resource) = selector.resource.split_once('.').ok_or_else(|| format!("unsupported container resource : {}", selector.resource))?;
    let map = resources.and_then(|r| if kind == "limits" { r.limits.as_ref() } else { r.requests.as_ref() });
    let set = map.and_then(|m| m.get(resource)).and_then(|q| quantity::milli(&q.0)).filter(|v| *v > 0);
    let value = set.unwrap_or_else(|| match (kind, resource) {
        ("limits", "cpu") => around.node_cpu_milli,
        ("limits", "memory") => around.node_memory_bytes.saturating_mul(1000),
        ("limits", "ephemeral-storage") => around.node_disk_bytes.saturating_mul(1000),
        _ => 0,
    });
    let divisor = selector.divisor.as_ref().and_then(|q| quantity::milli(&q.0)).filter(|d| *d > 0).unwrap_or(1000);
    Ok((value / divisor + i128::from(value % divisor != 0)).to_string())
}
