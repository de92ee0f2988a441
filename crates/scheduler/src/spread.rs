//! Topology spread constraints.
//!
//! Upstream: plugins/podtopologyspread (filtering.go, scoring.go).

use crate::affinity::{node_matches, with_keys};
use crate::filters::untolerated;
use crate::view::{Place, View};
use k8s_openapi::api::core::v1::{Pod, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use mainstay_client::selector::matches;
use std::collections::BTreeMap;

/// Why a constraint forbids a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skew {
    /// The node does not have the topology label.
    NoLabel,
    /// Too many there already.
    TooMany,
}

fn constraints<'a>(pod: &'a Pod, when: &'a str) -> impl Iterator<Item = &'a TopologySpreadConstraint> {
    let all = pod.spec.as_ref().and_then(|spec| spec.topology_spread_constraints.as_deref()).unwrap_or_default();
    all.iter().filter(move |one| one.when_unsatisfiable == when)
}

fn selector(constraint: &TopologySpreadConstraint, pod: &Pod) -> Option<LabelSelector> {
    constraint.label_selector.as_ref().map(|selector| with_keys(selector, constraint.match_label_keys.as_ref(), pod, false))
}

/// Whether a node counts as a domain for this pod.
fn counts(constraint: &TopologySpreadConstraint, pod: &Pod, place: &Place) -> bool {
    let honor_affinity = constraint.node_affinity_policy.as_deref() != Some("Ignore");
    let honor_taints = constraint.node_taints_policy.as_deref() == Some("Honor");
    place.label(&constraint.topology_key).is_some()
        && (!honor_affinity || node_matches(pod, &place.node))
        && (!honor_taints || untolerated(pod, &place.node, &["NoSchedule", "NoExecute"]).is_none())
}

/// Matching pods by domain, domains without any included. Pods that are being deleted do not count.
fn domains<'a>(constraint: &TopologySpreadConstraint, pod: &Pod, view: &'a View) -> BTreeMap<&'a str, i64> {
    let selector = selector(constraint, pod);
    let means = |other: &Pod| {
        other.metadata.namespace == pod.metadata.namespace
            && other.metadata.deletion_timestamp.is_none()
            && selector.as_ref().is_some_and(|selector| matches(selector, other.metadata.labels.as_ref()))
    };
    let mut domains = BTreeMap::new();
    for place in view.places.iter().filter(|place| counts(constraint, pod, place)) {
        let Some(domain) = place.label(&constraint.topology_key) else { continue };
        let found = place.pods.iter().filter(|other| means(other)).count();
        *domains.entry(domain).or_insert(0) += i64::try_from(found).unwrap_or(i64::MAX);
    }
    domains
}

/// `DoNotSchedule`.
pub(crate) fn forbids(pod: &Pod, place: &Place, view: &View) -> Option<Skew> {
    for constraint in constraints(pod, "DoNotSchedule") {
        let Some(here) = place.label(&constraint.topology_key) else { return Some(Skew::NoLabel) };
        let domains = domains(constraint, pod, view);
        let few = constraint.min_domains.is_some_and(|min| domains.len() < usize::try_from(min).unwrap_or(0));
        let least = if few { 0 } else { domains.values().min().copied().unwrap_or(0) };
        let own = selector(constraint, pod).is_some_and(|selector| matches(&selector, pod.metadata.labels.as_ref()));
        let skew = domains.get(here).copied().unwrap_or(0) + i64::from(own) - least;
        if skew > i64::from(constraint.max_skew) {
            return Some(Skew::TooMany);
        }
    }
    None
}

/// `ScheduleAnyway`: how many there are already; fewer is better.
pub(crate) fn crowd(pod: &Pod, place: &Place, view: &View) -> i64 {
    let soft = constraints(pod, "ScheduleAnyway");
    soft.map(|constraint| place.label(&constraint.topology_key).and_then(|here| domains(constraint, pod, view).get(here).copied()).unwrap_or(0)).sum()
}
