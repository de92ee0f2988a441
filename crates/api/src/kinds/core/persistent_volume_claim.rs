//! PersistentVolumeClaim; its spec also stands in a StatefulSet's claim templates.

use super::persistent_volume::{add_finalizer, attributes_class, class, mode};
use crate::columns::{AGE, NAME, access_modes};
use crate::value::{Access, dig, fill, fill_text, put};
use crate::{Admission, Column, Errors, Refusal};
use serde_json::{Value, json};

const PROTECTION: &str = "kubernetes.io/pvc-protection";

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    Column::new("Status", "string", "Bound, or still waiting for a volume.", |o, _| {
        if o.has("metadata.deletionTimestamp") { "Terminating".into() } else { o.text("status.phase").into() }
    }),
    Column::new("Volume", "string", "The volume it has.", |o, _| o.text("spec.volumeName").into()),
    Column::new("Capacity", "string", "The volume's size.", |o, _| if_bound(o, |o| o.text("status.capacity.storage").to_owned())),
    Column::new("Access Modes", "string", "How the volume may be mounted.", |o, _| if_bound(o, |o| access_modes(o.list("status.accessModes")))),
    Column::new("StorageClass", "string", "Its class.", |o, _| class(o).into()),
    Column::new("VolumeAttributesClass", "string", "Its attributes' class.", |o, _| attributes_class(o)),
    AGE,
    Column::new("VolumeMode", "string", "File system or block device.", |o, _| mode(o)).wide(),
];

fn if_bound(claim: &Value, cell: fn(&Value) -> String) -> Value {
    if claim.text("spec.volumeName").is_empty() { "".into() } else { cell(claim).into() }
}

pub(crate) fn default(claim: &mut Value) {
    let spec = dig(claim, "spec");
    fill(spec, "volumeMode", "Filesystem");
    fill(spec, "resources", json!({}));
    same_data_source(spec);
    fill_text(dig(claim, "status"), "phase", "Pending");
}

/// `dataSource` and `dataSourceRef` say the same unless the second names a namespace.
fn same_data_source(spec: &mut Value) {
    let (plain, reference) = (spec.at("dataSource").clone(), spec.at("dataSourceRef").clone());
    if !plain.is_null() && reference.is_null() {
        put(spec, "dataSourceRef", plain);
    } else if plain.is_null() && !reference.is_null() && reference.text("namespace").is_empty() {
        put(spec, "dataSource", reference);
    }
}

pub(super) fn prepare_create(claim: &mut Value, _: &dyn Admission) {
    put(claim, "status", json!({"phase": "Pending"}));
    add_finalizer(claim, PROTECTION);
}

pub(super) fn admit(_claim: &mut Value, _old: Option<&Value>, _world: &dyn Admission) -> Result<(), Refusal> {
    Ok(())
}

pub(super) fn validate(_claim: &Value, _errors: &mut Errors) {}

pub(super) fn validate_update(_new: &Value, _old: &Value, _errors: &mut Errors) {}

pub(super) fn validate_status(_new: &Value, _old: &Value, _errors: &mut Errors) {}

pub(super) fn warnings(_claim: &Value) -> Vec<String> {
    Vec::new()
}
