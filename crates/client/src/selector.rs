//! Label selectors, as `k8s.io/apimachinery/pkg/apis/meta/v1` reads them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use std::collections::BTreeMap;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

fn requirement(requirement: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let value = labels.get(&requirement.key);
    let listed = || value.is_some_and(|value| requirement.values.iter().flatten().any(|one| one == value));
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// Whether every given label is there with its value. An empty map matches everything.
pub fn has_labels(wanted: &Labels, labels: Option<&Labels>) -> bool {
    wanted.iter().all(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value)))
}

/// Whether a selector matches. An empty selector matches everything; an operator that does not exist nothing.
pub fn matches(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let none = Labels::new();
    let labels = labels.unwrap_or(&none);
    selector.match_labels.as_ref().is_none_or(|wanted| has_labels(wanted, Some(labels)))
        && selector.match_expressions.iter().flatten().all(|one| requirement(one, labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_mean_what_upstream_means() {
        let labels: Labels = [("app".to_owned(), "web".to_owned())].into();
        for (key, operator, values, expected) in [
            ("app", "In", &["web", "db"][..], true),
            ("app", "In", &["db"], false),
            ("app", "NotIn", &["db"], true),
            ("tier", "NotIn", &["db"], true),
            ("app", "Exists", &[], true),
            ("tier", "DoesNotExist", &[], true),
            ("app", "Like", &[], false),
        ] {
            let one = LabelSelectorRequirement { key: key.into(), operator: operator.into(), values: Some(values.iter().map(|value| (*value).to_owned()).collect()) };
            let selector = LabelSelector { match_expressions: Some(vec![one]), match_labels: None };
            assert_eq!(matches(&selector, Some(&labels)), expected, "{key} {operator} {values:?}");
        }
        assert!(matches(&LabelSelector::default(), None));
    }
}
