//! Where a pod may go: node selectors, affinity, tolerations, topology spread.

use crate::value::Access;
use crate::{Errors, Path, names, selector};
use serde_json::Value;

const TAINT_EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// `spec.affinity`.
pub(super) fn affinity(affinity: &Value, path: &Path<'_>, errors: &mut Errors) {
    let node = affinity.at("nodeAffinity");
    let at = path.at("nodeAffinity");
    if node.has(REQUIRED) {
        node_selector(node.at(REQUIRED), &at.at(REQUIRED), errors);
    }
    let list = at.at(PREFERRED);
    for (i, term) in node.list(PREFERRED).iter().enumerate() {
        let at = list.index(i);
        weight(term, &at, errors);
        node_selector_term(term.at("preference"), false, &at.at("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (terms, at) = (affinity.at(kind), path.at(kind));
        let list = at.at(REQUIRED);
        for (i, term) in terms.list(REQUIRED).iter().enumerate() {
            pod_affinity_term(term, &list.index(i), errors);
        }
        let list = at.at(PREFERRED);
        for (i, term) in terms.list(PREFERRED).iter().enumerate() {
            let at = list.index(i);
            weight(term, &at, errors);
            pod_affinity_term(term.at("podAffinityTerm"), &at.at("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Value, path: &Path<'_>, errors: &mut Errors) {
    let weight = term.int("weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(path.at("weight"), &weight.into(), "must be in the range 1-100");
    }
}

/// A required node selector, of a pod or of a volume.
pub(crate) fn node_selector(node_selector: &Value, path: &Path<'_>, errors: &mut Errors) {
    let terms = node_selector.list("nodeSelectorTerms");
    let list = path.at("nodeSelectorTerms");
    if terms.is_empty() {
        return errors.required(list, "must have at least one node selector term");
    }
    for (i, term) in terms.iter().enumerate() {
        node_selector_term(term, true, &list.index(i), errors);
    }
}

/// Preferred terms are allowed values that no label can have: they only never match.
fn node_selector_term(term: &Value, strict: bool, path: &Path<'_>, errors: &mut Errors) {
    let list = path.at("matchExpressions");
    for (i, requirement) in term.list("matchExpressions").iter().enumerate() {
        node_requirement(requirement, strict, &list.index(i), errors);
    }
    let list = path.at("matchFields");
    for (i, requirement) in term.list("matchFields").iter().enumerate() {
        let at = list.index(i);
        let (operator, values) = (requirement.text("operator"), requirement.list("values"));
        match operator {
            "In" | "NotIn" if values.len() != 1 => {
                errors.required(at.at("values"), "must be only one value when `operator` is 'In' or 'NotIn' for node field selector");
            }
            "In" | "NotIn" => {}
            _ => errors.invalid_text(at.at("operator"), operator, "not a valid selector operator"),
        }
        if requirement.text("key") != "metadata.name" {
            errors.invalid_text(at.at("key"), requirement.text("key"), "not a valid field selector key");
        }
    }
}

fn node_requirement(requirement: &Value, strict: bool, path: &Path<'_>, errors: &mut Errors) {
    let (operator, values) = (requirement.text("operator"), requirement.list("values"));
    match operator {
        "In" | "NotIn" if values.is_empty() => errors.required(path.at("values"), "must be specified when `operator` is 'In' or 'NotIn'"),
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.forbidden(path.at("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Gt" | "Lt" if values.len() != 1 => errors.required(path.at("values"), "must be specified single value when `operator` is 'Lt' or 'Gt'"),
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        _ => errors.invalid_text(path.at("operator"), operator, "not a valid selector operator"),
    }
    errors.rules(&path.at("key"), requirement.text("key"), names::qualified_name);
    if strict {
        let list = path.at("values");
        for (i, value) in values.iter().enumerate() {
            errors.rules(&list.index(i), value.as_str().unwrap_or(""), names::label_value);
        }
    }
}

fn pod_affinity_term(term: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["labelSelector", "namespaceSelector"] {
        selector::validate(term.at(field), &path.at(field), errors);
    }
    for namespace in term.list("namespaces").iter().filter_map(Value::as_str) {
        errors.rule(path.at("namespace"), namespace, names::dns_label);
    }
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = term.list(field);
        if !keys.is_empty() && !term.has("labelSelector") {
            errors.forbidden(path.at(field), "must not be specified when labelSelector is not set");
            continue;
        }
        let list = path.at(field);
        for (i, key) in keys.iter().enumerate() {
            errors.rules(&list.index(i), key.as_str().unwrap_or(""), names::qualified_name);
        }
    }
    let list = path.at("matchLabelKeys");
    for (i, key) in term.list("matchLabelKeys").iter().enumerate() {
        if term.list("mismatchLabelKeys").contains(key) {
            errors.invalid(list.index(i), key, "exists in both matchLabelKeys and mismatchLabelKeys");
        }
    }
    let key = term.text("topologyKey");
    if key.is_empty() {
        errors.required(path.at("topologyKey"), "can not be empty");
    }
    errors.rules(&path.at("topologyKey"), key, names::qualified_name);
}

/// `spec.tolerations`.
pub(super) fn tolerations(tolerations: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let at = path.index(i);
        let (key, operator, value, effect) =
            (toleration.text("key"), toleration.text("operator"), toleration.text("value"), toleration.text("effect"));
        if !key.is_empty() {
            errors.rules(&at.at("key"), key, names::qualified_name);
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid_text(at.at("operator"), operator, detail);
        }
        if toleration.has("tolerationSeconds") && effect != "NoExecute" {
            errors.invalid_text(at.at("effect"), effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator {
            "" | "Equal" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.invalid_text(at.at("operator"), value, &wrong.join(";"));
                }
            }
            "Exists" if !value.is_empty() => errors.invalid_text(at.at("operator"), value, "value must be empty when `operator` is 'Exists'"),
            "Exists" => {}
            _ => errors.not_supported(at.at("operator"), &operator.into(), &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            errors.one_of(at.at("effect"), effect, &TAINT_EFFECTS);
        }
    }
}

/// `spec.topologySpreadConstraints`.
pub(super) fn topology_spread(constraints: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (i, constraint) in constraints.iter().enumerate() {
        let at = path.index(i);
        let (key, action) = (constraint.text("topologyKey"), constraint.text("whenUnsatisfiable"));
        let skew = constraint.int("maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.invalid(at.at("maxSkew"), &skew.into(), "must be greater than zero");
        }
        if key.is_empty() {
            errors.required(at.at("topologyKey"), "can not be empty");
        }
        errors.one_of(at.at("whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]);
        if constraints[i + 1..].iter().any(|c| c.text("topologyKey") == key && c.text("whenUnsatisfiable") == action) {
            errors.duplicate(at.at("{topologyKey, whenUnsatisfiable}"), &format!("{{{key}, {action}}}").into());
        }
        if let Some(domains) = constraint.int("minDomains") {
            if domains <= 0 {
                errors.invalid(at.at("minDomains"), &domains.into(), "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.invalid(at.at("minDomains"), &domains.into(), &detail);
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(value) = constraint.at(policy).as_str() {
                errors.one_of(at.at(policy), value, &["Honor", "Ignore"]);
            }
        }
        match_label_keys(constraint, &at.at("matchLabelKeys"), errors);
        selector::validate(constraint.at("labelSelector"), &at.at("labelSelector"), errors);
    }
}

fn match_label_keys(constraint: &Value, path: &Path<'_>, errors: &mut Errors) {
    let keys = constraint.list("matchLabelKeys");
    if !keys.is_empty() && !constraint.has("labelSelector") {
        errors.forbidden(path, "must not be specified when labelSelector is not set");
    }
    let labels = constraint.object("labelSelector.matchLabels");
    let expressions = constraint.list("labelSelector.matchExpressions");
    for (i, key) in keys.iter().filter_map(Value::as_str).enumerate() {
        errors.rules(&path.index(i), key, names::qualified_name);
        if labels.contains_key(key) || expressions.iter().any(|e| e.text("key") == key) {
            errors.invalid_text(path.index(i), key, "exists in both matchLabelKeys and labelSelector");
        }
    }
}
