//! The rules, one sentence each. A cron job: `*/5 * * * * | policy=Forbid last=12:00 deadline=30 suspend success=1`; Jobs: `a Complete 11:55  b`.

use super::step::{Observed, step};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use mainstay_client::Resource;
use serde_json::json;
use std::sync::Arc;

fn time(clock: &str) -> String {
    format!("2026-01-31T{clock}:00Z")
}

fn cron_job(line: &str) -> CronJob {
    let (schedule, words) = line.split_once('|').unwrap_or((line, ""));
    let mut spec = json!({"schedule": schedule.trim(), "concurrencyPolicy": "Allow", "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1,
        "jobTemplate": {"metadata": {"labels": {"app": "backup"}}, "spec": {"template": {"spec": {"containers": []}}}}});
    let mut status = json!({});
    for word in words.split_whitespace() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("policy", value) => spec["concurrencyPolicy"] = json!(value),
            ("zone", value) => spec["timeZone"] = json!(value),
            ("last", clock) => status["lastScheduleTime"] = json!(time(clock)),
            ("deadline", value) => spec["startingDeadlineSeconds"] = json!(value.parse::<i64>().expect("a number")),
            ("suspend", _) => spec["suspend"] = json!(true),
            ("success", value) => spec["successfulJobsHistoryLimit"] = json!(value.parse::<i32>().expect("a number")),
            ("active", name) => status["active"] = json!([{"name": name, "uid": name}]),
            (other, _) => panic!("no such word: {other}"),
        }
    }
    let metadata = json!({"name": "backup", "namespace": "default", "uid": "cron", "creationTimestamp": time("10:00")});
    CronJob::from_value(&json!({"metadata": metadata, "spec": spec, "status": status})).expect("a cron job")
}

fn job(line: &str) -> Arc<Job> {
    let mut words = line.split_whitespace();
    let name = words.next().expect("a name");
    let mut value = json!({"metadata": {"name": name, "namespace": "default", "uid": name}, "status": {}});
    for word in words {
        if word.contains(':') {
            value["status"]["startTime"] = json!(time(word));
            value["status"]["completionTime"] = json!(time(word));
        } else {
            value["status"]["conditions"] = json!([{"type": word, "status": "True"}]);
        }
    }
    Arc::new(Job::from_value(&value).expect("a job"))
}

fn check(now: &str, table: &[(&str, &str, &str)]) {
    for (line, jobs, expected) in table {
        let now: Timestamp = now.parse().expect("a time");
        let jobs = jobs.split("  ").filter(|line| !line.is_empty()).map(job).collect();
        let step = step(&Observed { cron_job: Arc::new(cron_job(line)), jobs }, now);
        let mut parts: Vec<String> = step.delete.iter().map(|job| format!("delete {}", job.metadata.name.as_deref().unwrap_or_default())).collect();
        parts.extend(step.create.iter().map(|job| format!("create {}", job.metadata.name.as_deref().unwrap_or_default())));
        parts.extend(step.events.iter().map(|(_, reason, _)| (*reason).to_owned()));
        parts.extend(step.status.last_schedule_time.iter().map(|time| format!("last {}", time.0.strftime("%H:%M"))));
        parts.extend(step.wake_at.iter().map(|at| format!("again {}", at.strftime("%H:%M"))));
        assert_eq!(parts.join("; "), *expected, "{line}: {:?}", step.status);
    }
}

#[test]
fn a_job_is_made_when_its_time_has_come_and_only_the_last_is_made_up_for() {
    check("2026-01-31T12:03:00Z", &[
        ("*/5 * * * * | last=11:55", "", "create backup-29497680; last 12:00; again 12:05"),
        ("*/5 * * * * | last=12:00", "", "last 12:00; again 12:05"),
        ("*/5 * * * * | last=10:00", "", "create backup-29497680; last 12:00; again 12:05"),
        ("* * * * *", "", "create backup-29497683; TooManyMissedTimes; last 12:03; again 12:04"),
        ("*/5 * * * * | last=11:55 deadline=60", "", "last 11:55; again 12:05"),
        ("*/5 * * * * | last=11:55 deadline=600", "", "create backup-29497680; last 12:00; again 12:05"),
        ("*/5 * * * * | last=11:55 suspend", "", "last 11:55"),
        ("0 13 * * * | zone=Europe/Berlin last=10:00", "", "create backup-29497680; last 12:00; again 12:00"),
        ("nightly | last=11:55", "", "UnparseableSchedule; last 11:55"),
    ]);
}

#[test]
fn a_job_that_is_there_already_is_only_noted() {
    check("2026-01-31T12:03:00Z", &[("*/5 * * * * | last=11:55", "backup-29497680", "UnexpectedJob; last 12:00; again 12:05")]);
}

#[test]
fn the_policy_says_what_becomes_of_a_job_that_still_runs() {
    check("2026-01-31T12:03:00Z", &[
        ("*/5 * * * * | last=11:55 active=a", "a", "create backup-29497680; last 12:00; again 12:05"),
        ("*/5 * * * * | last=11:55 active=a policy=Forbid", "a", "JobAlreadyActive; last 11:55; again 12:05"),
        ("*/5 * * * * | last=11:55 active=a policy=Replace", "a", "delete a; create backup-29497680; last 12:00; again 12:05"),
        ("*/5 * * * * | last=12:00 active=a", "a Complete 12:01", "SawCompletedJob; last 12:00; again 12:05"),
        ("*/5 * * * * | last=12:00 active=a", "", "MissingJob; last 12:00; again 12:05"),
    ]);
}

#[test]
fn finished_jobs_beyond_the_limits_go_the_oldest_first() {
    check("2026-01-31T12:03:00Z", &[
        ("*/5 * * * * | last=12:00 success=1", "b Complete 11:55  a Complete 11:50  c Complete 12:00", "delete a; delete b; last 12:00; again 12:05"),
        ("*/5 * * * * | last=12:00", "a Failed 11:50  b Failed 11:55  c Complete 12:00", "delete a; last 12:00; again 12:05"),
    ]);
}
