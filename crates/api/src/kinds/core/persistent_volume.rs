//! PersistentVolume.

use super::persistent_volume_claim::validate_access_modes;
use crate::columns::{AGE, NAME, access_modes};
use crate::pod::no_backsteps;
use crate::pod::scheduling::node_selector;
use crate::pod::volumes::{csi_driver, require, simple_source};
use crate::quantity::Quantity;
use crate::value::{Access, dig, fill, fill_text, find_mut, put, same};
use crate::{Admission, Column, Errors, Path, diff, names};
use serde_json::{Value, json};

const PROTECTION: &str = "kubernetes.io/pv-protection";

/// Every source a volume can have.
const SOURCES: [&str; 22] = [
    "hostPath", "gcePersistentDisk", "awsElasticBlockStore", "glusterfs", "flocker", "nfs", "rbd", "quobyte", "cephfs", "iscsi", "cinder",
    "fc", "flexVolume", "azureFile", "vsphereVolume", "photonPersistentDisk", "portworxVolume", "azureDisk", "scaleIO", "local", "storageos", "csi",
];

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

pub(super) fn validate(volume: &Value, errors: &mut Errors) {
    let (spec, path) = (volume.at("spec"), Path::new("spec"));
    if spec.list("accessModes").is_empty() {
        errors.required(path.at("accessModes"), "");
    }
    validate_access_modes(spec.list("accessModes"), &path.at("accessModes"), errors);
    validate_capacity(spec.at("capacity"), &path.at("capacity"), errors);
    let policy = spec.text("persistentVolumeReclaimPolicy");
    errors.one_of(path.at("persistentVolumeReclaimPolicy"), policy, &["Delete", "Recycle", "Retain"]);
    if spec.has("nodeAffinity") {
        let at = path.at("nodeAffinity");
        if spec.has("nodeAffinity.required") {
            node_selector(spec.at("nodeAffinity.required"), &at.at("required"), errors);
        } else {
            errors.required(at.at("required"), "must specify required node constraints");
        }
    }
    validate_source(spec, &path, errors);
    if policy == "Recycle" && spec.has("hostPath") && spec.text("hostPath.path").trim_end_matches('/').is_empty() {
        errors.forbidden(path.at("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'");
    }
    if !spec.text("storageClassName").is_empty() {
        errors.rule(path.at("storageClassName"), spec.text("storageClassName"), names::dns_subdomain);
    }
    errors.one_of(path.at("volumeMode"), spec.text("volumeMode"), &["Block", "Filesystem"]);
    if let Some(class) = spec.at("volumeAttributesClassName").as_str() {
        if class.is_empty() {
            errors.required(path.at("volumeAttributesClassName"), "an empty string is disallowed");
        } else {
            errors.rule(path.at("volumeAttributesClassName"), class, names::dns_subdomain);
        }
        if !spec.has("csi") {
            errors.required(path.at("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

fn validate_capacity(capacity: &Value, path: &Path<'_>, errors: &mut Errors) {
    let entries = capacity.object("");
    if entries.is_empty() {
        errors.required(path, "");
    }
    if !entries.contains_key("storage") || entries.len() > 1 {
        errors.not_supported(path, capacity, &["storage"]);
    }
    for (resource, quantity) in entries {
        if Quantity::of(quantity).is_negative() {
            errors.invalid(path.key(resource), quantity, "must be a valid resource quantity");
        }
        if Quantity::of(quantity) <= Quantity::ZERO {
            errors.invalid(path.key(resource), quantity, "must be greater than zero");
        }
    }
}

fn validate_source(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut found = SOURCES.iter().filter(|name| spec.has(name));
    let Some(first) = found.next() else {
        return errors.required(path, "must specify a volume type");
    };
    let (source, at) = (spec.at(first), path.at(first));
    match *first {
        "local" => {
            if source.text("path").is_empty() {
                errors.required(at.at("path"), "");
            }
            no_backsteps(source.text("path"), &at.at("path"), errors);
            if !spec.has("nodeAffinity") {
                errors.required(path.at("nodeAffinity"), "Local volume requires node affinity");
            }
        }
        "csi" => {
            csi_driver(source.text("driver"), &at.at("driver"), errors);
            require(source, "volumeHandle", &at, errors);
        }
        name => drop(simple_source(name, source, &at, errors)),
    }
    for another in found {
        errors.forbidden(path.at(another), "may not specify more than 1 volume type");
    }
}

pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let sources = |volume: &Value| -> Value {
        let kept = volume.object("spec").iter().filter(|(field, _)| SOURCES.contains(&field.as_str()));
        Value::Object(kept.map(|(field, value)| (field.clone(), value.clone())).collect())
    };
    let (now, mut before) = (sources(new), sources(old));
    // A secret for growing the volume may be added later.
    if before.has("csi") && !before.has("csi.controllerExpandSecretRef") && now.has("csi.controllerExpandSecretRef") {
        put(&mut before["csi"], "controllerExpandSecretRef", now.at("csi.controllerExpandSecretRef").clone());
    }
    if !same(&now, &before) {
        let what = "spec.persistentvolumesource is immutable after creation";
        errors.forbidden("spec.persistentvolumesource", &format!("{what}\n{}", diff::lines(&before, &now)));
    }
    if new.at("spec.volumeMode") != old.at("spec.volumeMode") {
        errors.invalid("volumeMode", new.at("spec.volumeMode"), "field is immutable");
    }
    if old.has("spec.nodeAffinity") && !same(new.at("spec.nodeAffinity"), old.at("spec.nodeAffinity")) {
        errors.invalid("nodeAffinity", new.at("spec.nodeAffinity"), "field is immutable, except for updating from beta label to GA");
    }
}
