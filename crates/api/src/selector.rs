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

/// As kubectl writes it: `app=web,tier in (a,b),!old`. Empty when nothing is asked for.
pub fn text(selector: &Value) -> String {
    let plain = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let mut terms: Vec<(String, String)> = selector.object("matchLabels").iter().map(|(key, value)| (key.clone(), format!("{key}={}", plain(value)))).collect();
    for requirement in selector.list("matchExpressions") {
        let key = requirement.text("key");
        let mut values: Vec<String> = requirement.list("values").iter().map(plain).collect();
        values.sort();
        let term = match requirement.text("operator") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort();
    terms.into_iter().map(|(_, term)| term).collect::<Vec<_>>().join(",")
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_label_selector_reads_as_kubectl_writes_it() {
        let selector = json!({"matchLabels": {"b": "2", "a": "1"}, "matchExpressions": [
            {"key": "t", "operator": "In", "values": ["y", "x"]}, {"key": "n", "operator": "DoesNotExist"}, {"key": "e", "operator": "Exists"}]});
        assert_eq!(super::text(&selector), "a=1,b=2,e,!n,t in (x,y)");
    }
}
