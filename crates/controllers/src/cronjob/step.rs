//! Observed → Step. Upstream: `syncCronJob` (pkg/controller/cronjob/cronjob_controllerv2.go, 1.36). Pure: no clock, no request.

use crate::job::{condition, finished};
use crate::owners::{name_of, owner_ref, uid_of};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use mainstay_client::{Severity, reference};
use mainstay_units::schedule::Schedule;
use std::sync::Arc;

/// Annotation: the time a Job is for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed times than this are told of: the clock may have leapt.
const MISSED_LIMIT: usize = 100;
/// Missed times that are gone through one by one; beyond, the search begins later.
const WALK_LIMIT: usize = 10_000;

/// What there is: the cron job and the Jobs it manages.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub(crate) cron_job: Arc<CronJob>,
    pub(crate) jobs: Vec<Arc<Job>>,
}

/// What to do: old Jobs go, a new one comes, the status says so.
#[derive(Debug, Clone, Default)]
pub(crate) struct Step {
    pub(crate) delete: Vec<Arc<Job>>,
    pub(crate) create: Option<Box<Job>>,
    pub(crate) status: CronJobStatus,
    pub(crate) events: Vec<(Severity, &'static str, String)>,
    /// When to look again even if nothing changes.
    pub(crate) wake_at: Option<Timestamp>,
}

/// What to do for a cron job, given what there is.
pub(crate) fn step(observed: &Observed, now: Timestamp) -> Step {
    let cron_job = &*observed.cron_job;
    let spec = &cron_job.spec;
    let mut step = Step { status: cron_job.status.clone().unwrap_or_default(), ..Step::default() };
    history(spec, &observed.jobs, &mut step);
    active(observed, &mut step);
    if cron_job.metadata.deletion_timestamp.is_none() && spec.suspend != Some(true) {
        schedule(observed, spec, now, &mut step);
    }
    step.status.active = step.status.active.filter(|active| !active.is_empty());
    step
}

fn started(job: &Job) -> (Option<Timestamp>, &str) {
    (job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0), name_of(&job.metadata))
}

/// Finished Jobs beyond the limits, the oldest first.
fn history(spec: &CronJobSpec, jobs: &[Arc<Job>], step: &mut Step) {
    for (kind, limit) in [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)] {
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
        let mut ended: Vec<&Arc<Job>> = jobs.iter().filter(|job| condition(job, kind).is_some() && job.metadata.deletion_timestamp.is_none()).collect();
        ended.sort_by(|a, b| started(a).cmp(&started(b)));
        let excess = ended.len().saturating_sub(limit);
        step.delete.extend(ended.into_iter().take(excess).cloned());
    }
}

/// Which Jobs run.
fn active(observed: &Observed, step: &mut Step) {
    let listed = step.status.active.take().unwrap_or_default();
    let is = |job: &Job, reference: &ObjectReference| reference.uid.as_deref() == Some(uid_of(&job.metadata));
    let mut running = Vec::new();
    for reference in listed {
        match observed.jobs.iter().find(|job| is(job, &reference)) {
            None => step.events.push((Severity::Normal, "MissingJob", format!("Active job went missing: {}", reference.name.as_deref().unwrap_or_default()))),
            Some(job) => match finished(job) {
                None => running.push(reference),
                Some(end) => {
                    let words = format!("Saw completed job: {}, condition: {}", name_of(&job.metadata), end.type_);
                    step.events.push((Severity::Normal, "SawCompletedJob", words));
                }
            },
        }
    }
    for job in observed.jobs.iter().filter(|job| finished(job).is_none()) {
        if !running.iter().any(|known| is(job, known)) {
            let words = format!("Saw a job that the controller did not create or forgot: {}", name_of(&job.metadata));
            step.events.push((Severity::Warning, "UnexpectedJob", words));
            running.push(refer(job));
        }
    }
    step.status.active = Some(running);
    let done = observed.jobs.iter().filter(|job| condition(job, "Complete").is_some());
    let last = done.filter_map(|job| job.status.as_ref()?.completion_time.clone()).max();
    if last > step.status.last_successful_time {
        step.status.last_successful_time = last;
    }
}

