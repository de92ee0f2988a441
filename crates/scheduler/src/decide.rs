//! One pod, one view: where it goes, or why nowhere.

use crate::filters::{CLAIMS, NODES, Reason, reasons};
use crate::resources::of_pod;
use crate::scores::best;
use crate::view::View;
use crate::volumes::{Claims, claims};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;

/// Where a pod goes.
#[derive(Debug)]
pub(crate) enum Decision {
    /// To this place of the view, with these claims.
    Place(usize, Claims),
    /// Nowhere, with upstream's words and what could change that.
    Nowhere(String, u8),
}

/// Decides. Pure.
pub(crate) fn decide(pod: &Pod, view: &View) -> Decision {
    let all = view.places.len();
    if all == 0 {
        return Decision::Nowhere("no nodes available to schedule pods".to_owned(), NODES);
    }
    let claims = match claims(pod, &view.things) {
        Ok(claims) => claims,
        Err(words) => {
            let text = format!("0/{all} nodes are available: {words}. preemption: 0/{all} nodes are available: {all} Preemption is not helpful for scheduling.");
            return Decision::Nowhere(text, CLAIMS);
        }
    };
    let wanted = of_pod(pod);
    let (mut fit, mut against) = (Vec::new(), Vec::new());
    for (index, place) in view.places.iter().enumerate() {
        let reasons = reasons(pod, &wanted, &claims, place, view);
        if reasons.is_empty() { fit.push(index) } else { against.push(reasons) }
    }
    match best(pod, &wanted, &fit, view) {
        Some(index) => Decision::Place(index, claims),
        None => {
            let waits_for = against.iter().flatten().fold(0, |sum, reason| sum | reason.waits_for);
            Decision::Nowhere(explain(all, &against), waits_for)
        }
    }
}

/// Upstream: `FitError.Error` (pkg/scheduler/framework/types.go) with the words of its preemption plugin.
fn explain(all: usize, against: &[Vec<Reason>]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    against.iter().flatten().for_each(|reason| *counts.entry(&reason.text).or_insert(0) += 1);
    let mut words: Vec<String> = counts.iter().map(|(text, count)| format!("{count} {text}")).collect();
    words.sort();
    let helpful = against.iter().filter(|reasons| reasons.iter().all(|reason| reason.by_pods)).count();
    let mut preemption = Vec::new();
    if helpful > 0 {
        preemption.push(format!("{helpful} No preemption victims found for incoming pod"));
    }
    if all > helpful {
        preemption.push(format!("{} Preemption is not helpful for scheduling", all - helpful));
    }
    format!("0/{all} nodes are available: {}. preemption: 0/{all} nodes are available: {}.", words.join(", "), preemption.join(", "))
}
