//! Observed → Step. Upstream: `syncJob`, `manageJob`, `trackJobStatusAndRemoveFinalizers` (pkg/controller/job/job_controller.go, 1.36).
//!
//! Pure: no clock, no request. Where upstream writes the status, removes finalizers and counts in one go, here each look does one of them: what a pod's
//! end means is written down, then the finalizer goes, and the next look, which sees that, counts. Safe to stop between any two writes.

use super::indexes;
use super::pod::{FAILURES, IGNORED_FAILURES, counted, failed, index, new_pod, tracked};
use super::policy::{Verdict, judge, success};
use super::backoff;
use crate::owners::uid_of;
use crate::pods::{BURST_LIMIT, active, ended, first_to_go, is_ready, phase, terminating};
use crate::replicaset::unless_zero;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mainstay_client::Severity;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What there is: the job and its pods.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub(crate) job: Arc<Job>,
    pub(crate) pods: Vec<Arc<Pod>>,
}

/// What to do, in this order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Step {
    /// To be deleted gracefully; each is counted before it goes.
    pub(crate) delete: Vec<Arc<Pod>>,
    /// To be deleted and not counted: superfluous.
    pub(crate) discard: Vec<Arc<Pod>>,
    pub(crate) create: Vec<Pod>,
    pub(crate) status: JobStatus,
    /// Once the status is written, these need their finalizer no more.
    pub(crate) settle: Vec<Arc<Pod>>,
    /// To be told once the status is written.
    pub(crate) events: Vec<(Severity, String, String)>,
    /// Its time to live is over.
    pub(crate) expired: bool,
    /// When to look again even if nothing changes.
    pub(crate) wake_at: Option<Timestamp>,
}

/// A condition of the job that holds.
pub(crate) fn condition<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    job.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind && condition.status == "True")
}

/// Complete or failed.
pub(crate) fn finished(job: &Job) -> Option<&JobCondition> {
    condition(job, "Complete").or_else(|| condition(job, "Failed"))
}

fn new_condition(kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let now = Some(Time(Timestamp::from_second(now.as_second()).unwrap_or(now)));
    JobCondition { type_: kind.to_owned(), status: status.to_owned(), reason: text(reason), message: text(message), last_probe_time: now.clone(), last_transition_time: now }
}

/// What to do for a job, given what there is.
pub(crate) fn step(observed: &Observed, now: Timestamp) -> Step {
    let job = &*observed.job;
    // Somebody else's.
    let managed = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref()).unwrap_or("kubernetes.io/job-controller");
    if managed != "kubernetes.io/job-controller" {
        return Step { status: job.status.clone().unwrap_or_default(), ..Step::default() };
    }
    match finished(job) {
        Some(end) => after_the_end(observed, end, now),
        None => Sync::new(observed, now).run(),
    }
}

/// A finished job only waits for its time to live, if it has one.
fn after_the_end(observed: &Observed, end: &JobCondition, now: Timestamp) -> Step {
    let job = &*observed.job;
    let mut step = Step { status: job.status.clone().unwrap_or_default(), ..Step::default() };
    step.settle = observed.pods.iter().filter(|pod| tracked(pod)).cloned().collect();
    let ttl = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished).filter(|_| job.metadata.deletion_timestamp.is_none());
    let since = end.last_transition_time.as_ref().map(|time| time.0);
    if let (Some(ttl), Some(since)) = (ttl, since) {
        let at = since.checked_add(SignedDuration::from_secs(i64::from(ttl))).unwrap_or(since);
        step.expired = at <= now;
        step.wake_at = Some(at).filter(|at| *at > now);
    }
    step
}

