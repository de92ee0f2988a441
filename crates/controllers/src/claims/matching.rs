//! Which volume suits a claim. Upstream: `FindMatchingVolume` (`component-helpers/storage/volume/pv_helpers.go`).

use super::fields::*;
use mainstay_client::k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim};
use mainstay_client::k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;
use std::sync::Arc;

type Labels = BTreeMap<String, String>;

/// Why a volume that a claim asks for by name cannot be its volume; `None`: it can.
pub(super) fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    if capacity_bytes(volume) < requested_bytes(claim) {
        return Some("requested PV is too small");
    }
    if volume_class(volume) != claim_class(claim).unwrap_or_default() {
        return Some("storageClassName does not match");
    }
    if !same_mode(volume, claim) {
        return Some("incompatible volumeMode");
    }
    (!has_access_modes(volume, claim)).then_some("incompatible accessMode")
}

fn same_mode(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    mode(volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref())) == mode(claim_spec(claim).and_then(|spec| spec.volume_mode.as_ref()))
}

fn has_access_modes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let offered: Vec<&String> = volume.spec.iter().flat_map(|spec| spec.access_modes.iter().flatten()).collect();
    claim_spec(claim).into_iter().flat_map(|spec| spec.access_modes.iter().flatten()).all(|wanted| offered.contains(&wanted))
}

/// The volume that is reserved for the claim, else, unless binding is to wait, the smallest free one that suits it.
pub(super) fn best<'a>(volumes: &'a [Arc<PersistentVolume>], claim: &PersistentVolumeClaim, waits: bool, node: Option<&Node>) -> Option<&'a PersistentVolume> {
    let wanted = requested_bytes(claim);
    let suits = |volume: &PersistentVolume| {
        volume.metadata.deletion_timestamp.is_none() && capacity_bytes(volume) >= wanted && same_mode(volume, claim) && has_access_modes(volume, claim)
    };
    let reserved = volumes.iter().find(|volume| claim_ref(volume).is_some_and(|reference| refers_to(reference, claim)) && suits(volume));
    if reserved.is_some() || waits {
        return reserved.map(|volume| &**volume);
    }
    let free = volumes.iter().filter(|volume| {
        claim_ref(volume).is_none()
            && volume_phase(volume) == "Available"
            && volume_class(volume) == claim_class(claim).unwrap_or_default()
            && suits(volume)
            && selected(claim_spec(claim).and_then(|spec| spec.selector.as_ref()), volume.metadata.labels.as_ref())
            && node.is_none_or(|node| reaches(volume, node))
    });
    free.min_by_key(|volume| (capacity_bytes(volume), name(&volume.metadata))).map(|volume| &**volume)
}

fn selected(selector: Option<&LabelSelector>, labels: Option<&Labels>) -> bool {
    selector.is_none_or(|selector| mainstay_client::selector::matches(selector, labels))
}

/// One requirement on a label.
fn holds(operator: &str, value: Option<&String>, values: &[String]) -> bool {
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
    match operator {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(number(values.first())).is_some_and(|(value, bound)| value > bound),
        "Lt" => number(value).zip(number(values.first())).is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

/// Whether a volume can be used on a node.
fn reaches(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()).and_then(|affinity| affinity.required.as_ref());
    affinity.is_none_or(|required| required.node_selector_terms.iter().any(|term| term_holds(term, node)))
}

fn term_holds(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels: Vec<&NodeSelectorRequirement> = term.match_expressions.iter().flatten().collect();
    let fields: Vec<&NodeSelectorRequirement> = term.match_fields.iter().flatten().collect();
    let empty = Labels::new();
    let found = node.metadata.labels.as_ref().unwrap_or(&empty);
    // An empty term matches nothing.
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|wanted| holds(&wanted.operator, found.get(&wanted.key), wanted.values.as_deref().unwrap_or_default()))
        && fields.iter().all(|wanted| wanted.key == "metadata.name" && holds(&wanted.operator, node.metadata.name.as_ref(), wanted.values.as_deref().unwrap_or_default()))
}
