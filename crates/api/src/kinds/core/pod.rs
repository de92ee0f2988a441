//! What the Pod's row needs beyond `crate::pod`: its status at birth, its binding, its grace.

use crate::value::{Access, dig, fill, fill_text, put, put_or_remove};
use crate::{Admission, Refusal, Subresource};
use serde_json::{Value, json};

pub(super) const SUBRESOURCES: &[Subresource] = &[
    Subresource { name: "binding", body: ("", "v1", "Binding"), verbs: &["create"], post: Some(bind) },
    Subresource { name: "eviction", body: ("policy", "v1", "Eviction"), verbs: &["create"], post: None },
];

pub(super) fn prepare_create(pod: &mut Value, _: &dyn Admission) {
    let class = crate::pod::qos::class(pod.at("spec"));
    let gated = !pod.list("spec.schedulingGates").is_empty();
    let mut status = json!({"phase": "Pending", "qosClass": class});
    if gated {
        status["conditions"] = json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates"}]);
    }
    put(pod, "status", status);
}

/// A pod keeps its class for life; a status without one is not a wish to lose it.
pub(super) fn prepare_status(pod: &mut Value, old: &Value) {
    let class = old.text("status.qosClass").to_owned();
    let status = dig(pod, "status");
    if !class.is_empty() {
        put(status, "qosClass", class);
    }
    fill_text(status, "phase", "Pending");
}

/// How long a pod has to end (pkg/registry/core/pod/strategy.go, `CheckGracefulDelete`): what nobody runs goes at once.
pub(super) fn grace(pod: &Value, requested: Option<i64>) -> Option<i64> {
    let finished = matches!(pod.text("status.phase"), "Succeeded" | "Failed");
    if pod.text("spec.nodeName").is_empty() || finished {
        return Some(0);
    }
    let seconds = requested.or(pod.int("spec.terminationGracePeriodSeconds")).unwrap_or(0);
    Some(if seconds < 0 { 1 } else { seconds })
}

/// `POST pods/NAME/binding`: the scheduler's decision.
fn bind(pod: &mut Value, binding: &Value) -> Result<(), Refusal> {
    let (name, node) = (pod.text("metadata.name").to_owned(), binding.text("target.name").to_owned());
    let refuse = |why: &str| Err(Refusal::conflict("pods/binding", &name, why));
    let mut errors = crate::Errors::default();
    let kind = binding.text("target.kind");
    if !kind.is_empty() && kind != "Node" {
        errors.not_supported("target.kind", &kind.into(), &["Node", "<empty>"]);
    }
    if node.is_empty() {
        errors.required("target.name", "");
    }
    if !errors.0.is_empty() {
        return Err(Refusal::invalid("Binding", &name, errors));
    }
    if pod.has("metadata.deletionTimestamp") {
        return refuse(&format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let current = pod.text("spec.nodeName");
    if !current.is_empty() {
        let why = format!("pod {name} is already assigned to node {current:?}");
        return refuse(&why);
    }
    if !pod.list("spec.schedulingGates").is_empty() {
        return refuse(&format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let uid = binding.text("metadata.uid");
    if !uid.is_empty() && uid != pod.text("metadata.uid") {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", pod.text("metadata.uid"));
        return refuse(&why);
    }
    put(dig(pod, "spec"), "nodeName", node);
    if let Value::Object(annotations) = binding.at("metadata.annotations") {
        let to = dig(pod, "metadata.annotations");
        for (key, value) in annotations {
            put(to, key, value.clone());
        }
    }
    set_scheduled(pod);
    Ok(())
}

fn set_scheduled(pod: &mut Value) {
    let generation = pod.int("metadata.generation");
    // Whole seconds, as metav1.Time has them. The hook has no clock of its own in its signature: a binding happens when it is written.
    let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default().to_string();
    let mut condition = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": now});
    put_or_remove(&mut condition, "observedGeneration", generation.map(Value::from));
    let status = dig(pod, "status");
    fill(status, "conditions", json!([]));
    if let Some(Value::Array(conditions)) = status.get_mut("conditions") {
        conditions.retain(|c| c.text("type") != "PodScheduled");
        conditions.push(condition);
    }
}