struct Sync<'a> {
    job: &'a Job,
    spec: &'a JobSpec,
    pods: &'a [Arc<Pod>],
    active: Vec<Arc<Pod>>,
    now: Timestamp,
    /// Counts that are growing.
    status: JobStatus,
    uncounted: UncountedTerminatedPods,
    terminating: i32,
    /// `Some` when the job counts by index.
    completions: Option<i32>,
    succeeded_before: BTreeSet<i32>,
    succeeded_indexes: BTreeSet<i32>,
    failed_indexes: Option<BTreeSet<i32>>,
    succeeded: i32,
    /// What the job is about to be: SuccessCriteriaMet or FailureTarget.
    target: Option<JobCondition>,
    step: Step,
}

fn len<T>(list: Option<&Vec<T>>) -> i32 {
    list.map_or(0, |list| i32::try_from(list.len()).unwrap_or(i32::MAX))
}

impl<'a> Sync<'a> {
    fn new(observed: &'a Observed, now: Timestamp) -> Self {
        static EMPTY: std::sync::LazyLock<JobSpec> = std::sync::LazyLock::new(JobSpec::default);
        let job = &*observed.job;
        let spec = job.spec.as_ref().unwrap_or(&EMPTY);
        let status = job.status.clone().unwrap_or_default();
        Self {
            job,
            spec,
            pods: &observed.pods,
            active: observed.pods.iter().filter(|pod| active(pod)).cloned().collect(),
            now,
            uncounted: status.uncounted_terminated_pods.clone().unwrap_or_default(),
            terminating: observed.pods.iter().map(|pod| i32::from(terminating(pod) && !ended(pod))).sum(),
            completions: (spec.completion_mode.as_deref() == Some("Indexed")).then(|| spec.completions.unwrap_or(0)),
            succeeded_before: BTreeSet::new(),
            succeeded_indexes: BTreeSet::new(),
            failed_indexes: None,
            succeeded: 0,
            target: None,
            status,
            step: Step::default(),
        }
    }

    fn suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn only_ended(&self) -> bool {
        self.spec.pod_failure_policy.is_some() || self.spec.pod_replacement_policy.as_deref() == Some("Failed")
    }

    fn has_failed(&self, pod: &Pod) -> bool {
        failed(pod, self.only_ended())
    }

    /// Its index; an index past the end is none.
    fn valid_index(&self, pod: &Pod) -> Option<i32> {
        index(pod).filter(|index| self.completions.is_some_and(|completions| *index < completions))
    }

    /// It waits to be counted, and can be.
    fn is_new(&self, pod: &Pod, known: Option<&Vec<String>>) -> bool {
        tracked(pod) && !known.into_iter().flatten().any(|uid| uid == uid_of(&pod.metadata)) && (self.completions.is_none() || self.valid_index(pod).is_some())
    }

    fn run(mut self) -> Step {
        self.count_settled();
        let succeeded = self.pods.iter().filter(|pod| phase(pod) == "Succeeded" && self.is_new(pod, self.uncounted.succeeded.as_ref())).count();
        self.succeeded = self.status.succeeded.unwrap_or(0) + i32::try_from(succeeded).unwrap_or(i32::MAX) + len(self.uncounted.succeeded.as_ref());
        if self.status.start_time.is_none() && !self.suspended() {
            self.status.start_time = Some(self.time());
        }
        self.index();
        self.decide();
        if self.target.is_some() {
            self.stop();
        } else if self.job.metadata.deletion_timestamp.is_none() {
            self.manage();
            self.check_complete();
        }
        self.track();
        self.finish()
    }

    fn time(&self) -> Time {
        Time(Timestamp::from_second(self.now.as_second()).unwrap_or(self.now))
    }

    /// Pods that were written down and whose finalizer is gone are counted.
    fn count_settled(&mut self) {
        let waiting: BTreeSet<&str> = self.pods.iter().filter(|pod| tracked(pod)).map(|pod| uid_of(&pod.metadata)).collect();
        let settle = |list: &mut Option<Vec<String>>, count: &mut Option<i32>| {
            let before = len(list.as_ref());
            list.iter_mut().for_each(|uids| uids.retain(|uid| waiting.contains(uid.as_str())));
            *count = Some(count.unwrap_or(0) + before - len(list.as_ref()));
        };
        settle(&mut self.uncounted.succeeded, &mut self.status.succeeded);
        settle(&mut self.uncounted.failed, &mut self.status.failed);
    }

