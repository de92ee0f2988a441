//! What a StatefulSet may say (pkg/apis/apps/validation/validation.go), and what of it may change.

use crate::kinds::core::persistent_volume_claim;
use crate::value::{Access, same, take};
use crate::{Errors, Path, names, pod, selector};
use serde_json::{Value, json};

/// The revision label of a pod is `<set>-<hash>`, the hash up to 10 characters, and a label's value 63.
const NAME_MAX_FOR_LABEL: usize = 52;

const UPDATE_MESSAGE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
const MUTABLE: [&str; 7] =
    ["replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit", "persistentVolumeClaimRetentionPolicy", "minReadySeconds"];

pub(in super::super) fn validate(set: &Value, errors: &mut Errors) {
    let (spec, path) = (set.at("spec"), Path::new("spec"));
    let policy = spec.text("podManagementPolicy");
    if !matches!(policy, "OrderedReady" | "Parallel") {
        errors.invalid_text(path.at("podManagementPolicy"), policy, "must be 'OrderedReady' or 'Parallel'");
    }
    update_strategy(spec.at("updateStrategy"), &path.at("updateStrategy"), errors);
    let at = path.at("persistentVolumeClaimRetentionPolicy");
    for when in ["whenDeleted", "whenScaled"] {
        errors.one_of(at.at(when), spec.at("persistentVolumeClaimRetentionPolicy").text(when), &["Retain", "Delete"]);
    }
    for field in ["replicas", "minReadySeconds", "ordinals.start"] {
        errors.non_negative(path.at(field), spec.int(field));
    }
    if !spec.text("serviceName").is_empty() {
        errors.rule(path.at("serviceName"), spec.text("serviceName"), names::dns_label);
    }
    validate_selector(spec, &path.at("selector"), errors);
    template(spec, &path.at("template"), errors);
    let list = path.at("volumeClaimTemplates");
    for (i, claim) in spec.list("volumeClaimTemplates").iter().enumerate() {
        persistent_volume_claim::validate_spec(claim.at("spec"), &list.index(i).at("spec"), errors);
    }
}

fn update_strategy(strategy: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (kind, rolling) = (strategy.text("type"), strategy.at("rollingUpdate"));
    let at = path.at("rollingUpdate");
    match kind {
        "RollingUpdate" => {
            errors.non_negative(at.at("partition"), rolling.int("partition"));
            if rolling.has("maxUnavailable") {
                max_unavailable(rolling.at("maxUnavailable"), &at.at("maxUnavailable"), errors);
            }
        }
        "OnDelete" if !rolling.is_null() => errors.invalid(at, rolling, "only allowed for updateStrategy 'RollingUpdate'"),
        "OnDelete" => {}
        _ => errors.invalid(path, strategy, "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

/// A positive count, or a percentage up to 100.
fn max_unavailable(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let number = match value.as_str() {
        Some(text) => match text.strip_suffix('%').filter(|n| !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit())) {
            Some(percent) => percent.parse::<i64>().unwrap_or(i64::MAX),
            None => return errors.invalid(path, value, "must be an integer or percentage (e.g '5%')"),
        },
        None => value.as_i64().unwrap_or(0),
    };
    match number {
        0 => errors.invalid(path, value, "cannot be 0"),
        n if n < 0 => errors.invalid(path, value, "must be greater than or equal to 0"),
        n if n > 100 && value.is_string() => errors.invalid(path, value, "must not be greater than 100%"),
        _ => {}
    }
}

fn validate_selector(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let selector = spec.at("selector");
    if selector.is_null() {
        return errors.required(path, "");
    }
    selector::validate(selector, path, errors);
    if selector.object("matchLabels").is_empty() && selector.list("matchExpressions").is_empty() {
        errors.invalid(path, selector, "empty selector is invalid for statefulset");
    }
}

/// The template, with a volume for each claim template, which takes the place of one of the same name.
fn template(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let template = spec.at("template");
    if !selector::matches(spec.at("selector"), template.object("metadata.labels")) {
        errors.invalid(path.at("metadata.labels"), template.at("metadata.labels"), "`selector` does not match template `labels`");
    }
    let claims: Vec<Value> = spec
        .list("volumeClaimTemplates")
        .iter()
        .map(|claim| claim.text("metadata.name"))
        .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
        .collect();
    pod::validate::template(template, &claims, path, errors);
    let restart = template.text("spec.restartPolicy");
    if restart != "Always" {
        errors.not_supported(path.at("spec.restartPolicy"), &restart.into(), &["Always"]);
    }
    if template.has("spec.activeDeadlineSeconds") {
        errors.forbidden(path.at("spec.activeDeadlineSeconds"), "activeDeadlineSeconds in StatefulSet is not Supported");
    }
}

pub(in super::super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let fixed = |set: &Value| {
        let mut spec = set.at("spec").clone();
        for field in MUTABLE {
            drop(take(&mut spec, field));
        }
        spec
    };
    if !same(&fixed(new), &fixed(old)) {
        errors.forbidden("spec", UPDATE_MESSAGE);
    }
}

pub(in super::super) fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    let (status, path) = (new.at("status"), Path::new("status"));
    let counts = ["replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    for field in counts.into_iter().chain(["observedGeneration", "collisionCount"]) {
        errors.non_negative(path.at(field), status.int(field));
    }
    let all = status.int("replicas").unwrap_or(0);
    for field in &counts[1..] {
        let count = status.int(field).unwrap_or(0);
        if count > all {
            errors.invalid(path.at(field), &count.into(), "cannot be greater than status.replicas");
        }
    }
    let available = status.int("availableReplicas").unwrap_or(0);
    if available > status.int("readyReplicas").unwrap_or(0) {
        errors.invalid(path.at("availableReplicas"), &available.into(), "cannot be greater than status.readyReplicas");
    }
    let collisions = status.int("collisionCount").unwrap_or(0);
    if old.int("status.collisionCount").is_some_and(|before| collisions < before) {
        errors.invalid(path.at("collisionCount"), &collisions.into(), "cannot be decremented");
    }
}

pub(in super::super) fn warnings(set: &Value) -> Vec<String> {
    let (spec, path) = (set.at("spec"), Path::new("spec"));
    let mut all = Vec::new();
    if spec.int("revisionHistoryLimit").is_some_and(|n| n < 0) {
        all.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_owned());
    }
    let name = set.text("metadata.name");
    if name.len() > NAME_MAX_FOR_LABEL {
        all.push(format!(
            "metadata.name: a pod's label {name:?}-<hash> would be longer than 63 characters, so no pod of this set can be created; use at most {NAME_MAX_FOR_LABEL} characters"
        ));
    }
    pod::warnings::template(spec.at("template"), &path.at("template"), &mut all);
    let list = path.at("volumeClaimTemplates");
    for (i, claim) in spec.list("volumeClaimTemplates").iter().enumerate() {
        let at = list.index(i);
        let at = at.at("spec");
        all.extend(persistent_volume_claim::spec_warnings(claim.at("spec"), &at));
        let volume = claim.text("spec.volumeName");
        if volume.contains(['{', '}']) {
            all.push(format!(
                "{}: {volume:?} is one name, braces and all: nothing expands it, and the claims will wait for a volume of that name; to pair volumes with replicas set spec.claimRef in each PersistentVolume",
                at.at("volumeName")
            ));
        } else if !volume.is_empty() && spec.int("replicas").unwrap_or(1) > 1 {
            all.push(format!("{}: every replica's claim will ask for the volume {volume:?}, and only one can have it", at.at("volumeName")));
        }
    }
    all
}
