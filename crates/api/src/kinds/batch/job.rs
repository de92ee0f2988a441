//! Job: defaults (pkg/apis/batch/v1/defaults.go), the selector that is made for it (pkg/registry/batch/job/strategy.go), columns; its rules are in
//! `validate` and `status`.

pub(super) mod status;
pub(super) mod validate;

use crate::columns::{AGE, NAME, containers, or_none};
use crate::time::{human_duration, parse};
use crate::value::{Access, dig, fill, fill_text, items_mut, put};
use crate::{Admission, Column, Path, names, pod, selector};
use serde_json::{Value, json};

/// Labels that name the job; the first of each pair is the one before 1.27.
pub(super) const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
/// Labels that tell this job from an earlier one of its name.
pub(super) const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    Column::new("Status", "string", "What has become of it.", |o, _| state(o).into()),
    Column::new("Completions", "string", "Pods that succeeded, of those wished for.", |o, _| completions(o).into()),
    Column::new("Duration", "string", "How long it has run.", |o, now| duration(o, now).into()),
    AGE,
    Column::new("Containers", "string", "The names of a pod's containers.", |o, _| containers(o.at("spec.template.spec"), "name").into()).wide(),
    Column::new("Images", "string", "Their images.", |o, _| containers(o.at("spec.template.spec"), "image").into()).wide(),
    Column::new("Selector", "string", "Which pods belong to it.", |o, _| or_none(&selector::text(o.at("spec.selector")))).wide(),
];

/// A condition that holds.
pub(super) fn is(job: &Value, condition: &str) -> bool {
    job.list("status.conditions").iter().any(|one| one.text("type") == condition && one.text("status") == "True")
}

fn state(job: &Value) -> &'static str {
    match () {
        () if is(job, "Complete") => "Complete",
        () if is(job, "Failed") => "Failed",
        () if job.has("metadata.deletionTimestamp") => "Terminating",
        () if is(job, "Suspended") => "Suspended",
        () if is(job, "FailureTarget") => "FailureTarget",
        () if is(job, "SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(job: &Value) -> String {
    let succeeded = job.int("status.succeeded").unwrap_or(0);
    match (job.int("spec.completions"), job.int("spec.parallelism").unwrap_or(0)) {
        (Some(wished), _) => format!("{succeeded}/{wished}"),
        (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        _ => format!("{succeeded}/1"),
    }
}

fn duration(job: &Value, now: i64) -> String {
    let Some(start) = parse(job.text("status.startTime")) else { return String::new() };
    human_duration(parse(job.text("status.completionTime")).unwrap_or(now) - start)
}

pub(super) fn default(job: &mut Value) {
    let spec = dig(job, "spec");
    spec_default(spec);
    fill(spec, "manualSelector", false);
    dig(job, "status");
    adopt_labels(job);
}

/// What a Job says when it does not say it; also inside a CronJob.
pub(super) fn spec_default(spec: &mut Value) {
    if !spec.has("completions") && !spec.has("parallelism") {
        put(spec, "completions", 1);
    }
    fill(spec, "parallelism", 1);
    // With a limit of its own for every index there is none for all.
    let limit = if spec.has("backoffLimitPerIndex") { i32::MAX } else { 6 };
    fill(spec, "backoffLimit", limit);
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    let replacement = if spec.has("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    fill(spec, "podReplacementPolicy", replacement);
    for rule in items_mut(spec, "podFailurePolicy.rules") {
        items_mut(rule, "onPodConditions").for_each(|pattern| fill_text(pattern, "status", "True"));
    }
    pod::default::template(dig(spec, "template"));
}

/// A job without labels has those of its pods.
fn adopt_labels(job: &mut Value) {
    let labels = job.at("spec.template.metadata.labels").clone();
    if job.object("metadata.labels").is_empty() && !labels.is_null() {
        put(dig(job, "metadata"), "labels", labels);
    }
}

pub(super) fn prepare_create(job: &mut Value, _: &dyn Admission) {
    put(job, "status", json!({}));
    let (name, uid) = (job.text("metadata.name").to_owned(), job.text("metadata.uid").to_owned());
    if !job.flag("spec.manualSelector") {
        let labels = dig(job, "spec.template.metadata.labels");
        // A label of the user's own that says something else is refused by the rules.
        for (keys, value) in [(NAME_LABELS, &name), (UID_LABELS, &uid)] {
            keys.iter().for_each(|key| fill(labels, key, value.as_str()));
        }
        fill(dig(job, "spec.selector.matchLabels"), UID_LABELS[1], uid);
    }
    adopt_labels(job);
}

pub(super) fn warnings(job: &Value) -> Vec<String> {
    let mut all = Vec::new();
    if let Err(why) = names::dns_label(job.text("metadata.name")) {
        all.push(format!("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{why}]"));
    }
    let (spec, path) = (job.at("spec"), Path::new("spec"));
    let (completions, parallelism) = (spec.int("completions").unwrap_or(0), spec.int("parallelism").unwrap_or(0));
    if spec.text("completionMode") == "Indexed" && completions > 100_000 && parallelism > 10_000 {
        all.push("spec: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail".to_owned());
    }
    pod::warnings::template(spec.at("template"), &path.at("template"), &mut all);
    all
}