fn refer(job: &Job) -> ObjectReference {
    reference(job)
}

fn schedule(observed: &Observed, spec: &CronJobSpec, now: Timestamp, step: &mut Step) {
    let cron_job = &*observed.cron_job;
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(why) => return step.events.push((Severity::Warning, "UnparseableSchedule", format!("unparseable schedule: {:?} : {why}", spec.schedule))),
    };
    let zone = match spec.time_zone.as_deref().map_or(Ok(TimeZone::UTC), TimeZone::get) {
        Ok(zone) => zone,
        Err(why) => return step.events.push((Severity::Warning, "UnknownTimeZone", format!("invalid timeZone: {:?}: {why}", spec.time_zone.as_deref().unwrap_or_default()))),
    };
    step.wake_at = schedule.next(now, &zone);
    let Some(due) = due(cron_job, spec, &schedule, &zone, now, step) else { return };
    let deadline = spec.starting_deadline_seconds.and_then(|seconds| due.checked_add(SignedDuration::from_secs(seconds)).ok());
    if deadline.is_some_and(|deadline| deadline < now) {
        return step.events.push((Severity::Warning, "MissSchedule", format!("Missed scheduled time to start a job: {}", due.strftime("%a, %d %b %Y %H:%M:%S +0000"))));
    }
    let job = new_job(cron_job, spec, due, &zone);
    let running = step.status.active.get_or_insert_default();
    if running.iter().any(|known| known.name == job.metadata.name) || observed.jobs.iter().any(|known| known.metadata.name == job.metadata.name) {
        // Made by an earlier look that was stopped before it could say so.
        step.status.last_schedule_time = Some(Time(due));
        return;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !running.is_empty() => {
            let words = "Not starting job because prior execution is running and concurrency policy is Forbid";
            return step.events.push((Severity::Normal, "JobAlreadyActive", words.to_owned()));
        }
        Some("Replace") => {
            let replaced = observed.jobs.iter().filter(|job| finished(job).is_none());
            step.delete.extend(replaced.cloned());
            running.clear();
        }
        _ => {}
    }
    step.status.last_schedule_time = Some(Time(due));
    step.create = Some(Box::new(job));
}

/// The last time that has come since the last Job, or since the cron job is there.
fn due(cron_job: &CronJob, spec: &CronJobSpec, schedule: &Schedule, zone: &TimeZone, now: Timestamp, step: &mut Step) -> Option<Timestamp> {
    let created = cron_job.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let mut since = step.status.last_schedule_time.as_ref().map_or(created, |time| time.0);
    if let Some(seconds) = spec.starting_deadline_seconds {
        since = since.max(now.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(since));
    }
    let mut missed = 0;
    let mut last = None;
    while let Some(time) = schedule.next(last.unwrap_or(since), zone).filter(|time| *time <= now) {
        missed += 1;
        last = Some(time);
        if missed == WALK_LIMIT {
            // Rarer than that the times cannot be any more: the last hour has one, or the search goes on.
            last = last.max(now.checked_sub(SignedDuration::from_hours(1)).ok());
        }
    }
    if missed > MISSED_LIMIT {
        let words = format!("too many missed start times: {missed}. Set or decrease .spec.startingDeadlineSeconds or check clock skew");
        step.events.push((Severity::Warning, "TooManyMissedTimes", words));
    }
    last
}

/// The Job of one scheduled time; its name says which.
fn new_job(cron_job: &CronJob, spec: &CronJobSpec, due: Timestamp, zone: &TimeZone) -> Job {
    let from = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = from.annotations.unwrap_or_default();
    let local = due.to_zoned(zone.clone());
    let offset = if local.offset().is_zero() { "Z".to_owned() } else { local.strftime("%:z").to_string() };
    annotations.insert(SCHEDULED.to_owned(), format!("{}{offset}", local.strftime("%Y-%m-%dT%H:%M:%S")));
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", name_of(&cron_job.metadata), due.as_second() / 60)),
            namespace: cron_job.metadata.namespace.clone(),
            labels: from.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner_ref(cron_job)]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    }
}
