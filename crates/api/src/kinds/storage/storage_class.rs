//! StorageClass.

use crate::columns::{AGE, named};
use crate::names;
use crate::value::{Access, fill_text, same};
use crate::{Column, Errors, Path};
use serde_json::Value;

const DEFAULT_CLASS: [&str; 2] = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub(super) const COLUMNS: &[Column] = &[
    named(|o, _| if is_default(o) { format!("{} (default)", o.text("metadata.name")).into() } else { o.text("metadata.name").into() }),
    Column::new("Provisioner", "string", "Who makes volumes of this class.", |o, _| o.text("provisioner").into()),
    Column::new("ReclaimPolicy", "string", "What happens to a volume when its claim goes.", |o, _| o.text("reclaimPolicy").into()),
    Column::new("VolumeBindingMode", "string", "When a claim gets its volume.", |o, _| o.text("volumeBindingMode").into()),
    Column::new("AllowVolumeExpansion", "string", "Whether claims may grow.", |o, _| o.flag("allowVolumeExpansion").into()),
    AGE,
];

/// Whether claims without a class get this one.
pub(crate) fn is_default(class: &Value) -> bool {
    let annotations = class.object("metadata.annotations");
    DEFAULT_CLASS.iter().any(|key| annotations.get(*key).and_then(Value::as_str) == Some("true"))
}

pub(super) fn default(class: &mut Value) {
    fill_text(class, "reclaimPolicy", "Delete");
    fill_text(class, "volumeBindingMode", "Immediate");
}

pub(super) fn validate(class: &Value, errors: &mut Errors) {
    let provisioner = class.text("provisioner");
    if provisioner.is_empty() {
        errors.required("provisioner", "");
    } else {
        for detail in names::qualified_name(&provisioner.to_lowercase()) {
            errors.invalid_text("provisioner", provisioner, &detail);
        }
    }
    let parameters = class.object("parameters");
    if parameters.len() > 512 {
        errors.too_long("parameters", 512);
    }
    if parameters.keys().any(String::is_empty) {
        errors.invalid_text("parameters", "", "field must not be empty");
    }
    let policy = class.text("reclaimPolicy");
    errors.one_of("reclaimPolicy", policy, &["Delete", "Retain"]);
    errors.one_of("volumeBindingMode", class.text("volumeBindingMode"), &["Immediate", "WaitForFirstConsumer"]);
    let path = Path::new("allowedTopologies");
    for (i, term) in class.list("allowedTopologies").iter().enumerate() {
        let at = path.index(i);
        let at = at.at("matchLabelExpressions");
        for (j, expression) in term.list("matchLabelExpressions").iter().enumerate() {
            let at = at.index(j);
            errors.rules(&at.at("key"), expression.text("key"), names::qualified_name);
            if expression.list("values").is_empty() {
                errors.required(at.at("values"), "");
            }
        }
    }
}

pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        if !same(new.at(field), old.at(field)) {
            errors.invalid(field, new.at(field), "field is immutable");
        }
    }
}
