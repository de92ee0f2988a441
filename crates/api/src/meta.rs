//! `metadata`, the same for every kind (apimachinery pkg/api/validation/objectmeta.go).

use crate::value::Access;
use crate::{CauseReason, Errors, Kind, Path, Scope, names};
use serde_json::Value;

/// All annotations of an object, keys and values together.
pub const ANNOTATIONS_MAX_BYTES: usize = 256 * 1024;

const IMMUTABLE: &str = "field is immutable";

/// Finalizers without a prefix that upstream knows.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Everything about an object's `metadata`, names generated and namespace filled in before.
pub fn validate_object_meta(object: &Value, kind: &Kind, errors: &mut Errors) {
    let meta = object.at("metadata");
    validate(meta, kind.scope, kind.name_rule, &Path::new("metadata"), errors);
}

/// The same for `metadata` anywhere, by a rule for its name.
pub(crate) fn validate(meta: &Value, scope: Scope, name_rule: names::Rule, path: &Path<'_>, errors: &mut Errors) {
    let (generate, name, namespace) = (meta.text("generateName"), meta.text("name"), meta.text("namespace"));
    if !generate.is_empty() {
        // What stands before the suffix may end with a dash: it is judged as if a letter followed.
        let probe = format!("{}a", generate.trim_end_matches('-'));
        if let Err(detail) = name_rule(&probe) {
            errors.invalid_text(path.at("generateName"), generate, &detail);
        }
    }
    if name.is_empty() {
        errors.required(path.at("name"), "name or generateName is required");
    } else {
        errors.rule(path.at("name"), name, name_rule);
    }
    match scope {
        Scope::Namespaced if namespace.is_empty() => errors.required(path.at("namespace"), ""),
        Scope::Namespaced => errors.rule(path.at("namespace"), namespace, names::dns_label),
        Scope::Cluster if !namespace.is_empty() => errors.forbidden(path.at("namespace"), "not allowed on this type"),
        Scope::Cluster => {}
    }
    errors.non_negative(path.at("generation"), meta.int("generation"));
    labels(meta.at("labels"), &path.at("labels"), errors);
    annotations(meta.at("annotations"), &path.at("annotations"), errors);
    owner_references(meta.at("ownerReferences"), &path.at("ownerReferences"), errors);
    finalizers(meta.list("finalizers"), &path.at("finalizers"), errors);
}

/// What an update may not change.
pub fn validate_object_meta_update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("metadata");
    let (new, old) = (new.at("metadata"), old.at("metadata"));
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if new.at(field) != old.at(field) {
            errors.invalid(path.at(field), new.at(field), IMMUTABLE);
        }
    }
    if old.has("deletionTimestamp") {
        let had = old.list("finalizers");
        let added: Vec<&str> = new.list("finalizers").iter().filter(|f| !had.contains(f)).filter_map(Value::as_str).collect();
        if !added.is_empty() {
            let detail = format!("no new finalizers can be added if the object is being deleted, found new finalizers {added:?}");
            errors.forbidden(path.at("finalizers"), &detail);
        }
    }
}

/// Keys and values of labels.
pub(crate) fn labels(labels: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (key, value) in labels.object("") {
        errors.rules(path, key, names::qualified_name);
        errors.rules(path, value.as_str().unwrap_or(""), names::label_value);
    }
}

/// Keys of annotations, and the size of all.
pub(crate) fn annotations(annotations: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in annotations.object("") {
        for detail in names::qualified_name(&key.to_lowercase()) {
            errors.invalid_text(path, key, &detail);
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_MAX_BYTES {
        errors.too_long(path, ANNOTATIONS_MAX_BYTES);
    }
}

fn owner_references(references: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut controller: Option<&str> = None;
    for (i, reference) in references.list("").iter().enumerate() {
        let at = path.index(i);
        if reference.text("apiVersion").is_empty() {
            errors.invalid_text(at.at("apiVersion"), "", "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if reference.text(field).is_empty() {
                errors.invalid_text(at.at(field), "", "must not be empty");
            }
        }
        if reference.text("kind") == "Event" && reference.text("apiVersion") == "v1" {
            errors.invalid(at, reference, "/v1, Kind=Event is disallowed from being an owner");
        }
        if reference.flag("controller") {
            if let Some(first) = controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {}",
                    reference.text("name")
                );
                errors.invalid(path, references, &detail);
            }
            controller = Some(reference.text("name"));
        }
    }
}

fn finalizers(finalizers: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for finalizer in finalizers.iter().filter_map(Value::as_str) {
        let wrong = names::qualified_name(finalizer);
        if wrong.is_empty() && !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
            errors.invalid_text(path, finalizer, "name is neither a standard finalizer name nor is it fully qualified");
        }
        for detail in wrong {
            errors.invalid_text(path, finalizer, &detail);
        }
    }
    let has = |name: &str| finalizers.iter().any(|f| f.as_str() == Some(name));
    if has("orphan") && has("foregroundDeletion") {
        let all = Value::from(finalizers.to_vec());
        errors.push(
            CauseReason::Invalid,
            path,
            format!("Invalid value: {all}: finalizer orphan and foregroundDeletion cannot be both set"),
        );
    }
}