    /// Which indexes have succeeded, and which have failed for good.
    fn index(&mut self) {
        let Some(completions) = self.completions else { return };
        self.succeeded_before = indexes::parse(self.status.completed_indexes.as_deref().unwrap_or_default(), completions);
        let new = self.pods.iter().filter(|pod| phase(pod) == "Succeeded" && tracked(pod)).filter_map(|pod| self.valid_index(pod));
        self.succeeded_indexes = self.succeeded_before.iter().copied().chain(new).collect();
        self.succeeded = i32::try_from(self.succeeded_indexes.len()).unwrap_or(i32::MAX);
        let Some(limit) = self.spec.backoff_limit_per_index else { return };
        let before = indexes::parse(self.status.failed_indexes.as_deref().unwrap_or_default(), completions);
        let for_good = |pod: &&Arc<Pod>| judge(self.job, pod) == Verdict::FailIndex || self.failures(pod).0 > limit;
        let failed = self.pods.iter().filter(|pod| tracked(pod) && self.has_failed(pod)).filter(for_good).filter_map(|pod| self.valid_index(pod));
        self.failed_indexes = Some(before.into_iter().chain(failed).filter(|index| !self.succeeded_indexes.contains(index)).collect());
    }

    /// How often the index of a pod that failed has failed, this time included: counted, ignored.
    fn failures(&self, pod: &Pod) -> (i32, i32) {
        let ignored = i32::from(judge(self.job, pod) == Verdict::Ignore);
        (counted(pod, FAILURES) + 1 - ignored, counted(pod, IGNORED_FAILURES) + ignored)
    }

    /// The pod of an index that failed last and whose place nobody has taken yet: it keeps its finalizer, for the count of failures it carries.
    fn unreplaced(&self) -> BTreeMap<i32, Arc<Pod>> {
        let mut last: BTreeMap<i32, Arc<Pod>> = BTreeMap::new();
        let tries = |pod: &Pod| counted(pod, FAILURES) + counted(pod, IGNORED_FAILURES);
        for pod in self.pods.iter().filter(|_| self.spec.backoff_limit_per_index.is_some()) {
            let Some(index) = self.valid_index(pod) else { continue };
            if last.get(&index).is_none_or(|known| tries(known) <= tries(pod)) {
                last.insert(index, pod.clone());
            }
        }
        let done = |index: &i32| self.succeeded_indexes.contains(index) || self.failed_indexes.as_ref().is_some_and(|failed| failed.contains(index));
        last.retain(|index, pod| tracked(pod) && self.has_failed(pod) && !done(index));
        last
    }

    fn fail(&mut self, reason: &str, message: &str) {
        self.target.get_or_insert_with(|| new_condition("FailureTarget", "True", reason, message, self.now));
    }

