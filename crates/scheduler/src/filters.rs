//! May this pod run there, and if not, why. In the order of upstream's default plugins; the first that says no counts.

use crate::affinity::{Neighbours, neighbours, node_matches};
use crate::resources::{Amounts, clash, host_ports};
use crate::spread::{self, Skew};
use crate::view::{Place, View};
use crate::volumes::{self, Claims};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

/// Taint of a cordoned node, tolerated by those who tolerate it although the field says no.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// A reason, as upstream words it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reason {
    pub(crate) text: String,
    /// Whether it could be resolved by removing other pods.
    pub(crate) by_pods: bool,
    /// Which changes could resolve it, see [`crate::queue`].
    pub(crate) waits_for: u8,
}

/// Something about nodes.
pub(crate) const NODES: u8 = 1;
/// A pod that goes away.
pub(crate) const ROOM: u8 = 2;
/// Any pod that comes, goes, or is labelled.
pub(crate) const PODS: u8 = 4;
/// Claims, volumes, classes.
pub(crate) const CLAIMS: u8 = 8;

fn because(text: impl Into<String>, by_pods: bool, waits_for: u8) -> Vec<Reason> {
    vec![Reason { text: text.into(), by_pods, waits_for: waits_for | NODES }]
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let (have, bound) = (number(taint.value.as_deref()), number(toleration.value.as_deref()));
    (effect.is_empty() || effect == taint.effect)
        && (key.is_empty() || key == taint.key)
        && match toleration.operator.as_deref() {
            None | Some("" | "Equal") => toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default(),
            Some("Exists") => true,
            Some("Gt") => have.zip(bound).is_some_and(|(have, bound)| have > bound),
            Some("Lt") => have.zip(bound).is_some_and(|(have, bound)| have < bound),
            Some(_) => false,
        }
}

fn tolerated(pod: &Pod, taint: &Taint) -> bool {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

/// The first taint of these effects that a pod does not tolerate.
pub(crate) fn untolerated<'a>(pod: &Pod, node: &'a Node, effects: &[&str]) -> Option<&'a Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().find(|taint| effects.contains(&taint.effect.as_str()) && !tolerated(pod, taint))
}

fn lacking(wanted: &Amounts, place: &Place) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let slots = place.allocatable.get("pods").copied();
    let used = i128::try_from(place.pods.len()).unwrap_or(i128::MAX).saturating_mul(1_000);
    if slots.is_some_and(|slots| used + 1_000 > slots) {
        reasons.extend(because("Too many pods", true, ROOM));
    }
    for (name, amount) in wanted {
        let free = place.allocatable.get(name).copied().unwrap_or(0) - place.used.get(name).copied().unwrap_or(0);
        if *amount > free {
            reasons.extend(because(format!("Insufficient {name}"), true, ROOM));
        }
    }
    reasons
}

/// Why a pod may not run at a place; nothing if it may. `wanted` and `claims` are the pod's own.
pub(crate) fn reasons(pod: &Pod, wanted: &Amounts, claims: &Claims, place: &Place, view: &View) -> Vec<Reason> {
    let node = &*place.node;
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    let cordon = Taint { key: UNSCHEDULABLE.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() };
    if cordoned && !tolerated(pod, &cordon) {
        return because("node(s) were unschedulable", false, 0);
    }
    if let Some(taint) = untolerated(pod, node, &["NoSchedule", "NoExecute"]) {
        return because(format!("node(s) had untolerated taint {{{}: {}}}", taint.key, taint.value.as_deref().unwrap_or_default()), false, 0);
    }
    if !node_matches(pod, node) {
        return because("node(s) didn't match Pod's node affinity/selector", false, 0);
    }
    if host_ports(pod).iter().any(|port| place.ports.iter().any(|taken| clash(port, taken))) {
        return because("node(s) didn't have free ports for the requested pod ports", true, ROOM);
    }
    let lacking = lacking(wanted, place);
    if !lacking.is_empty() {
        return lacking;
    }
    if let Some(text) = volumes::forbids(claims, place, &view.things) {
        return because(text, false, CLAIMS);
    }
    match spread::forbids(pod, place, view) {
        Some(Skew::NoLabel) => return because("node(s) didn't match pod topology spread constraints (missing required label)", false, 0),
        Some(Skew::TooMany) => return because("node(s) didn't match pod topology spread constraints", true, PODS),
        None => {}
    }
    match neighbours(pod, place, view) {
        Some(Neighbours::Missing) => because("node(s) didn't match pod affinity rules", false, PODS),
        Some(Neighbours::Refused) => because("node(s) didn't match pod anti-affinity rules", true, PODS),
        Some(Neighbours::Refusing) => because("node(s) didn't satisfy existing pods anti-affinity rules", true, PODS),
        None => Vec::new(),
    }
}
