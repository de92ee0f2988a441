//! Node.

use crate::columns::{AGE, NAME, NONE, or_none};
use crate::quantity::Quantity;
use crate::value::{Access, dig, fill};
use crate::{CauseReason, Column, Errors, Field, Path, names};
use serde_json::Value;
use std::collections::BTreeSet;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const TAINT_EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    Column::new("Status", "string", "Whether it is ready, and whether pods may be put on it.", status),
    Column::new("Roles", "string", "From its node-role.kubernetes.io labels.", |o, _| roles(o).into()),
    AGE,
    Column::new("Version", "string", "Of its agent.", |o, _| o.text("status.nodeInfo.kubeletVersion").into()),
    Column::new("Internal-IP", "string", "Its first internal address.", |o, _| address(o, "InternalIP")).wide(),
    Column::new("External-IP", "string", "Its first external address.", |o, _| address(o, "ExternalIP")).wide(),
    Column::new("OS-Image", "string", "Its operating system.", |o, _| info(o, "osImage")).wide(),
    Column::new("Kernel-Version", "string", "Its kernel.", |o, _| info(o, "kernelVersion")).wide(),
    Column::new("Container-Runtime", "string", "What runs its containers.", |o, _| info(o, "containerRuntimeVersion")).wide(),
];

pub(super) const FIELDS: &[Field] = &[Field { name: "spec.unschedulable", value: |o| o.flag("spec.unschedulable").to_string() }];

fn status(node: &Value, _: i64) -> Value {
    let ready = node.list("status.conditions").iter().find(|c| c.text("type") == "Ready").map(|c| c.text("status"));
    let mut words = vec![match ready {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if node.flag("spec.unschedulable") {
        words.push("SchedulingDisabled");
    }
    words.join(",").into()
}

fn roles(node: &Value) -> String {
    let mut roles = BTreeSet::new();
    for (key, value) in node.object("metadata.labels") {
        match key.strip_prefix(ROLE_PREFIX) {
            Some(role) if !role.is_empty() => drop(roles.insert(role)),
            None if key == "kubernetes.io/role" => drop(value.as_str().filter(|v| !v.is_empty()).map(|v| roles.insert(v))),
            _ => {}
        }
    }
    if roles.is_empty() { NONE.to_owned() } else { Vec::from_iter(roles).join(",") }
}

fn address(node: &Value, kind: &str) -> Value {
    or_none(node.list("status.addresses").iter().find(|a| a.text("type") == kind).map_or("", |a| a.text("address")))
}

fn info(node: &Value, field: &str) -> Value {
    match node.at("status.nodeInfo").text(field) {
        "" => "<unknown>".into(),
        text => text.into(),
    }
}

pub(super) fn default(node: &mut Value) {
    dig(node, "spec");
    let status = dig(node, "status");
    if status.has("capacity") && !status.has("allocatable") {
        let capacity = status.at("capacity").clone();
        fill(status, "allocatable", capacity);
    }
}

pub(super) fn validate(node: &Value, errors: &mut Errors) {
    // Upstream reports taints below metadata.
    let path = Path::new("metadata");
    let taints = path.at("taints");
    let mut seen = BTreeSet::new();
    for (i, taint) in node.list("spec.taints").iter().enumerate() {
        let at = taints.index(i);
        let (key, effect) = (taint.text("key"), taint.text("effect"));
        errors.rules(&at.at("key"), key, names::qualified_name);
        errors.rules(&at.at("value"), taint.text("value"), names::label_value);
        if effect.is_empty() {
            errors.required(at.at("effect"), "");
        } else {
            errors.one_of(at.at("effect"), effect, &TAINT_EFFECTS);
        }
        if !seen.insert((key, effect)) {
            let message = format!("Duplicate value: {taint}: taints must be unique by key and effect pair");
            errors.push(CauseReason::Duplicate, at, message);
        }
    }
    for field in ["capacity", "allocatable"] {
        let path = Path::new("status");
        let path = path.at(field);
        for (resource, quantity) in node.at("status").object(field) {
            if Quantity::of(quantity).is_negative() {
                errors.invalid(path.key(resource), quantity, "must be greater than or equal to 0");
            }
        }
    }
}

pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let provider = old.text("spec.providerID");
    if !provider.is_empty() && provider != new.text("spec.providerID") {
        errors.forbidden("spec.providerID", "node updates may not change providerID except from \"\" to valid");
    }
    let cidrs = old.list("spec.podCIDRs");
    if !cidrs.is_empty() && cidrs != new.list("spec.podCIDRs") {
        errors.forbidden("spec.podCIDRs", "node updates may not change podCIDR except from \"\" to valid");
    }
}
