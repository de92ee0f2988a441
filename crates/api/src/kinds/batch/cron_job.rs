//! CronJob: a Job whenever the clock says so (pkg/apis/batch: defaults, validation; pkg/registry/batch/cronjob).

use super::job;
use crate::columns::{AGE, NAME, NONE, containers, or_none};
use crate::time::since;
use crate::value::{Access, dig, fill, fill_text, put};
use crate::{Admission, Column, Errors, Path, names, pod, selector};
use mainstay_units::schedule::Schedule;
use serde_json::{Value, json};

/// The Job's name is the CronJob's and eleven characters.
const NAME_MAX: usize = 52;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    Column::new("Schedule", "string", "When a Job is made.", |o, _| o.text("spec.schedule").into()),
    Column::new("Timezone", "string", "Whose clock is meant.", |o, _| or_none(o.text("spec.timeZone"))),
    Column::new("Suspend", "boolean", "Whether it rests.", |o, _| if o.flag("spec.suspend") { "True" } else { "False" }.into()),
    Column::new("Active", "integer", "Jobs that run.", |o, _| o.list("status.active").len().into()),
    Column::new("Last Schedule", "string", "How long ago the last Job was made.", |o, now| match o.text("status.lastScheduleTime") {
        "" => NONE.into(),
        time => since(time, now).into(),
    }),
    AGE,
    Column::new("Containers", "string", "The names of a pod's containers.", |o, _| containers(template(o).at("spec"), "name").into()).wide(),
    Column::new("Images", "string", "Their images.", |o, _| containers(template(o).at("spec"), "image").into()).wide(),
    Column::new("Selector", "string", "Which pods belong to its Jobs.", |o, _| or_none(&selector::text(o.at("spec.jobTemplate.spec.selector")))).wide(),
];

fn template(cron_job: &Value) -> &Value {
    cron_job.at("spec.jobTemplate.spec.template")
}

pub(super) fn default(cron_job: &mut Value) {
    let spec = dig(cron_job, "spec");
    fill_text(spec, "concurrencyPolicy", "Allow");
    fill(spec, "suspend", false);
    fill(spec, "successfulJobsHistoryLimit", 3);
    fill(spec, "failedJobsHistoryLimit", 1);
    dig(spec, "jobTemplate.metadata");
    // The Job's own defaults come with the Job; only its pods are filled in here.
    pod::default::template(dig(spec, "jobTemplate.spec.template"));
    dig(cron_job, "status");
}

pub(super) fn prepare_create(cron_job: &mut Value, _: &dyn Admission) {
    put(cron_job, "status", json!({}));
}

pub(super) fn validate(cron_job: &Value, errors: &mut Errors) {
    let (spec, path) = (cron_job.at("spec"), Path::new("spec"));
    if cron_job.text("metadata.name").len() > NAME_MAX {
        errors.invalid_text("metadata.name", cron_job.text("metadata.name"), "must be no more than 52 characters");
    }
    let schedule = spec.text("schedule");
    if schedule.is_empty() {
        errors.required(path.at("schedule"), "");
    } else if schedule.contains("TZ") {
        errors.invalid_text(path.at("schedule"), schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    } else if let Err(why) = Schedule::parse(schedule) {
        errors.invalid_text(path.at("schedule"), schedule, &why.to_string());
    }
    errors.non_negative(path.at("startingDeadlineSeconds"), spec.int("startingDeadlineSeconds"));
    if spec.has("timeZone") {
        time_zone(spec.text("timeZone"), &path.at("timeZone"), errors);
    }
    errors.one_of(path.at("concurrencyPolicy"), spec.text("concurrencyPolicy"), &["Allow", "Forbid", "Replace"]);
    job_template(spec.at("jobTemplate.spec"), &path.at("jobTemplate.spec"), errors);
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        errors.non_negative(path.at(field), spec.int(field));
    }
}

fn time_zone(name: &str, path: &Path<'_>, errors: &mut Errors) {
    match name {
        "" => errors.invalid_text(path, name, "timeZone must be nil or non-empty string"),
        _ if name.eq_ignore_ascii_case("local") => errors.invalid_text(path, name, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"),
        _ if jiff::tz::TimeZone::get(name).is_err() => errors.invalid_text(path, name, &format!("unknown time zone {name}")),
        _ => {}
    }
}

/// The Job as it will be: with the defaults it gets then.
fn job_template(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut full = spec.clone();
    job::spec_default(&mut full);
    job::validate::validate_spec(&full, path, errors);
    if spec.has("selector") {
        errors.invalid(path.at("selector"), spec.at("selector"), "`selector` will be auto-generated");
    }
    if spec.flag("manualSelector") {
        errors.not_supported(path.at("manualSelector"), &true.into(), &["nil", "false"]);
    }
}

pub(super) fn warnings(cron_job: &Value) -> Vec<String> {
    let mut all = Vec::new();
    if let Err(why) = names::dns_label(cron_job.text("metadata.name")) {
        all.push(format!("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{why}]"));
    }
    pod::warnings::template(template(cron_job), &Path::new("spec.jobTemplate.spec.template"), &mut all);
    all
}
