//! PersistentVolumeClaim; its spec also stands in a StatefulSet's claim templates.

use super::persistent_volume::{add_finalizer, attributes_class, class, mode};
use crate::columns::{AGE, NAME, access_modes};
use crate::kinds::storage::storage_class;
use crate::quantity::Quantity;
use crate::value::{Access, dig, fill, fill_text, put, put_or_remove, same};
use crate::{Admission, Column, Errors, Path, Refusal, diff, names, selector};
use serde_json::{Value, json};

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
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

/// The default class for a claim that names none; growth only where the class allows it
/// (plugin/pkg/admission/storage: storageclass/setdefault, persistentvolume/resize).
pub(super) fn admit(claim: &mut Value, old: Option<&Value>, world: &dyn Admission) -> Result<(), Refusal> {
    match old {
        None => {
            set_default_class(claim, world);
            Ok(())
        }
        Some(old) => resize(claim, old, world),
    }
}

fn set_default_class(claim: &mut Value, world: &dyn Admission) {
    if claim.has("spec.storageClassName") || claim.object("metadata.annotations").contains_key(CLASS_ANNOTATION) {
        return;
    }
    let mut defaults = world.list("storage.k8s.io/storageclasses", None);
    defaults.retain(storage_class::is_default);
    // The newest wins; of the same age, the first by name.
    defaults.sort_by(|a, b| {
        let age = |c: &Value| c.text("metadata.creationTimestamp").to_owned();
        age(b).cmp(&age(a)).then_with(|| a.text("metadata.name").cmp(b.text("metadata.name")))
    });
    if let Some(class) = defaults.first() {
        let name = class.text("metadata.name");
        put(dig(claim, "spec"), "storageClassName", name);
    }
}

fn resize(claim: &Value, old: &Value, world: &dyn Admission) -> Result<(), Refusal> {
    if size(claim) <= size(old) {
        return Ok(());
    }
    let refuse = |why: &str| Err(Refusal::forbidden("persistentvolumeclaims", claim.text("metadata.name"), why));
    if old.text("status.phase") != "Bound" {
        return refuse("Only bound persistent volume claims can be expanded");
    }
    let class = world.get("storage.k8s.io/storageclasses", "", class(claim));
    if class.is_some_and(|c| c.flag("allowVolumeExpansion")) {
        return Ok(());
    }
    refuse("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize")
}

fn size(claim: &Value) -> Quantity {
    Quantity::of(claim.at("spec.resources.requests.storage"))
}

pub(super) fn validate(claim: &Value, errors: &mut Errors) {
    validate_spec(claim.at("spec"), &Path::new("spec"), errors);
}

/// The spec of a claim, also inside a claim template.
pub(crate) fn validate_spec(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    if spec.list("accessModes").is_empty() {
        errors.required(path.at("accessModes"), "at least 1 access mode is required");
    }
    selector::validate(spec.at("selector"), &path.at("selector"), errors);
    validate_access_modes(spec.list("accessModes"), &path.at("accessModes"), errors);
    let (resources, storage) = (path.at("resources"), spec.at("resources.requests.storage"));
    if storage.is_null() {
        errors.required(resources.key("storage"), "");
    } else if Quantity::of(storage) <= Quantity::ZERO {
        errors.invalid(resources.key("storage"), storage, "must be greater than zero");
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        if !spec.text(field).is_empty() {
            errors.rule(path.at(field), spec.text(field), names::dns_subdomain);
        }
    }
    if let Some(mode) = spec.at("volumeMode").as_str() {
        errors.one_of(path.at("volumeMode"), mode, &["Block", "Filesystem"]);
    }
    for field in ["dataSource", "dataSourceRef"] {
        if spec.has(field) {
            data_source(spec.at(field), &path.at(field), errors);
        }
    }
    let across = !spec.text("dataSourceRef.namespace").is_empty();
    if spec.has("dataSource") && across {
        errors.invalid_text(path, &path.at("dataSource").to_string(), "may not be specified when dataSourceRef.namespace is specified");
    } else if spec.has("dataSource") && !same(spec.at("dataSource"), spec.at("dataSourceRef")) {
        errors.invalid_text(path, &path.at("dataSource").to_string(), "must match dataSourceRef");
    }
}

/// Known modes, and ReadWriteOncePod alone.
pub(super) fn validate_access_modes(modes: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for mode in modes.iter().filter_map(Value::as_str) {
        errors.one_of(path, mode, &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"]);
    }
    if modes.len() > 1 && modes.iter().any(|m| m == "ReadWriteOncePod") {
        errors.forbidden(path, "may not use ReadWriteOncePod with other access modes");
    }
}

fn data_source(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["name", "kind"] {
        if source.text(field).is_empty() {
            errors.required(path.at(field), "");
        }
    }
    let (group, kind) = (source.text("apiGroup"), source.text("kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        errors.invalid_text(path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
    }
    if !group.is_empty() {
        errors.rule(path.at("apiGroup"), group, names::dns_subdomain);
    }
}

pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (mut compared, mut before) = (new.at("spec").clone(), old.at("spec").clone());
    let keep = |from: &Value, to: &mut Value, field: &str| put_or_remove(to, field, Some(from.at(field).clone()));
    // The binder names the volume once; a class may be given once to a claim that has none.
    if before.text("volumeName").is_empty() {
        keep(&compared, &mut before, "volumeName");
    }
    if !before.has("storageClassName") && compared.has("storageClassName") {
        keep(&before, &mut compared, "storageClassName");
    }
    if new.text("status.phase") == "Bound" {
        let storage = before.at("resources.requests.storage").clone();
        put_or_remove(dig(&mut compared, "resources.requests"), "storage", Some(storage));
        keep(&before, &mut compared, "volumeAttributesClassName");
    }
    if !same(&compared, &before) {
        let what = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.forbidden("spec", &format!("{what}\n{}", diff::lines(&before, &compared)));
    }
    if size(new) < size(old) && size(new) <= Quantity::of(old.at("status.capacity.storage")) {
        errors.forbidden("spec.resources.requests.storage", "field can not be less than status.capacity");
    }
    if new.at("spec.volumeMode") != old.at("spec.volumeMode") {
        errors.invalid("volumeMode", new.at("spec.volumeMode"), "field is immutable");
    }
    if old.has("spec.volumeAttributesClassName") && new.text("spec.volumeAttributesClassName").is_empty() {
        errors.forbidden("spec.volumeAttributesClassName", "update from non-nil value to nil is forbidden");
    }
}

pub(super) fn validate_status(new: &Value, _: &Value, errors: &mut Errors) {
    let path = Path::new("status.capacity");
    for (resource, quantity) in new.object("status.capacity") {
        if Quantity::of(quantity).is_negative() {
            errors.invalid(path.key(resource), quantity, "must be a valid resource quantity");
        }
    }
}

pub(super) fn warnings(claim: &Value) -> Vec<String> {
    let mut all = Vec::new();
    if claim.object("metadata.annotations").contains_key(CLASS_ANNOTATION) {
        all.push(format!("metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute instead"));
    }
    all.extend(spec_warnings(claim.at("spec"), &Path::new("spec")));
    all
}

/// What is legal in a claim's spec and hardly meant.
pub(crate) fn spec_warnings(spec: &Value, path: &Path<'_>) -> Vec<String> {
    let storage = spec.at("resources.requests.storage");
    if storage.is_null() || Quantity::of(storage).is_integer() {
        return Vec::new();
    }
    let at = path.at("resources.requests");
    vec![format!("{}: fractional byte value {storage} is invalid, must be an integer", at.key("storage"))]
}
