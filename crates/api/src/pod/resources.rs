//! Requests and limits.

use crate::quantity::Quantity;
use crate::value::Access;
use crate::{Errors, Path, names};
use serde_json::Value;

const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Unprefixed names that exist, though a container cannot ask for them.
const KNOWN_ELSEWHERE: [&str; 14] = [
    "storage", "pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps", "persistentvolumeclaims",
    "services.nodeports", "services.loadbalancers", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory",
];

/// Extended resources belong to some vendor; the others are the system's own.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Only what can be taken back may be promised twice.
fn may_be_overcommitted(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

fn resource_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let wrong = names::qualified_name(name);
    if !wrong.is_empty() {
        wrong.iter().for_each(|detail| errors.invalid_text(path, name, detail));
        return;
    }
    if name.contains('/') {
        if !is_native(name) && name.starts_with("requests.") {
            errors.invalid_text(path, name, "doesn't follow extended resource name standard");
        }
        return;
    }
    if STANDARD.contains(&name) || is_huge_pages(name) {
        return;
    }
    if !KNOWN_ELSEWHERE.contains(&name) {
        errors.invalid_text(path, name, "must be a standard resource type or fully qualified");
    }
    errors.invalid_text(path, name, "must be a standard resource for containers");
}

fn quantity(name: &str, value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let quantity = Quantity::of(value);
    if quantity.is_negative() {
        errors.invalid(path, value, "must be greater than or equal to 0");
    }
    if !is_native(name) && !quantity.is_integer() {
        errors.invalid(path, value, "must be an integer");
    }
}

/// `resources` of a container.
pub(super) fn requirements(resources: &Value, spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (limits, requests) = (resources.object("limits"), resources.object("requests"));
    let (limits_path, requests_path) = (path.at("limits"), path.at("requests"));
    for (name, value) in limits {
        resource_name(name, &limits_path.key(name), errors);
        quantity(name, value, &limits_path.key(name), errors);
    }
    for (name, value) in requests {
        resource_name(name, &requests_path.key(name), errors);
        quantity(name, value, &requests_path.key(name), errors);
        match limits.get(name) {
            Some(limit) => {
                let order = Quantity::compare(value, limit);
                let shown = limit.as_str().map_or_else(|| limit.to_string(), str::to_owned);
                if order.is_ne() && !may_be_overcommitted(name) {
                    errors.invalid(requests_path, value, &format!("must be equal to {name} limit of {shown}"));
                } else if order.is_gt() {
                    errors.invalid(requests_path, value, &format!("must be less than or equal to {name} limit of {shown}"));
                }
            }
            None if !may_be_overcommitted(name) => errors.required(limits_path, "Limit must be set for non overcommitable resources"),
            None => {}
        }
    }
    let any = |wanted: fn(&str) -> bool| limits.keys().chain(requests.keys()).any(|name| wanted(name));
    if any(is_huge_pages) && !any(|name| name == "cpu" || name == "memory") {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
    claims(resources.list("claims"), spec, &path.at("claims"), errors);
}

fn claims(claims: &[Value], spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (i, claim) in claims.iter().enumerate() {
        let name = claim.text("name");
        if name.is_empty() {
            errors.required(path.index(i), "");
        } else if !spec.list("resourceClaims").iter().any(|c| c.text("name") == name) {
            errors.not_found(path.index(i), &name.into());
        }
    }
}