    /// Whether the job has succeeded by its policy, or failed.
    fn decide(&mut self) {
        if let Some(known) = condition(self.job, "SuccessCriteriaMet").or_else(|| condition(self.job, "FailureTarget")) {
            self.target = Some(known.clone());
            return;
        }
        let new_failures: Vec<Verdict> = self.pods.iter().filter(|pod| self.has_failed(pod)).map(|pod| judge(self.job, pod)).collect();
        if let Some(Verdict::FailJob(why)) = new_failures.into_iter().find(|verdict| matches!(verdict, Verdict::FailJob(_))) {
            self.fail("PodFailurePolicy", &why);
        }
        let counted = |pod: &&Arc<Pod>| self.has_failed(pod) && self.is_new(pod, self.uncounted.failed.as_ref()) && judge(self.job, pod) != Verdict::Ignore;
        let failed = i32::try_from(self.pods.iter().filter(counted).count()).unwrap_or(i32::MAX);
        let failed = self.status.failed.unwrap_or(0) + failed + len(self.uncounted.failed.as_ref());
        let limit = self.spec.backoff_limit.unwrap_or(6);
        let ends = self.spec.active_deadline_seconds.filter(|_| !self.suspended()).and_then(|seconds| self.status.start_time.as_ref()?.0.checked_add(SignedDuration::from_secs(seconds)).ok());
        if failed > limit || self.restarted_too_often(limit) {
            self.fail("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        } else if ends.is_some_and(|at| at <= self.now) {
            self.fail("DeadlineExceeded", "Job was active longer than specified deadline");
        }
        self.wake(ends);
        let Some(completions) = self.completions else { return };
        if let Some(failed) = self.failed_indexes.as_ref().map(BTreeSet::len).filter(|failed| *failed > 0) {
            let most = self.spec.max_failed_indexes.and_then(|most| usize::try_from(most).ok());
            if most.is_some_and(|most| failed > most) {
                self.fail("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes");
            } else if i32::try_from(failed + self.succeeded_indexes.len()).is_ok_and(|done| done >= completions) {
                self.fail("FailedIndexes", "Job has failed indexes");
            }
        }
        if let Some(message) = success(self.job, completions, &self.succeeded_indexes) {
            self.target.get_or_insert_with(|| new_condition("SuccessCriteriaMet", "True", "SuccessPolicy", &message, self.now));
        }
    }

    /// With OnFailure it is containers that are tried again, and their restarts that count.
    fn restarted_too_often(&self, limit: i32) -> bool {
        if self.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
            return false;
        }
        let running = self.pods.iter().filter(|pod| matches!(phase(pod), "Running" | "Pending")).filter_map(|pod| pod.status.as_ref());
        let restarts: i32 = running.flat_map(|status| status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())).map(|status| status.restart_count).sum();
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    fn wake(&mut self, at: Option<Timestamp>) {
        let at = at.filter(|at| *at > self.now);
        self.step.wake_at = self.step.wake_at.into_iter().chain(at).min();
    }

    /// What still runs has to go.
    fn stop(&mut self) {
        self.terminating += i32::try_from(self.active.len()).unwrap_or(i32::MAX);
        self.step.delete = std::mem::take(&mut self.active);
    }

    /// As many pods as there should be. Upstream: `manageJob`.
    fn manage(&mut self) {
        if self.suspended() {
            self.discard(self.active.len());
            return;
        }
        let (has, parallelism) = (i32::try_from(self.active.len()).unwrap_or(i32::MAX), self.spec.parallelism.unwrap_or(1));
        let wanted = match self.spec.completions {
            None if self.succeeded > 0 => has,
            None => parallelism,
            Some(completions) => (completions - self.succeeded).clamp(0, parallelism.max(0)),
        };
        // Of pods for one index, or for an index past the end, all but one go, whatever the number.
        if self.discard(usize::try_from(has - wanted).unwrap_or(0)) {
            return;
        }
        let leaving = if self.only_ended() { self.terminating } else { 0 };
        let missing = usize::try_from(wanted - leaving - has).unwrap_or(0).min(BURST_LIMIT);
        if missing == 0 {
            return;
        }
        if self.spec.backoff_limit_per_index.is_some() {
            self.create_indexes(missing);
            return;
        }
        let next = backoff::next(self.pods, |pod| self.has_failed(pod) && judge(self.job, pod) != Verdict::Ignore);
        if next.is_some_and(|at| at > self.now) {
            self.wake(next);
        } else if self.completions.is_some() {
            self.create_indexes(missing);
        } else {
            self.step.create = vec![new_pod(self.job, None, None); missing];
        }
    }

