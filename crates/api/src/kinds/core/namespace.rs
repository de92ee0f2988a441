//! Namespace. Its life cycle (Terminating, finalize) is the server's and the namespace controller's.

use crate::columns::{AGE, NAME};
use crate::value::{Access, dig, fill, fill_text, put, put_or_remove};
use crate::{Admission, Column, Errors, Field, Path, names};
use serde_json::{Value, json};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(super) const COLUMNS: &[Column] =
    &[NAME, Column::new("Status", "string", "Active, or Terminating while its objects go.", |o, _| o.text("status.phase").into()), AGE];

pub(super) const FIELDS: &[Field] = &[Field { name: "status.phase", value: |o| o.text("status.phase").to_owned() }];

pub(super) fn default(namespace: &mut Value) {
    let name = namespace.text("metadata.name").to_owned();
    if !name.is_empty() {
        fill(dig(namespace, "metadata.labels"), NAME_LABEL, name);
    }
    dig(namespace, "spec");
    fill_text(dig(namespace, "status"), "phase", "Active");
}

pub(super) fn prepare_create(namespace: &mut Value, _: &dyn Admission) {
    put(namespace, "status", json!({"phase": "Active"}));
    let finalizers = dig(namespace, "spec").as_object_mut().map(|spec| spec.entry("finalizers").or_insert_with(|| json!([])));
    if let Some(Value::Array(list)) = finalizers
        && !list.iter().any(|f| f == "kubernetes")
    {
        list.push("kubernetes".into());
    }
}

/// `spec.finalizers` changes through `/finalize` only.
pub(super) fn prepare_update(namespace: &mut Value, old: &Value) {
    let finalizers = old.at("spec.finalizers").clone();
    put_or_remove(dig(namespace, "spec"), "finalizers", Some(finalizers));
}

pub(super) fn validate(namespace: &Value, errors: &mut Errors) {
    let path = Path::new("spec.finalizers");
    for finalizer in namespace.list("spec.finalizers").iter().filter_map(Value::as_str) {
        errors.rules(&path, finalizer, names::qualified_name);
    }
}

pub(super) fn validate_status(new: &Value, _: &Value, errors: &mut Errors) {
    let (phase, deleted) = (new.text("status.phase"), new.has("metadata.deletionTimestamp"));
    if !deleted && phase != "Active" {
        errors.invalid_text("status.Phase", phase, "may only be 'Active' if `deletionTimestamp` is empty");
    }
    if deleted && phase != "Terminating" {
        errors.invalid_text("status.Phase", phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
    }
}
