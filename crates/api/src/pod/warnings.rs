//! What is legal and hardly meant. The first part is upstream's (pkg/api/pod/warnings.go); the second says aloud where
//! Kubernetes would do something else than the writer expects, in silence.

use crate::quantity::Quantity;
use crate::value::Access;
use crate::{Path, names};
use serde_json::Value;
use std::collections::BTreeMap;

const RENAMED_LABELS: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
];

/// A Pod.
pub(crate) fn pod(pod: &Value) -> Vec<String> {
    let mut all = Vec::new();
    spec(pod.at("spec"), &Path::new("spec"), &mut all);
    all
}

/// A pod template.
pub(crate) fn template(template: &Value, path: &Path<'_>, all: &mut Vec<String>) {
    spec(template.at("spec"), &path.at("spec"), all);
}

fn spec(spec: &Value, path: &Path<'_>, all: &mut Vec<String>) {
    let selector = path.at("nodeSelector");
    for (old, since, new) in RENAMED_LABELS {
        if spec.object("nodeSelector").contains_key(old) {
            all.push(format!("{}: deprecated since {since}; use {new:?} instead", selector.key(old)));
        }
    }
    let list = path.at("imagePullSecrets");
    for (i, secret) in spec.list("imagePullSecrets").iter().enumerate() {
        if secret.text("name").is_empty() {
            all.push(format!("{}: invalid empty name \"\"", list.index(i)));
        }
    }
    if spec.int("terminationGracePeriodSeconds").is_some_and(|s| s < 0) {
        all.push(format!("{}: must be >= 0; negative values are invalid and will be treated as 1", path.at("terminationGracePeriodSeconds")));
    }
    for list in ["initContainers", "containers"] {
        let path = path.at(list);
        for (i, container) in spec.list(list).iter().enumerate() {
            self::container(container, &path.index(i), all);
        }
    }
}

fn container(container: &Value, path: &Path<'_>, all: &mut Vec<String>) {
    ports(container, &path.at("ports"), all);
    for side in ["requests", "limits"] {
        let at = path.at("resources");
        let at = at.at(side);
        for resource in ["memory", "ephemeral-storage"] {
            let value = container.at("resources").at(side).get(resource).unwrap_or(&Value::Null);
            if !value.is_null() && !Quantity::of(value).is_integer() {
                all.push(format!("{}: fractional byte value {value} is invalid, must be an integer", at.key(resource)));
            }
        }
    }
    environment(container, &path.at("env"), all);
}

fn ports(container: &Value, path: &Path<'_>, all: &mut Vec<String>) {
    let ports = container.list("ports");
    for (i, port) in ports.iter().enumerate() {
        let same = |p: &&Value| ["containerPort", "protocol"].iter().all(|f| p.at(f) == port.at(f));
        let Some(first) = ports[..i].iter().position(|p| same(&p)) else { continue };
        if ports[first].at("hostPort") == port.at("hostPort") && ports[first].at("hostIP") == port.at("hostIP") {
            all.push(format!("{}: duplicate port definition with {}", path.index(i), path.index(first)));
        }
    }
}

fn environment(container: &Value, path: &Path<'_>, all: &mut Vec<String>) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let open = !container.list("envFrom").is_empty();
    for (i, variable) in container.list("env").iter().enumerate() {
        let (name, value) = (variable.text("name"), variable.text("value"));
        let refers_to_itself = value.contains(&format!("$({name})"));
        if seen.contains_key(name) && !refers_to_itself {
            all.push(format!("{}: hides previous definition of {name:?}, which may be dropped when using apply", path.index(i)));
        }
        for reference in references(value) {
            let at = path.index(i);
            if names::environment_name(reference).is_err() || reference.contains([' ', '"', '[', '$', '|', '`', '\'']) {
                all.push(format!("{}: no shell runs \"$({reference})\"; the container gets it as it is written", at.at("value")));
            } else if !open && !seen.contains_key(reference) && !from_services(reference) {
                all.push(format!("{}: $({reference}) stays as it is written: no variable of that name is defined before it", at.at("value")));
            }
        }
        seen.insert(name, i);
    }
}

/// The names in `$(…)`; `$$(` is an escape.
fn references(value: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = value;
    while let Some(start) = rest.find('$') {
        let after = &rest[start + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            rest = escaped;
        } else if let Some(inside) = after.strip_prefix('(') {
            let Some(end) = inside.find(')') else { break };
            found.push(&inside[..end]);
            rest = &inside[end + 1..];
        } else {
            rest = after;
        }
    }
    found
}

/// Variables that services of the namespace give every container.
fn from_services(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || name.contains("_PORT")
}
