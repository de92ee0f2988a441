//! Label selectors: their rules (apimachinery pkg/apis/meta/v1/validation) and whether they match.

use crate::value::{Access, Object};
use crate::{Errors, Path, meta, names};
use serde_json::Value;

/// `matchLabels` and `matchExpressions`.
pub(crate) fn validate(selector: &Value, path: &Path<'_>, errors: &mut Errors) {
    meta::labels(selector.at("matchLabels"), &path.at("matchLabels"), errors);
    let list = path.at("matchExpressions");
    for (i, requirement) in selector.list("matchExpressions").iter().enumerate() {
        validate_requirement(requirement, &list.index(i), errors);
    }
}

fn validate_requirement(requirement: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (operator, values) = (requirement.text("operator"), requirement.list("values"));
    match operator {
        "In" | "NotIn" if values.is_empty() => errors.required(path.at("values"), "must be specified when `operator` is 'In' or 'NotIn'"),
        "In" | "NotIn" => {}
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.forbidden(path.at("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Exists" | "DoesNotExist" => {}
        _ => errors.invalid_text(path.at("operator"), operator, "not a valid selector operator"),
    }
    errors.rules(&path.at("key"), requirement.text("key"), names::qualified_name);
    let list = path.at("values");
    for (i, value) in values.iter().enumerate() {
        errors.rules(&list.index(i), value.as_str().unwrap_or(""), names::label_value);
    }
}

/// Whether a selector matches labels. No selector (null) matches nothing, an empty one everything.
pub(crate) fn matches(selector: &Value, labels: &Object) -> bool {
    if selector.is_null() {
        return false;
    }
    let plain = selector.object("matchLabels").iter().all(|(key, value)| labels.get(key) == Some(value));
    plain
        && selector.list("matchExpressions").iter().all(|requirement| {
            let value = labels.get(requirement.text("key"));
            let listed = value.is_some_and(|v| requirement.list("values").contains(v));
            match requirement.text("operator") {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}