    /// Takes at least so many active pods away. Whether it takes any.
    fn discard(&mut self, at_least: usize) -> bool {
        let mut pods = std::mem::take(&mut self.active);
        pods.sort_by_cached_key(|pod| first_to_go(pod, self.now));
        let mut taken = BTreeSet::new();
        let (mut gone, mut left) = (Vec::new(), Vec::new());
        // From the most useful on, so that of two for one index the better one stays.
        for pod in pods.into_iter().rev() {
            let superfluous = self.completions.is_some() && self.valid_index(&pod).is_none_or(|index| !taken.insert(index));
            if superfluous { gone.push(pod) } else { left.push(pod) }
        }
        left.reverse();
        let more = at_least.saturating_sub(gone.len()).min(left.len());
        gone.extend(left.drain(..more));
        let spared = gone.split_off(gone.len().min(BURST_LIMIT));
        left.extend(spared);
        self.terminating += i32::try_from(gone.len()).unwrap_or(i32::MAX);
        self.active = left;
        self.step.discard = gone;
        !self.step.discard.is_empty()
    }

    fn create_indexes(&mut self, missing: usize) {
        let completions = self.completions.unwrap_or(0);
        let mut busy: BTreeSet<i32> = self.active.iter().filter_map(|pod| index(pod)).collect();
        if self.only_ended() {
            busy.extend(self.pods.iter().filter(|pod| terminating(pod) && !ended(pod)).filter_map(|pod| index(pod)));
        }
        busy.extend(&self.succeeded_indexes);
        busy.extend(self.failed_indexes.iter().flatten());
        let free: Vec<i32> = (0..completions).filter(|index| !busy.contains(index)).take(missing).collect();
        let per_index = self.spec.backoff_limit_per_index.is_some();
        let unreplaced = self.unreplaced();
        for index in free {
            let before = unreplaced.get(&index).map(|pod| (self.failures(pod), pod));
            let again = before.and_then(|((counted, ignored), pod)| backoff::of_index(pod, usize::try_from(counted + ignored).unwrap_or(1)));
            if again.is_some_and(|at| at > self.now) {
                self.wake(again);
                continue;
            }
            let failures = per_index.then(|| before.map_or((0, 0), |(failures, _)| failures));
            self.step.create.push(new_pod(self.job, Some(index), failures));
        }
    }

    /// Enough have succeeded and none runs; or the job rests.
    fn check_complete(&mut self) {
        let idle = self.active.is_empty() && self.step.create.is_empty();
        let enough = self.spec.completions.map_or(self.succeeded > 0, |completions| self.succeeded >= completions);
        if idle && enough {
            self.target = Some(new_condition("SuccessCriteriaMet", "True", "CompletionsReached", "Reached expected number of succeeded pods", self.now));
            return;
        }
        let changed = match self.suspended() {
            true => self.ensure(new_condition("Suspended", "True", "JobSuspended", "Job suspended", self.now)),
            false => self.ensure(new_condition("Suspended", "False", "JobResumed", "Job resumed", self.now)),
        };
        if changed {
            let (reason, message) = if self.suspended() { ("Suspended", "Job suspended") } else { ("Resumed", "Job resumed") };
            self.step.events.push((Severity::Normal, reason.to_owned(), message.to_owned()));
            if !self.suspended() {
                // The deadline counts from here.
                self.status.start_time = Some(self.time());
            }
        }
    }

    /// Whether the condition changes; one that is false is not added.
    fn ensure(&mut self, new: JobCondition) -> bool {
        let list = self.status.conditions.get_or_insert_default();
        match list.iter_mut().find(|known| known.type_ == new.type_) {
            Some(known) if known.status == new.status && known.reason == new.reason => false,
            Some(known) => {
                *known = new;
                true
            }
            None if new.status == "False" => false,
            None => {
                list.push(new);
                true
            }
        }
    }

