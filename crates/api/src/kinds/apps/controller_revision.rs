//! ControllerRevision: a template a controller once rolled out.

use crate::columns::{AGE, NAME, NONE};
use crate::value::{Access, same};
use crate::{Column, Errors};
use serde_json::Value;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    Column::new("Controller", "string", "Whose revision it is.", |o, _| controller(o).into()),
    Column::new("Revision", "string", "Its place in the history.", |o, _| o.int("revision").unwrap_or(0).into()),
    AGE,
];

/// `statefulset.apps/web`.
fn controller(revision: &Value) -> String {
    let Some(owner) = revision.list("metadata.ownerReferences").iter().find(|o| o.flag("controller")) else {
        return NONE.to_owned();
    };
    let kind = owner.text("kind").to_lowercase();
    match owner.text("apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", owner.text("name")),
        None => format!("{kind}/{}", owner.text("name")),
    }
}

pub(super) fn validate(revision: &Value, errors: &mut Errors) {
    if !revision.has("data") {
        errors.required("data", "data is mandatory");
    }
    errors.non_negative("revision", revision.int("revision"));
}

pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    if !same(new.at("data"), old.at("data")) {
        errors.invalid("data", new.at("data"), "field is immutable");
    }
}
