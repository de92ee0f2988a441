//! PersistentVolume.

use crate::columns::{AGE, NAME, access_modes};
use crate::value::{Access, dig, fill, fill_text, find_mut, put};
use crate::{Admission, Column, Errors};
use serde_json::{Value, json};

const PROTECTION: &str = "kubernetes.io/pv-protection";

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    Column::new("Capacity", "string", "Its size.", |o, _| o.text("spec.capacity.storage").into()),
    Column::new("Access Modes", "string", "How it may be mounted.", |o, _| access_modes(o.list("spec.accessModes")).into()),
    Column::new("Reclaim Policy", "string", "What happens to it when its claim goes.", |o, _| o.text("spec.persistentVolumeReclaimPolicy").into()),
    Column::new("Status", "string", "Where it is in its life.", |o, _| {
        if o.has("metadata.deletionTimestamp") { "Terminating".into() } else { o.text("status.phase").into() }
    }),
    Column::new("Claim", "string", "Whose it is.", |o, _| match o.at("spec.claimRef") {
        Value::Null => "".into(),
        claim => format!("{}/{}", claim.text("namespace"), claim.text("name")).into(),
    }),
    Column::new("StorageClass", "string", "Its class.", |o, _| class(o).into()),
    Column::new("VolumeAttributesClass", "string", "Its attributes' class.", |o, _| attributes_class(o)),
    Column::new("Reason", "string", "Why it is in this state.", |o, _| o.text("status.reason").into()),
    AGE,
    Column::new("VolumeMode", "string", "File system or block device.", |o, _| mode(o)).wide(),
];

/// The class of a volume or claim; the annotation is older than the field.
pub(super) fn class(object: &Value) -> &str {
    let annotation = object.object("metadata.annotations").get("volume.beta.kubernetes.io/storage-class").and_then(Value::as_str);
    annotation.unwrap_or_else(|| object.text("spec.storageClassName"))
}

pub(super) fn attributes_class(object: &Value) -> Value {
    match object.text("spec.volumeAttributesClassName") {
        "" => "<unset>".into(),
        name => name.into(),
    }
}

pub(super) fn mode(object: &Value) -> Value {
    match object.text("spec.volumeMode") {
        "" => "<unset>".into(),
        mode => mode.into(),
    }
}

pub(super) fn default(volume: &mut Value) {
    let spec = dig(volume, "spec");
    fill_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    fill(spec, "volumeMode", "Filesystem");
    if let Some(path) = find_mut(spec, "hostPath") {
        fill(path, "type", "");
    }
    fill_text(dig(volume, "status"), "phase", "Pending");
}

pub(super) fn prepare_create(volume: &mut Value, world: &dyn Admission) {
    put(volume, "status", json!({"phase": "Pending", "lastPhaseTransitionTime": world.now()}));
    add_finalizer(volume, PROTECTION);
}

/// Adds a finalizer that is not there.
pub(super) fn add_finalizer(object: &mut Value, name: &str) {
    let meta = dig(object, "metadata");
    fill(meta, "finalizers", json!([]));
    if let Some(Value::Array(list)) = meta.get_mut("finalizers")
        && !list.iter().any(|f| f == name)
    {
        list.push(name.into());
    }
}

/// The time of the last change of phase is the server's to write.
pub(super) fn prepare_status(volume: &mut Value, old: &Value) {
    if volume.text("status.phase") == old.text("status.phase") {
        let before = old.at("status.lastPhaseTransitionTime").clone();
        if !before.is_null() {
            fill(dig(volume, "status"), "lastPhaseTransitionTime", before);
        }
    } else if volume.at("status.lastPhaseTransitionTime") == old.at("status.lastPhaseTransitionTime") {
        // Whole seconds, as metav1.Time has them.
        let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default();
        put(dig(volume, "status"), "lastPhaseTransitionTime", now.to_string());
    }
}

pub(super) fn validate(_volume: &Value, _errors: &mut Errors) {}

pub(super) fn validate_update(_new: &Value, _old: &Value, _errors: &mut Errors) {}
