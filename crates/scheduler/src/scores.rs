//! Which of the nodes that are left is best. Weights as upstream's default plugins; each score from 0 to 100 over the nodes compared.

use crate::affinity::{attraction, term_matches};
use crate::filters::untolerated;
use crate::resources::Amounts;
use crate::spread::crowd;
use crate::view::{Place, View};
use k8s_openapi::api::core::v1::{Node, Pod};

const BEST: i64 = 100;

/// Stretches scores over 0..=100; all the same is no difference.
fn normalize(scores: Vec<i64>) -> Vec<i64> {
    let (least, most) = (scores.iter().min().copied().unwrap_or(0), scores.iter().max().copied().unwrap_or(0));
    scores.into_iter().map(|score| if most == least { 0 } else { (score - least) * BEST / (most - least) }).collect()
}

fn preferred_nodes(pod: &Pod, node: &Node) -> i64 {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()).and_then(|affinity| affinity.node_affinity.as_ref());
    let terms = affinity.and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_deref()).unwrap_or_default();
    terms.iter().filter(|term| term_matches(&term.preference, node)).map(|term| i64::from(term.weight)).sum()
}

/// What stays free of processor and memory, in hundredths, once the pod is there.
fn free(wanted: &Amounts, place: &Place) -> i64 {
    let part = |name: &str| {
        let all = place.allocatable.get(name).copied().unwrap_or(0);
        let used = place.used.get(name).copied().unwrap_or(0) + wanted.get(name).copied().unwrap_or(0);
        if all <= 0 { 0 } else { i64::try_from((all - used).max(0) * i128::from(BEST) / all).unwrap_or(0) }
    };
    i64::midpoint(part("cpu"), part("memory"))
}

/// Pods of the same controller: a set spreads over nodes without being told to.
fn siblings(pod: &Pod, place: &Place) -> i64 {
    let controller = |pod: &Pod| pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone());
    let Some(mine) = controller(pod) else { return 0 };
    i64::try_from(place.pods.iter().filter(|other| controller(other).as_ref() == Some(&mine)).count()).unwrap_or(i64::MAX)
}

/// The best of some places (indexes into the view); the first by name among equals.
pub(crate) fn best(pod: &Pod, wanted: &Amounts, candidates: &[usize], view: &View) -> Option<usize> {
    if candidates.len() < 2 {
        return candidates.first().copied();
    }
    let places: Vec<&Place> = candidates.iter().filter_map(|index| view.places.get(*index)).collect();
    let each = |score: &dyn Fn(&Place) -> i64| normalize(places.iter().map(|place| score(place)).collect());
    let scores = [
        (2, each(&|place| preferred_nodes(pod, &place.node))),
        (2, each(&|place| attraction(pod, place, view))),
        (2, each(&|place| -crowd(pod, place, view))),
        (2, each(&|place| -siblings(pod, place))),
        (3, each(&|place| -i64::from(untolerated(pod, &place.node, &["PreferNoSchedule"]).is_some()))),
        (1, places.iter().map(|place| free(wanted, place)).collect()),
    ];
    let total = |index: usize| -> i64 { scores.iter().map(|(weight, scores)| weight * scores[index]).sum() };
    let winner = (0..places.len()).max_by_key(|index| (total(*index), std::cmp::Reverse(*index)))?;
    candidates.get(winner).copied()
}
