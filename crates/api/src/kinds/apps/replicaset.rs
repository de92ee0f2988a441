//! ReplicaSet: so many pods of one template.

use super::replicas::{CONTAINERS, IMAGES, SELECTOR, validate_counts, validate_selector, validate_template};
use crate::columns::{AGE, NAME};
use crate::value::{Access, dig, fill, put};
use crate::{Admission, Column, Errors, Path, pod};
use serde_json::{Value, json};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    Column::new("Desired", "integer", "Pods wished for.", |o, _| o.int("spec.replicas").unwrap_or(0).into()),
    Column::new("Current", "integer", "Pods that are there.", |o, _| o.int("status.replicas").unwrap_or(0).into()),
    Column::new("Ready", "integer", "Pods that are ready.", |o, _| o.int("status.readyReplicas").unwrap_or(0).into()),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) fn default(set: &mut Value) {
    let spec = dig(set, "spec");
    fill(spec, "replicas", 1);
    pod::default::template(dig(spec, "template"));
    fill(dig(set, "status"), "replicas", 0);
}

pub(super) fn prepare_create(set: &mut Value, _: &dyn Admission) {
    put(set, "status", json!({"replicas": 0}));
}

pub(super) fn validate(set: &Value, errors: &mut Errors) {
    let (spec, path) = (set.at("spec"), Path::new("spec"));
    for field in ["replicas", "minReadySeconds"] {
        errors.non_negative(path.at(field), spec.int(field));
    }
    validate_selector(spec, &path.at("selector"), errors);
    validate_template(spec, &path.at("template"), errors);
}

pub(super) fn validate_status(new: &Value, _: &Value, errors: &mut Errors) {
    validate_counts(new.at("status"), &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"], &["observedGeneration", "terminatingReplicas"], errors);
}

pub(super) fn warnings(set: &Value) -> Vec<String> {
    let mut all = Vec::new();
    pod::warnings::template(set.at("spec.template"), &Path::new("spec.template"), &mut all);
    all
}
