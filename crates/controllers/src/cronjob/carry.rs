//! Carries a step out: old Jobs, the new one, the status.

use super::step::{Observed, Step, step};
use crate::failure::Failure;
use crate::owners::{controller_of, name_of, uid_of};
use crate::patch::status_patch;
use crate::runner::{Name, OwnWrites};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use mainstay_client::{Cache, Cluster, Recorder, Severity, reference};
use serde_json::json;
use std::time::Duration;

pub(crate) struct Carrier {
    cluster: Cluster,
    cron_jobs: Cache<CronJob>,
    jobs: Cache<Job>,
    recorder: Recorder,
    written_cron_jobs: OwnWrites,
    written_jobs: OwnWrites,
}

impl Carrier {
    pub(crate) fn new(cluster: Cluster, cron_jobs: Cache<CronJob>, jobs: Cache<Job>) -> Self {
        let recorder = cluster.recorder();
        Self { cluster, cron_jobs, jobs, recorder, written_cron_jobs: OwnWrites::default(), written_jobs: OwnWrites::default() }
    }

    /// Looks at one cron job and does what its step says. Answers when to look again.
    pub(crate) async fn sync(&self, name: &Name) -> Result<Option<Duration>, Failure> {
        let seen = self.written_cron_jobs.seen(&self.cron_jobs, name).await && self.written_jobs.seen(&self.jobs, name).await;
        if !seen {
            return Err(Failure::Behind);
        }
        let Some(cron_job) = self.cron_jobs.get(&name.namespace, &name.name) else {
            self.written_cron_jobs.forget(name);
            self.written_jobs.forget(name);
            return Ok(None);
        };
        let jobs = self.jobs.owned_by(uid_of(&cron_job.metadata));
        let jobs = jobs.into_iter().filter(|job| controller_of(&job.metadata).is_some_and(|owner| Some(&owner.uid) == cron_job.metadata.uid.as_ref())).collect();
        let now = Timestamp::now();
        let decided = step(&Observed { cron_job: cron_job.clone(), jobs }, now);
        self.carry_out(name, &cron_job, &decided).await?;
        Ok(decided.wake_at.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default()))
    }

    async fn carry_out(&self, name: &Name, cron_job: &CronJob, step: &Step) -> Result<(), Failure> {
        let owner = reference(cron_job);
        for job in &step.delete {
            let options = json!({ "propagationPolicy": "Background", "preconditions": { "uid": job.metadata.uid } });
            let job = name_of(&job.metadata);
            match self.cluster.delete_returning::<Job>(&name.namespace, job, &options).await {
                Ok(left) => {
                    self.written_jobs.note_revision(name, left.as_deref());
                    self.recorder.record(owner.clone(), Severity::Normal, "SuccessfulDelete", format!("Deleted job {job}"));
                }
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => {
                    self.recorder.record(owner.clone(), Severity::Warning, "FailedDelete", format!("Deleted job: {}", error.message()));
                    return Err(error.into());
                }
            }
        }
        let mut status = step.status.clone();
        if let Some(job) = &step.create
            && let Some(made) = self.create(name, cron_job, job).await?
        {
            status.active.get_or_insert_default().push(reference(&made));
        }
        self.write_status(name, cron_job, status).await?;
        for (severity, reason, message) in &step.events {
            self.recorder.record(owner.clone(), *severity, reason, message.clone());
        }
        Ok(())
    }

    /// `None` when the Job of this time is there already.
    async fn create(&self, name: &Name, cron_job: &CronJob, job: &Job) -> Result<Option<Job>, Failure> {
        match self.cluster.create(job).await {
            Ok(made) => {
                self.written_jobs.note(name, &made.metadata);
                self.recorder.record(reference(cron_job), Severity::Normal, "SuccessfulCreate", format!("Created job {}", name_of(&made.metadata)));
                Ok(Some(made))
            }
            Err(error) if error.is_already_exists() => Ok(None),
            Err(error) => {
                self.recorder.record(reference(cron_job), Severity::Warning, "FailedCreate", format!("Error creating job: {}", error.message()));
                Err(error.into())
            }
        }
    }

    async fn write_status(&self, name: &Name, cron_job: &CronJob, status: CronJobStatus) -> Result<(), Failure> {
        if cron_job.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let new = CronJob { status: Some(status), ..cron_job.clone() };
        let Some(patch) = status_patch(cron_job, &new) else { return Ok(()) };
        match self.cluster.merge_patch::<CronJob>(&name.namespace, &name.name, Some("status"), &patch).await {
            Ok(written) => self.written_cron_jobs.note(name, &written.metadata),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
