//! What Deployments and ReplicaSets say alike: a selector, a template of pods that restart, counts (pkg/apis/apps/validation/validation.go).

use crate::columns::{self, containers};
use crate::value::Access;
use crate::{Column, Errors, Path, pod, selector};
use serde_json::Value;

pub(super) const CONTAINERS: Column = Column::new("Containers", "string", "The names of a pod's containers.", |o, _| containers(o.at("spec.template.spec"), "name").into()).wide();
pub(super) const IMAGES: Column = Column::new("Images", "string", "Their images.", |o, _| containers(o.at("spec.template.spec"), "image").into()).wide();
pub(super) const SELECTOR: Column = Column::new("Selector", "string", "Which pods belong to it.", |o, _| columns::or_none(&selector::text(o.at("spec.selector")))).wide();

/// A selector that says something. The words name Deployments for ReplicaSets too, as upstream.
pub(super) fn validate_selector(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let selector = spec.at("selector");
    if selector.is_null() {
        return errors.required(path, "");
    }
    selector::validate(selector, path, errors);
    if selector.object("matchLabels").is_empty() && selector.list("matchExpressions").is_empty() {
        errors.invalid(path, selector, "empty selector is invalid for deployment");
    }
}

/// Upstream: `ValidatePodTemplateSpecForReplicaSet`.
pub(super) fn validate_template(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let template = spec.at("template");
    if template.is_null() {
        return errors.required(path, "");
    }
    if !spec.at("selector").is_null() && !selector::matches(spec.at("selector"), template.object("metadata.labels")) {
        errors.invalid(path.at("metadata.labels"), template.at("metadata.labels"), "`selector` does not match template `labels`");
    }
    pod::validate::template(template, &[], path, errors);
    let restart = template.text("spec.restartPolicy");
    if restart != "Always" {
        errors.not_supported(path.at("spec.restartPolicy"), &restart.into(), &["Always"]);
    }
    if template.has("spec.activeDeadlineSeconds") {
        errors.forbidden(path.at("spec.activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicaSet is not Supported");
    }
}

/// The selector decides whose pods they are: it stays.
pub(super) fn keep_selector(new: &Value, old: &Value, errors: &mut Errors) {
    if !crate::value::same(new.at("spec.selector"), old.at("spec.selector")) {
        errors.invalid("spec.selector", new.at("spec.selector"), "field is immutable");
    }
}

/// Counts of a status: not negative, none of `parts` above `replicas`, and no more available than ready.
pub(super) fn validate_counts(status: &Value, parts: &[&'static str], others: &[&'static str], errors: &mut Errors) {
    let path = Path::new("status");
    for field in ["replicas"].iter().chain(parts).chain(others) {
        errors.non_negative(path.at(field), status.int(field));
    }
    let count = |field: &str| status.int(field).unwrap_or(0);
    for field in parts {
        if count(field) > count("replicas") {
            errors.invalid(path.at(field), &count(field).into(), "cannot be greater than status.replicas");
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        errors.invalid(path.at("availableReplicas"), &count("availableReplicas").into(), "cannot be greater than readyReplicas");
    }
}