    /// Writes down what became of pods that have ended, so that their finalizers may go.
    fn track(&mut self) {
        let keeps = self.unreplaced();
        let failing = self.target.as_ref().is_some_and(|target| target.type_ == "FailureTarget");
        let mut pods: Vec<&Arc<Pod>> = self.pods.iter().filter(|pod| tracked(pod)).collect();
        pods.sort_by_key(|pod| index(pod));
        let discarded: BTreeSet<&str> = self.step.discard.iter().map(|pod| uid_of(&pod.metadata)).collect();
        let (mut succeeded, mut failed) = (self.uncounted.succeeded.take().unwrap_or_default(), self.uncounted.failed.take().unwrap_or_default());
        let mut settle = Vec::new();
        let mut completed = self.succeeded_before.clone();
        for pod in pods.into_iter().filter(|pod| !discarded.contains(uid_of(&pod.metadata))) {
            let (uid, has_failed) = (uid_of(&pod.metadata), self.has_failed(pod));
            let kept = self.valid_index(pod).and_then(|index| keeps.get(&index)).is_some_and(|kept| kept.metadata.uid == pod.metadata.uid);
            let over = self.job.metadata.deletion_timestamp.is_some() || self.target.is_some() || phase(pod) == "Succeeded";
            if !over && (!has_failed || kept) {
                continue;
            }
            settle.push(pod.clone());
            let known = |list: &[String]| list.iter().any(|known| known == uid);
            if phase(pod) == "Succeeded" && !known(&failed) {
                match self.completions {
                    Some(_) => completed.extend(self.valid_index(pod)),
                    None if known(&succeeded) => {}
                    None => succeeded.push(uid.to_owned()),
                }
            } else if (has_failed || failing) && !known(&failed) && (self.completions.is_none() || self.valid_index(pod).is_some()) && judge(self.job, pod) != Verdict::Ignore {
                failed.push(uid.to_owned());
            }
            if succeeded.len() + failed.len() >= BURST_LIMIT {
                // More when these are counted: a status must not grow without bound.
                break;
            }
        }
        self.step.settle = settle;
        if self.completions.is_some() {
            self.status.succeeded = Some(i32::try_from(completed.len()).unwrap_or(i32::MAX));
            self.status.completed_indexes = Some(indexes::print(&completed)).filter(|text| !text.is_empty());
            self.status.failed_indexes = self.failed_indexes.as_ref().map(indexes::print);
        }
        let list = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
        self.uncounted = UncountedTerminatedPods { succeeded: list(succeeded), failed: list(failed) };
    }

    /// The status, and the end if there is nothing left to wait for.
    fn finish(mut self) -> Step {
        let counted = self.uncounted == UncountedTerminatedPods::default();
        let target = self.target.take();
        if let Some(target) = &target {
            self.ensure(target.clone());
        }
        // The finalizers of pods by index go only now.
        let quiet = counted && self.terminating == 0 && self.step.settle.is_empty();
        if let Some(target) = target.filter(|_| quiet) {
            let kind = if target.type_ == "FailureTarget" { "Failed" } else { "Complete" };
            let (reason, message) = (target.reason.unwrap_or_default(), target.message.unwrap_or_default());
            self.ensure(new_condition(kind, "True", &reason, &message, self.now));
            if kind == "Complete" {
                self.status.completion_time = Some(self.time());
                if self.spec.completions.is_some_and(|completions| self.status.succeeded.unwrap_or(0) > completions) {
                    self.step.events.push((Severity::Warning, "TooManySucceededPods".to_owned(), "Too many succeeded pods running after completion count reached".to_owned()));
                }
                self.step.events.push((Severity::Normal, "Completed".to_owned(), "Job completed".to_owned()));
            } else {
                self.step.events.push((Severity::Warning, reason, message));
            }
        }
        let made = i32::try_from(self.step.create.len()).unwrap_or(i32::MAX);
        let running = i32::try_from(self.active.len()).unwrap_or(i32::MAX);
        let ready = self.active.iter().map(|pod| i32::from(is_ready(pod))).sum();
        let mut status = self.status;
        status.active = unless_zero(running + made);
        status.ready = Some(ready);
        status.terminating = Some(self.terminating);
        status.succeeded = unless_zero(status.succeeded.unwrap_or(0));
        status.failed = unless_zero(status.failed.unwrap_or(0));
        status.conditions = status.conditions.filter(|all| !all.is_empty());
        status.uncounted_terminated_pods = Some(self.uncounted);
        self.step.status = status;
        self.step
    }
}
