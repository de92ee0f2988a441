//! What may change in a pod (`ValidatePodUpdate`, `ValidatePodStatusUpdate`).

use super::validate::ip;
use crate::value::{Access, Object, dig, items_mut, put, put_or_remove, same};
use crate::{Errors, Path, diff, names};
use serde_json::Value;

const MESSAGE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const DEADLINE_MAX: i64 = 2_147_483_647;
const MIRROR: &str = "kubernetes.io/config.mirror";

pub(crate) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    mirror(new, old, errors);
    let (spec, before, path) = (new.at("spec"), old.at("spec"), Path::new("spec"));
    for list in ["containers", "initContainers"] {
        if spec.list(list).len() != before.list(list).len() {
            return errors.forbidden(path.at(list), "pod updates may not add or remove containers");
        }
    }
    if !deadline(spec, before, &path.at("activeDeadlineSeconds"), errors) {
        return;
    }
    tolerations(spec, before, &path.at("tolerations"), errors);
    let list = path.at("schedulingGates");
    for (i, gate) in spec.list("schedulingGates").iter().enumerate() {
        if !before.list("schedulingGates").contains(gate) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.text("name"));
            errors.forbidden(list.index(i).at("name"), &detail);
        }
    }
    if same(spec, before) {
        return;
    }
    let compared = without_what_may_change(spec, before, &path, errors);
    if !same(&compared, before) {
        errors.forbidden(path, &format!("{MESSAGE}\n{}", diff::lines(before, &compared)));
    }
}

fn mirror(new: &Value, old: &Value, errors: &mut Errors) {
    let of = |pod: &Value| pod.object("metadata.annotations").get(MIRROR).cloned();
    let path = Path::new("metadata.annotations");
    match (of(new), of(old)) {
        (Some(_), None) => errors.forbidden(path.key(MIRROR), "may not add mirror pod annotation"),
        (new, old) if new != old => errors.forbidden(path.key(MIRROR), "may not remove or update mirror pod annotation"),
        _ => {}
    }
}

/// From unset to something, and from there only down. False: nothing else is worth saying.
fn deadline(spec: &Value, before: &Value, path: &Path<'_>, errors: &mut Errors) -> bool {
    match (spec.int("activeDeadlineSeconds"), before.int("activeDeadlineSeconds")) {
        (Some(new), _) if !(0..=DEADLINE_MAX).contains(&new) => {
            errors.invalid(path, &new.into(), &format!("must be between 0 and {DEADLINE_MAX}, inclusive"));
            false
        }
        (Some(new), Some(old)) if old < new => {
            errors.invalid(path, &new.into(), "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            errors.invalid(path, &Value::Null, "must not update from a positive integer to nil value");
            true
        }
        _ => true,
    }
}

fn tolerations(spec: &Value, before: &Value, path: &Path<'_>, errors: &mut Errors) {
    let without_seconds = |toleration: &Value| {
        let mut fields: Object = toleration.object("").clone();
        fields.remove("tolerationSeconds");
        fields
    };
    let now: Vec<Object> = spec.list("tolerations").iter().map(without_seconds).collect();
    if before.list("tolerations").iter().any(|t| !now.contains(&without_seconds(t))) {
        errors.forbidden(path, "existing toleration can not be modified except its tolerationSeconds");
    }
}

/// The new spec with the old one's images, deadline and so on: what is left different is not allowed.
fn without_what_may_change(spec: &Value, before: &Value, path: &Path<'_>, errors: &mut Errors) -> Value {
    let mut compared = spec.clone();
    for list in ["containers", "initContainers"] {
        for (container, old) in items_mut(&mut compared, list).zip(before.list(list)) {
            put(container, "image", old.text("image"));
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        put_or_remove(&mut compared, field, Some(before.at(field).clone()));
    }
    let grace = before.int("terminationGracePeriodSeconds").unwrap_or(0);
    if grace < 0 && compared.int("terminationGracePeriodSeconds") == Some(1) {
        put(&mut compared, "terminationGracePeriodSeconds", grace);
    }
    if !before.list("schedulingGates").is_empty() {
        let (new, old) = (compared.object("nodeSelector").clone(), before.object("nodeSelector"));
        if old.iter().any(|(key, value)| new.get(key) != Some(value)) {
            let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            errors.invalid(path.at("nodeSelector"), compared.at("nodeSelector"), detail);
        }
        put_or_remove(&mut compared, "nodeSelector", Some(before.at("nodeSelector").clone()));
        let affinity = before.at("affinity.nodeAffinity").clone();
        if compared.has("affinity") || !affinity.is_null() {
            put_or_remove(dig(&mut compared, "affinity"), "nodeAffinity", Some(affinity));
        }
    }
    compared
}

pub(crate) fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    let (status, before, path) = (new.at("status"), old.at("status"), Path::new("status"));
    let list = path.at("conditions");
    for (i, condition) in status.list("conditions").iter().enumerate() {
        errors.rules(&list.index(i).at("Type"), condition.text("type"), names::qualified_name);
    }
    let node = status.text("nominatedNodeName");
    if !node.is_empty() {
        errors.rule(path.at("nominatedNodeName"), node, names::dns_subdomain);
    }
    if before.has("qosClass") && status.at("qosClass") != before.at("qosClass") {
        errors.invalid(path.at("qosClass"), status.at("qosClass"), "field is immutable");
    }
    let policy = old.text("spec.restartPolicy");
    ended_stays_ended(status, before, "containerStatuses", policy, &|_| false, errors);
    let sidecar = |name: &str| old.list("spec.initContainers").iter().any(|c| c.text("name") == name && c.text("restartPolicy") == "Always");
    ended_stays_ended(status, before, "initContainerStatuses", policy, &sidecar, errors);
    ended_stays_ended(status, before, "ephemeralContainerStatuses", "Never", &|_| false, errors);
    let list = path.at("podIPs");
    for (i, entry) in status.list("podIPs").iter().enumerate() {
        ip(entry.text("ip"), &list.index(i).at("ip"), errors);
    }
    if let Some(first) = status.list("hostIPs").first()
        && first.text("ip") != status.text("hostIP")
    {
        errors.invalid_text(path.at("hostIPs").index(0).at("ip"), first.text("ip"), "must be equal to `hostIP`");
    }
}

/// A container that will not be restarted does not come back.
fn ended_stays_ended(status: &Value, before: &Value, list: &str, policy: &str, exempt: &dyn Fn(&str) -> bool, errors: &mut Errors) {
    if policy == "Always" {
        return;
    }
    let path = Path::new("status");
    let path = path.at(list);
    for (i, old) in before.list(list).iter().enumerate() {
        let ended = old.at("state.terminated");
        let retried = ended.int("exitCode").unwrap_or(0) != 0 && policy == "OnFailure";
        if ended.is_null() || retried || exempt(old.text("name")) {
            continue;
        }
        if status.list(list).iter().any(|new| new.text("name") == old.text("name") && !new.has("state.terminated")) {
            errors.forbidden(path.index(i).at("state"), "may not be transitioned to non-terminated state");
        }
    }
}
