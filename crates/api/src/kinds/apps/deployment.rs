//! Deployment: defaults (pkg/apis/apps/v1/defaults.go), columns, rules (pkg/apis/apps/validation/validation.go).

use super::replicas::{CONTAINERS, IMAGES, SELECTOR, keep_selector, validate_counts, validate_selector, validate_template};
use crate::columns::{AGE, NAME};
use crate::value::{Access, dig, fill, fill_text, put, put_or_remove};
use crate::{Admission, Column, Errors, Path, pod};
use serde_json::{Value, json};

const PERCENT_MESSAGE: &str =
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    Column::new("Ready", "string", "Pods that are ready, of those wished for.", |o, _| {
        format!("{}/{}", o.int("status.readyReplicas").unwrap_or(0), o.int("spec.replicas").unwrap_or(0)).into()
    }),
    Column::new("Up-to-date", "string", "Pods of the newest template.", |o, _| o.int("status.updatedReplicas").unwrap_or(0).into()),
    Column::new("Available", "string", "Pods that have been ready long enough.", |o, _| o.int("status.availableReplicas").unwrap_or(0).into()),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) fn default(deployment: &mut Value) {
    let spec = dig(deployment, "spec");
    fill(spec, "replicas", 1);
    let strategy = dig(spec, "strategy");
    fill_text(strategy, "type", "RollingUpdate");
    if strategy.text("type") == "RollingUpdate" {
        let rolling = dig(strategy, "rollingUpdate");
        fill(rolling, "maxUnavailable", "25%");
        fill(rolling, "maxSurge", "25%");
    }
    fill(spec, "revisionHistoryLimit", 10);
    fill(spec, "progressDeadlineSeconds", 600);
    pod::default::template(dig(spec, "template"));
    dig(deployment, "status");
}

pub(super) fn prepare_create(deployment: &mut Value, _: &dyn Admission) {
    put(deployment, "status", json!({}));
}

/// A status update may set annotations (the revision), but no labels.
pub(super) fn prepare_status(new: &mut Value, old: &Value) {
    put_or_remove(dig(new, "metadata"), "labels", Some(old.at("metadata.labels").clone()));
}

pub(super) fn validate(deployment: &Value, errors: &mut Errors) {
    let (spec, path) = (deployment.at("spec"), Path::new("spec"));
    errors.non_negative(path.at("replicas"), spec.int("replicas"));
    validate_selector(spec, &path.at("selector"), errors);
    validate_template(spec, &path.at("template"), errors);
    validate_strategy(spec.at("strategy"), &path.at("strategy"), errors);
    for field in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        errors.non_negative(path.at(field), spec.int(field));
    }
    if let Some(deadline) = spec.int("progressDeadlineSeconds").filter(|deadline| *deadline <= spec.int("minReadySeconds").unwrap_or(0)) {
        errors.invalid(path.at("progressDeadlineSeconds"), &deadline.into(), "must be greater than minReadySeconds");
    }
}

fn validate_strategy(strategy: &Value, path: &Path<'_>, errors: &mut Errors) {
    match strategy.text("type") {
        "Recreate" if strategy.has("rollingUpdate") => errors.forbidden(path.at("rollingUpdate"), "may not be specified when strategy `type` is 'Recreate'"),
        "Recreate" => {}
        "RollingUpdate" => validate_rolling(strategy.at("rollingUpdate"), &path.at("rollingUpdate"), errors),
        other => errors.not_supported(path.at("type"), &other.into(), &["Recreate", "RollingUpdate"]),
    }
}

fn validate_rolling(rolling: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["maxUnavailable", "maxSurge"] {
        let value = rolling.at(field);
        match value.as_str() {
            Some(text) if percent(text).is_none() => errors.invalid(path.at(field), value, PERCENT_MESSAGE),
            Some(_) => {}
            None => errors.non_negative(path.at(field), value.as_i64()),
        }
    }
    if number(rolling.at("maxUnavailable")) == 0 && number(rolling.at("maxSurge")) == 0 {
        errors.invalid(path.at("maxUnavailable"), rolling.at("maxUnavailable"), "may not be 0 when `maxSurge` is 0");
    }
    if rolling.text("maxUnavailable").len() > 1 && percent(rolling.text("maxUnavailable")).is_some_and(|percent| percent > 100) {
        errors.invalid(path.at("maxUnavailable"), rolling.at("maxUnavailable"), "must not be greater than 100%");
    }
}

/// `25%` → 25.
fn percent(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('%').filter(|digits| !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()))?;
    Some(digits.parse().unwrap_or(i64::MAX))
}

fn number(value: &Value) -> i64 {
    value.as_str().map_or_else(|| value.as_i64().unwrap_or(0), |text| percent(text).unwrap_or(0))
}

pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    keep_selector(new, old, errors);
}

pub(super) fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    let status = new.at("status");
    let others = ["unavailableReplicas", "observedGeneration", "collisionCount", "terminatingReplicas"];
    validate_counts(status, &["updatedReplicas", "readyReplicas", "availableReplicas"], &others, errors);
    let collisions = status.int("collisionCount").unwrap_or(0);
    if old.int("status.collisionCount").is_some_and(|before| collisions < before) {
        errors.invalid("status.collisionCount", &collisions.into(), "cannot be decremented");
    }
}

pub(super) fn warnings(deployment: &Value) -> Vec<String> {
    let mut all = Vec::new();
    pod::warnings::template(deployment.at("spec.template"), &Path::new("spec.template"), &mut all);
    all
}
