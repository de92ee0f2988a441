//! Small rules that several parts of a pod share: paths inside volumes, references to a pod's own fields.

use crate::quantity::Quantity;
use crate::value::Access;
use crate::{Errors, Path, names};
use serde_json::Value;

const ENVIRONMENT_FIELDS: [&str; 9] = [
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs",
    "status.podIP", "status.podIPs",
];
const FILE_FIELDS: [&str; 5] = ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const RESOURCES: [&str; 6] =
    ["limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"];
const BYTE_DIVISORS: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// No element of a path is `..`.
pub(crate) fn no_backsteps(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.split('/').any(|part| part == "..") {
        errors.invalid_text(path, text, "must not contain '..'");
    }
}

/// Relative, and stays inside.
pub(super) fn local_path(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.starts_with('/') {
        errors.invalid_text(path, text, "must be a relative path");
    }
    no_backsteps(text, path, errors);
}

/// And does not start like the names that volumes keep for themselves (`..data`).
pub(super) fn non_reserved_path(text: &str, path: &Path<'_>, errors: &mut Errors) {
    local_path(text, path, errors);
    if text.starts_with("..") && !text.starts_with("../") && text != ".." {
        errors.invalid_text(path, text, "must not start with '..'");
    }
}

/// A file of a `downwardAPI` volume. Errors stand at the volume, as upstream has them.
pub(super) fn downward_file(file: &Value, path: &Path<'_>, errors: &mut Errors) {
    if file.text("path").is_empty() {
        errors.required(path.at("path"), "");
    }
    non_reserved_path(file.text("path"), &path.at("path"), errors);
    if file.has("fieldRef") {
        field_reference(file.at("fieldRef"), &FILE_FIELDS, &path.at("fieldRef"), errors);
        if file.has("resourceFieldRef") {
            errors.invalid_text(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
        }
    } else if file.has("resourceFieldRef") {
        resource_reference(file.at("resourceFieldRef"), true, &path.at("resourceFieldRef"), errors);
    } else {
        errors.required(path, "one of fieldRef and resourceFieldRef is required");
    }
    if let Some(mode) = file.int("mode").filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(path.at("mode"), &mode.into(), "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

/// `valueFrom` of an environment variable.
pub(super) fn value_from(variable: &Value, path: &Path<'_>, errors: &mut Errors) {
    let from = variable.at("valueFrom");
    let mut sources = 0;
    if from.has("fieldRef") {
        sources += 1;
        field_reference(from.at("fieldRef"), &ENVIRONMENT_FIELDS, &path.at("fieldRef"), errors);
    }
    if from.has("resourceFieldRef") {
        sources += 1;
        resource_reference(from.at("resourceFieldRef"), false, &path.at("resourceFieldRef"), errors);
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        let (reference, at) = (from.at(kind), path.at(kind));
        if reference.is_null() {
            continue;
        }
        sources += 1;
        errors.rule(at.at("name"), reference.text("name"), names::dns_subdomain);
        if reference.text("key").is_empty() {
            errors.required(at.at("key"), "");
        } else {
            errors.rule(at.at("key"), reference.text("key"), names::config_key);
        }
    }
    if from.has("fileKeyRef") {
        sources += 1;
    }
    if sources == 0 {
        errors.invalid_text(path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`");
    } else if !variable.text("value").is_empty() {
        errors.invalid_text(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid_text(path, "", "may not have more than one field specified at a time");
    }
}

/// `metadata.labels['app']` in two.
fn subscript(field: &str) -> Option<(&str, &str)> {
    field.strip_suffix("']")?.split_once("['")
}

fn field_reference(reference: &Value, allowed: &[&str], path: &Path<'_>, errors: &mut Errors) {
    let (version, field) = (reference.text("apiVersion"), reference.text("fieldPath"));
    if version.is_empty() {
        return errors.required(path.at("apiVersion"), "");
    }
    if field.is_empty() {
        return errors.required(path.at("fieldPath"), "");
    }
    if version != "v1" {
        let detail = format!("error converting fieldPath: unsupported pod version: {version}");
        return errors.invalid_text(path.at("fieldPath"), field, &detail);
    }
    match subscript(field) {
        Some(("metadata.annotations", key)) => errors.rules(path, &key.to_lowercase(), names::qualified_name),
        Some(("metadata.labels", key)) => errors.rules(path, key, names::qualified_name),
        Some((base, _)) if known(base) => errors.invalid_text(path, base, "does not support subscript"),
        _ if !known(field) => {
            let detail = format!("error converting fieldPath: field label not supported: {field}");
            errors.invalid_text(path.at("fieldPath"), field, &detail);
        }
        _ if !allowed.contains(&field) => errors.not_supported(path.at("fieldPath"), &field.into(), allowed),
        _ => {}
    }
}

/// Fields that the API converts at all, wherever they may then be used.
fn known(field: &str) -> bool {
    ENVIRONMENT_FIELDS.contains(&field) || FILE_FIELDS.contains(&field) || matches!(field, "spec.restartPolicy" | "spec.schedulerName" | "status.phase" | "spec.host")
}

fn resource_reference(reference: &Value, in_volume: bool, path: &Path<'_>, errors: &mut Errors) {
    let resource = reference.text("resource");
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if in_volume && reference.text("containerName").is_empty() {
        errors.required(path.at("containerName"), "");
    } else if resource.is_empty() {
        errors.required(path.at("resource"), "");
    } else if !huge && !RESOURCES.contains(&resource) {
        errors.not_supported(path.at("resource"), &resource.into(), &RESOURCES);
    }
    let divisor = Quantity::of(reference.at("divisor"));
    if divisor.is_zero() {
        return;
    }
    let one_of = |texts: &[&str]| texts.iter().any(|t| Quantity::parse(t) == Some(divisor));
    let bytes = "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the";
    let detail = match resource.split_once('.').map_or("", |(_, name)| name) {
        "cpu" if !one_of(&["1m", "1"]) => "only divisor's values 1m and 1 are supported with the cpu resource".to_owned(),
        "memory" if !one_of(&BYTE_DIVISORS) => format!("{bytes} memory resource"),
        "ephemeral-storage" if !one_of(&BYTE_DIVISORS) => format!("{bytes} local ephemeral storage resource"),
        _ if huge && !one_of(&BYTE_DIVISORS) => format!("{bytes} hugepages resource"),
        _ => return,
    };
    errors.invalid_text(path.at("divisor"), resource, &detail);
}
