//! The rules, one sentence each, and a simulation: whatever happens between two writes, every pod that ends is counted once, and the job comes to its end.

use super::pod::{FAILURES, INDEX, TRACKING, index, new_pod, tracked};
use super::step::{Observed, Step, condition, finished, step};
use crate::owners::{name_of, uid_of};
use crate::pods::{ended, phase, terminating};
use crate::random::Random;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mainstay_client::Resource;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("in range")
}

fn ago(seconds: i64) -> String {
    (now() - SignedDuration::from_secs(seconds)).to_string()
}

/// `completions=3 parallelism=2 backoff=1 Indexed suspend deadline=60 ttl=5 perIndex=1 policy=FailJob:42 replace=Failed started=10 succeeded=1 failed=1 Complete`.
fn job(line: &str) -> Job {
    let mut spec = json!({"parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "selector": {"matchLabels": {"job": "j"}},
        "template": {"metadata": {"labels": {"job": "j"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}});
    let mut metadata = json!({"name": "j", "namespace": "default", "uid": "job", "generation": 1});
    let mut status = json!({"startTime": ago(10)});
    for word in line.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || json!(value.parse::<i64>().expect("a number"));
        match key {
            "completions" => spec["completions"] = number(),
            "parallelism" => spec["parallelism"] = number(),
            "backoff" => spec["backoffLimit"] = number(),
            "Indexed" => spec["completionMode"] = json!("Indexed"),
            "suspend" => spec["suspend"] = json!(true),
            "deadline" => spec["activeDeadlineSeconds"] = number(),
            "ttl" => spec["ttlSecondsAfterFinished"] = number(),
            "perIndex" => spec["backoffLimitPerIndex"] = number(),
            "maxFailed" => spec["maxFailedIndexes"] = number(),
            "replace" => spec["podReplacementPolicy"] = json!(value),
            "OnFailure" => spec["template"]["spec"]["restartPolicy"] = json!("OnFailure"),
            "policy" => {
                let (action, code) = value.split_once(':').expect("action:code");
                spec["podFailurePolicy"] = json!({"rules": [{"action": action, "onExitCodes": {"operator": "In", "values": [code.parse::<i32>().expect("a code")]}}]});
            }
            "success" => spec["successPolicy"] = json!({"rules": [{"succeededIndexes": value}]}),
            "new" => status = json!({}),
            "succeeded" | "failed" => status[key] = number(),
            "deleting" => metadata["deletionTimestamp"] = json!(ago(1)),
            "since" => status["conditions"][0]["lastTransitionTime"] = json!(ago(value.parse().expect("a number"))),
            "Complete" | "Failed" | "Suspended" | "SuccessCriteriaMet" | "FailureTarget" => status["conditions"] = json!([{"type": key, "status": "True", "reason": "R", "message": "M"}]),
            other => panic!("no such word: {other}"),
        }
    }
    Job::from_value(&json!({"metadata": metadata, "spec": spec, "status": status})).expect("a job")
}

/// `a Running,Ready`, `b Failed exit=42 at=5 index=1 failures=1 untracked`.
fn pod(line: &str) -> Arc<Pod> {
    let mut value = json!({"metadata": {"labels": {"job": "j"}, "finalizers": [TRACKING]}, "spec": {"nodeName": "n", "containers": []}, "status": {"phase": "Pending"}});
    for word in line.split_whitespace() {
        let (key, number) = word.split_once('=').unwrap_or((word, ""));
        for flag in key.split(',') {
            match flag {
                "Running" | "Failed" | "Succeeded" | "Pending" => value["status"]["phase"] = json!(flag),
                "Ready" => value["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]),
                "Terminating" => value["metadata"]["deletionTimestamp"] = json!(ago(1)),
                "untracked" => value["metadata"]["finalizers"] = Value::Null,
                "exit" => value["status"]["containerStatuses"] = json!([{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": number.parse::<i32>().expect("a code"), "finishedAt": ago(3600)}}}]),
                "at" => value["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = json!(ago(number.parse().expect("a number"))),
                "restarts" => value["status"]["containerStatuses"] = json!([{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": number.parse::<i32>().expect("a number")}]),
                "index" => value["metadata"]["annotations"][INDEX] = json!(number),
                "failures" => value["metadata"]["annotations"][FAILURES] = json!(number),
                name => {
                    value["metadata"]["name"] = json!(name);
                    value["metadata"]["uid"] = json!(name);
                }
            }
        }
    }
    Arc::new(Pod::from_value(&value).expect("a pod"))
}

fn observed(line: &str, pods: &str) -> Observed {
    Observed { job: Arc::new(job(line)), pods: pods.split("  ").filter(|line| !line.is_empty()).map(pod).collect() }
}

fn names(pods: &[Arc<Pod>]) -> String {
    pods.iter().map(|pod| name_of(&pod.metadata)).collect::<Vec<_>>().join(" ")
}

/// What is done, then `active/succeeded/failed`, conditions, events.
fn text(step: &Step, now: Timestamp) -> String {
    let mut parts = Vec::new();
    for (word, pods) in [("delete", &step.delete), ("discard", &step.discard), ("settle", &step.settle)] {
        if !pods.is_empty() {
            parts.push(format!("{word} {}", names(pods)));
        }
    }
    if !step.create.is_empty() {
        let indexes: Vec<String> = step.create.iter().map(|pod| index(pod).map_or_else(|| "+".to_owned(), |index| index.to_string())).collect();
        parts.push(format!("create {}", indexes.join(" ")));
    }
    let (status, number) = (&step.status, |count: Option<i32>| count.unwrap_or(0));
    parts.push(format!("{}/{}/{}", number(status.active), number(status.succeeded), number(status.failed)));
    if let Some(indexes) = &status.completed_indexes {
        parts.push(format!("done {indexes}"));
    }
    if let Some(indexes) = &status.failed_indexes {
        parts.push(format!("lost {indexes:?}"));
    }
    let conditions = status.conditions.iter().flatten().filter(|one| one.status == "True");
    parts.extend(conditions.map(|one| format!("{} ({})", one.type_, one.reason.as_deref().unwrap_or_default())));
    parts.extend(step.events.iter().map(|(_, reason, message)| format!("{reason}: {message}")));
    if step.expired {
        parts.push("expired".to_owned());
    }
    if let Some(at) = step.wake_at {
        parts.push(format!("again in {} s", at.duration_since(now).as_secs()));
    }
    parts.join("; ")
}

fn check(table: &[(&str, &str, &str)]) {
    for (job, pods, expected) in table {
        assert_eq!(text(&step(&observed(job, pods), now()), now()), *expected, "{job}: {pods}");
    }
}

#[test]
fn as_many_pods_run_as_may_and_are_needed() {
    check(&[
        ("completions=3 parallelism=2", "", "create + +; 2/0/0"),
        ("completions=3 parallelism=2", "a Running", "create +; 2/0/0"),
        ("completions=3 parallelism=5 succeeded=2", "", "create +; 1/2/0"),
        ("completions=3 parallelism=1", "a Running,Ready  b Pending", "discard b; 1/0/0"),
        ("completions=3 parallelism=0", "", "0/0/0"),
        ("parallelism=2", "", "create + +; 2/0/0"),
        ("parallelism=2 succeeded=1", "a Running", "1/1/0"),
        ("completions=1 deleting", "", "0/0/0"),
    ]);
}

#[test]
fn a_pod_that_succeeds_is_written_down_then_freed_then_counted() {
    check(&[
        ("completions=1", "a Succeeded", "settle a; 0/0/0; SuccessCriteriaMet (CompletionsReached)"),
        ("completions=2", "a Succeeded", "settle a; create +; 1/0/0"),
        ("completions=1 SuccessCriteriaMet succeeded=1", "a Succeeded,untracked", "0/1/0; SuccessCriteriaMet (R); Complete (R); Completed: Job completed"),
    ]);
    let first = step(&observed("completions=1", "a Succeeded"), now());
    assert_eq!(first.status.uncounted_terminated_pods.clone().and_then(|all| all.succeeded), Some(vec!["a".to_owned()]));
    let then = Job { status: Some(first.status), ..job("completions=1") };
    let second = step(&Observed { job: Arc::new(then), pods: vec![pod("a Succeeded,untracked")] }, now());
    assert_eq!(text(&second, now()), "0/1/0; SuccessCriteriaMet (CompletionsReached); Complete (CompletionsReached); Completed: Job completed");
    assert_eq!(second.status.completion_time.map(|time| time.0), Some(now()));
}

#[test]
fn failures_are_tried_again_later_and_later_until_the_limit() {
    check(&[
        ("completions=1", "a Failed exit=1 at=1", "settle a; 0/0/0; again in 9 s"),
        ("completions=1", "a Failed exit=1 at=1  b Failed exit=1 at=15 untracked", "settle a; 0/0/0; again in 19 s"),
        ("completions=1 failed=1", "a Failed,untracked exit=1 at=11", "create +; 1/0/1"),
        ("completions=1 backoff=0", "a Failed exit=1 at=1", "settle a; 0/0/0; FailureTarget (BackoffLimitExceeded)"),
        ("completions=1 backoff=1 failed=1", "a Failed exit=1", "settle a; 0/0/1; FailureTarget (BackoffLimitExceeded)"),
        ("completions=2 parallelism=2 backoff=0", "a Failed exit=1  b Running", "delete b; settle a b; 0/0/0; FailureTarget (BackoffLimitExceeded)"),
        ("completions=1 FailureTarget failed=1", "", "0/0/1; FailureTarget (R); Failed (R); R: M"),
        ("completions=1 FailureTarget failed=1", "a Running,Terminating,untracked", "0/0/1; FailureTarget (R)"),
        ("completions=1 OnFailure backoff=2", "a Running restarts=1", "1/0/0"),
        ("completions=1 OnFailure backoff=2", "a Running restarts=2", "delete a; settle a; 0/0/0; FailureTarget (BackoffLimitExceeded)"),
    ]);
}

#[test]
fn a_job_fails_when_its_time_is_over() {
    check(&[
        ("completions=1 deadline=60", "a Running", "1/0/0; again in 50 s"),
        ("completions=1 deadline=10", "a Running", "delete a; settle a; 0/0/0; FailureTarget (DeadlineExceeded)"),
        ("completions=1 deadline=10 suspend Suspended", "", "0/0/0; Suspended (JobSuspended); Suspended: Job suspended"),
        ("completions=1 deadline=60 new", "", "create +; 1/0/0; again in 60 s"),
    ]);
}

#[test]
fn a_suspended_job_runs_nothing_and_starts_anew() {
    check(&[
        ("completions=1 suspend new", "", "0/0/0; Suspended (JobSuspended); Suspended: Job suspended"),
        ("completions=1 suspend", "a Running", "discard a; 0/0/0; Suspended (JobSuspended); Suspended: Job suspended"),
        ("completions=1 Suspended", "", "create +; 1/0/0; Resumed: Job resumed"),
    ]);
    let resumed = step(&observed("completions=1 Suspended", ""), now());
    assert_eq!(resumed.status.start_time.map(|time| time.0), Some(now()));
    assert!(step(&observed("completions=1 suspend new", ""), now()).status.start_time.is_none());
}

#[test]
fn an_indexed_job_has_one_pod_an_index() {
    check(&[
        ("completions=3 parallelism=2 Indexed", "", "create 0 1; 2/0/0"),
        ("completions=3 parallelism=3 Indexed", "a Running index=1", "create 0 2; 3/0/0"),
        ("completions=3 parallelism=2 Indexed", "a Succeeded index=0  b Running index=1", "settle a; create 2; 2/1/0; done 0"),
        ("completions=3 parallelism=3 Indexed", "a Running,Ready index=1  b Running index=1", "discard b; 1/0/0"),
        ("completions=2 parallelism=2 Indexed", "a Running index=7", "discard a; 0/0/0"),
        ("completions=2 parallelism=2 Indexed", "a Succeeded index=0  b Succeeded index=1", "settle a b; 0/2/0; done 0,1; SuccessCriteriaMet (CompletionsReached)"),
        ("completions=3 parallelism=3 Indexed success=0", "a Succeeded index=0  b Running index=1", "delete b; settle a b; 0/1/0; done 0; SuccessCriteriaMet (SuccessPolicy)"),
    ]);
    let pod = new_pod(&job("completions=3 Indexed"), Some(2), None);
    let spec = pod.spec.expect("a spec");
    assert_eq!((pod.metadata.generate_name.as_deref(), spec.hostname.as_deref()), (Some("j-2-"), Some("j-2")));
    let variable = &spec.containers[0].env.as_ref().expect("an environment")[0];
    assert_eq!(variable.value_from.as_ref().and_then(|from| from.field_ref.as_ref()).map(|field| field.field_path.as_str()), Some("metadata.labels['batch.kubernetes.io/job-completion-index']"));
    assert_eq!(pod.metadata.labels.expect("labels")[INDEX], "2");
}

#[test]
fn with_a_limit_of_its_own_an_index_fails_alone() {
    check(&[
        // The pod keeps its finalizer until another carries on its count.
        ("completions=2 parallelism=2 Indexed perIndex=1", "a Failed index=0 exit=1 at=1  b Running index=1", "1/0/0; lost \"\"; again in 9 s"),
        ("completions=2 parallelism=2 Indexed perIndex=1", "a Failed index=0 exit=1 at=11  b Running index=1", "create 0; 2/0/0; lost \"\""),
        ("completions=2 parallelism=2 Indexed perIndex=1", "a Failed index=0 exit=1  c Running index=0 failures=1  b Running index=1", "settle a; 2/0/0; lost \"\""),
        ("completions=2 parallelism=2 Indexed perIndex=0", "a Failed index=0 exit=1  b Running index=1", "settle a; 1/0/0; lost \"0\""),
        ("completions=2 parallelism=2 Indexed perIndex=0", "a Failed index=0 exit=1  b Succeeded index=1", "settle a b; 0/1/0; done 1; lost \"0\"; FailureTarget (FailedIndexes)"),
        ("completions=3 parallelism=3 Indexed perIndex=0 maxFailed=0", "a Failed index=0 exit=1", "settle a; 0/0/0; lost \"0\"; FailureTarget (MaxFailedIndexesExceeded)"),
    ]);
    let again = step(&observed("completions=1 Indexed perIndex=3", "a Failed index=0 failures=1 exit=1"), now());
    assert_eq!(again.create[0].metadata.annotations.as_ref().expect("annotations")[FAILURES], "2");
}

#[test]
fn a_policy_says_what_a_failure_means() {
    check(&[
        ("completions=1 policy=FailJob:42", "a Failed exit=42", "settle a; 0/0/0; FailureTarget (PodFailurePolicy)"),
        ("completions=1 policy=FailJob:42", "a Failed exit=41", "settle a; create +; 1/0/0"),
        ("completions=1 backoff=0 policy=Ignore:42", "a Failed exit=42 at=1", "settle a; create +; 1/0/0"),
        ("completions=1 backoff=0 policy=Count:42", "a Failed exit=42", "settle a; 0/0/0; FailureTarget (BackoffLimitExceeded)"),
        ("completions=2 parallelism=2 Indexed perIndex=5 policy=FailIndex:42", "a Failed index=0 exit=42  b Running index=1", "settle a; 1/0/0; lost \"0\""),
    ]);
    let step = step(&observed("completions=1 policy=FailJob:42", "a Failed exit=42"), now());
    let message = step.status.conditions.expect("conditions")[0].message.clone();
    assert_eq!(message.as_deref(), Some("Container c for pod /a failed with exit code 42 matching FailJob rule at index 0"));
}

#[test]
fn a_terminating_pod_is_replaced_at_once_or_when_it_has_ended() {
    check(&[
        // It counts as a failure, and is waited for as one.
        ("completions=1", "a Running,Terminating", "settle a; 0/0/0; again in 9 s"),
        ("completions=1 failed=1", "", "create +; 1/0/1"),
        ("completions=1 replace=Failed", "a Running,Terminating", "0/0/0"),
        ("completions=1 replace=Failed", "a Failed,Terminating exit=143", "settle a; create +; 1/0/0"),
    ]);
}

#[test]
fn a_finished_job_waits_for_its_time_to_live() {
    check(&[
        ("completions=1 ttl=5 Complete since=3", "", "0/0/0; Complete (R); again in 2 s"),
        ("completions=1 ttl=5 Failed since=5", "", "0/0/0; Failed (R); expired"),
        ("completions=1 ttl=5 Failed since=9 deleting", "", "0/0/0; Failed (R)"),
        ("completions=1 Complete", "a Succeeded", "settle a; 0/0/0; Complete (R)"),
    ]);
}

/// A job, its pods, and what really became of them.
struct World {
    job: Job,
    pods: BTreeMap<String, Pod>,
    random: Random,
    now: Timestamp,
    made: usize,
    succeeded: i32,
    stormy: bool,
    failing: u64,
}

impl World {
    fn stopped(&mut self) -> bool {
        self.stormy && self.random.chance(12)
    }

    fn settle(&mut self, pod: &Pod) {
        let uid = uid_of(&pod.metadata).to_owned();
        if let Some(pod) = self.pods.get_mut(&uid) {
            pod.metadata.finalizers = None;
        }
        self.sweep();
    }

    fn delete(&mut self, pod: &Pod) {
        let at = Time(self.now);
        if let Some(pod) = self.pods.get_mut(uid_of(&pod.metadata)) {
            pod.metadata.deletion_timestamp.get_or_insert(at);
        }
        self.sweep();
    }

    /// What is deleted and has ended goes once nothing holds it.
    fn sweep(&mut self) {
        self.pods.retain(|_, pod| !(terminating(pod) && ended(pod) && !tracked(pod)));
    }

    fn control(&mut self) {
        let observed = Observed { job: Arc::new(self.job.clone()), pods: self.pods.values().cloned().map(Arc::new).collect() };
        let decided = step(&observed, self.now);
        for pod in &decided.delete {
            self.delete(pod);
        }
        for pod in &decided.discard {
            self.settle(pod);
            if self.stopped() {
                return;
            }
            self.delete(pod);
        }
        for pod in &decided.create {
            if self.stopped() {
                return;
            }
            self.made += 1;
            let mut pod = pod.clone();
            let uid = format!("p{}", self.made);
            (pod.metadata.uid, pod.metadata.name) = (Some(uid.clone()), Some(uid.clone()));
            pod.metadata.creation_timestamp = Some(Time(self.now));
            pod.status.get_or_insert_default().phase = Some("Pending".to_owned());
            self.pods.insert(uid, pod);
        }
        if self.stopped() {
            return;
        }
        if finished(&self.job).is_none() {
            let before = self.job.status.clone().unwrap_or_default();
            assert!(decided.status.failed >= before.failed, "a count never shrinks");
            self.job.status = Some(decided.status.clone());
        }
        for pod in &decided.settle {
            if self.stopped() {
                return;
            }
            self.settle(pod);
        }
    }

    fn live(&mut self) {
        self.now += SignedDuration::from_secs(30);
        let uids: Vec<String> = self.pods.keys().cloned().collect();
        for uid in uids {
            let (moves, fails, evicted) = (self.random.chance(60), self.random.chance(self.failing), self.stormy && self.random.chance(2));
            let at = Time(self.now);
            let Some(pod) = self.pods.get_mut(&uid) else { continue };
            if evicted && !ended(pod) {
                pod.metadata.deletion_timestamp.get_or_insert(at.clone());
            }
            let going = terminating(pod);
            let status = pod.status.get_or_insert_default();
            match status.phase.as_deref() {
                Some("Pending") if moves => status.phase = Some("Running".to_owned()),
                Some("Running") if moves && (fails || going) => status.phase = Some("Failed".to_owned()),
                Some("Running") if moves => {
                    status.phase = Some("Succeeded".to_owned());
                    // One that its controller does not track any more was superfluous.
                    self.succeeded += i32::from(tracked(pod));
                }
                _ => {}
            }
            if going && phase(&self.pods[&uid]) == "Pending" {
                self.pods.get_mut(&uid).and_then(|pod| pod.status.as_mut()).expect("a status").phase = Some("Failed".to_owned());
            }
        }
        self.sweep();
    }
}

#[test]
fn every_pod_is_counted_once_wherever_the_controller_is_stopped() {
    for seed in 0..40 {
        for (line, failing, end) in [
            ("completions=5 parallelism=3 backoff=1000 new", 20, "Complete"),
            ("completions=5 parallelism=3 Indexed backoff=1000 new", 20, "Complete"),
            ("completions=3 parallelism=3 Indexed perIndex=100 backoff=1000 new", 20, "Complete"),
            ("completions=4 parallelism=2 backoff=2 new", 100, "Failed"),
            ("completions=4 parallelism=2 backoff=3 replace=Failed new", 100, "Failed"),
            ("completions=2 parallelism=2 Indexed perIndex=1 backoff=1000 new", 100, "Failed"),
        ] {
            let mut world = World { job: job(line), pods: BTreeMap::new(), random: Random::new(seed), now: now(), made: 0, succeeded: 0, stormy: true, failing };
            for round in 0..400 {
                world.stormy = round < 60;
                world.control();
                world.live();
            }
            let status = world.job.status.clone().unwrap_or_default();
            assert!(condition(&world.job, end).is_some(), "seed {seed} {line}: {status:?}");
            let spec = world.job.spec.as_ref().expect("a spec");
            if end == "Complete" {
                assert_eq!(status.succeeded, spec.completions, "seed {seed} {line}");
                assert!(line.contains("Indexed") || world.succeeded == status.succeeded.unwrap_or(0), "seed {seed} {line}: {} succeeded, {status:?}", world.succeeded);
            } else {
                assert_eq!(status.succeeded, None, "seed {seed} {line}");
            }
            assert_eq!((status.active, status.terminating), (None, Some(0)), "seed {seed} {line}");
            assert!(!world.pods.values().any(tracked), "seed {seed} {line}: a finalizer is left behind");
        }
    }
}
