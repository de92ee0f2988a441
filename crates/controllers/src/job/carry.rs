//! Carries a step out: adoption, pods, the status, finalizers.

use super::pod::{TRACKING, other_finalizers, selects, tracked};
use super::step::{Observed, Step, step};
use crate::failure::Failure;
use crate::owners::{Belongs, belongs, confirm, controller_of, manager, owner_values, patch_if_there, uid_of, with, without};
use crate::patch::status_patch;
use crate::pods::PodControl;
use crate::runner::{Name, OwnWrites};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use mainstay_client::{Cache, Cluster, Error, Recorder, reference, selector};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Carrier {
    cluster: Cluster,
    jobs: Cache<Job>,
    pods: Cache<Pod>,
    control: PodControl,
    recorder: Recorder,
    written_jobs: OwnWrites,
    written_pods: OwnWrites,
}

impl Carrier {
    pub(crate) fn new(cluster: Cluster, jobs: Cache<Job>, pods: Cache<Pod>) -> Self {
        let (control, recorder) = (PodControl::new(cluster.clone()), cluster.recorder());
        Self { cluster, jobs, pods, control, recorder, written_jobs: OwnWrites::default(), written_pods: OwnWrites::default() }
    }

    /// Looks at one job and does what its step says. Answers when to look again.
    pub(crate) async fn sync(&self, name: &Name) -> Result<Option<Duration>, Failure> {
        self.catch_up(name).await?;
        let job = self.jobs.get(&name.namespace, &name.name);
        self.free_orphans(name, job.as_deref()).await?;
        let Some(job) = job else {
            self.written_jobs.forget(name);
            self.written_pods.forget(name);
            return Ok(None);
        };
        if self.claim(name, &job).await? {
            self.catch_up(name).await?;
        }
        let pods = self.in_namespace(&job).filter(|(_, belongs)| *belongs == Belongs::Yes).map(|(pod, _)| pod).collect();
        let now = Timestamp::now();
        let decided = step(&Observed { job: job.clone(), pods }, now);
        self.carry_out(name, &job, &decided).await?;
        Ok(decided.wake_at.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default()))
    }

    async fn catch_up(&self, name: &Name) -> Result<(), Failure> {
        let seen = self.written_jobs.seen(&self.jobs, name).await && self.written_pods.seen(&self.pods, name).await;
        if seen { Ok(()) } else { Err(Failure::Behind) }
    }

    fn in_namespace(&self, job: &Job) -> impl Iterator<Item = (Arc<Pod>, Belongs)> {
        let pods = self.pods.list_in(job.metadata.namespace.as_deref().unwrap_or_default());
        pods.into_iter().map(move |pod| {
            let matches = selects(job, pod.metadata.labels.as_ref(), selector::matches);
            let belongs = belongs(&job.metadata, &pod.metadata, matches);
            (pod, belongs)
        })
    }

    /// Pods that no job will ever count need no finalizer: those of a job that is gone, and of none.
    async fn free_orphans(&self, name: &Name, job: Option<&Job>) -> Result<(), Failure> {
        for pod in self.pods.list_in(&name.namespace).into_iter().filter(|pod| tracked(pod)) {
            let orphan = match controller_of(&pod.metadata) {
                Some(owner) => manager::<Job>(&pod.metadata).as_ref() == Some(name) && job.is_none_or(|job| uid_of(&job.metadata) != owner.uid),
                None => job.is_none() && pod.metadata.labels.as_ref().and_then(|labels| labels.get(super::pod::NAME_LABEL)) == Some(&name.name),
            };
            if orphan {
                self.settle(name, &pod).await?;
            }
        }
        Ok(())
    }

    /// Adopts, with a finalizer, and releases, without. Whether anything was written.
    async fn claim(&self, name: &Name, job: &Arc<Job>) -> Result<bool, Failure> {
        let changes: Vec<_> = self.in_namespace(job).filter(|(_, belongs)| matches!(belongs, Belongs::Adopt | Belongs::Release)).collect();
        if changes.iter().any(|(_, belongs)| *belongs == Belongs::Adopt) {
            confirm(&self.cluster, &**job).await?;
        }
        for (pod, belongs) in &changes {
            let mut finalizers = other_finalizers(pod);
            let owners = if *belongs == Belongs::Adopt {
                finalizers.push(TRACKING.to_owned());
                with(&pod.metadata, &**job)
            } else {
                without(&pod.metadata, &job.metadata)
            };
            let patch = json!({ "metadata": { "uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version,
                "ownerReferences": owner_values(&owners), "finalizers": or_null(finalizers) } });
            if let Some(written) = patch_if_there::<Pod>(&self.cluster, &pod.metadata, &patch).await? {
                self.written_pods.note(name, &written.metadata);
            }
        }
        Ok(!changes.is_empty())
    }

    async fn carry_out(&self, name: &Name, job: &Arc<Job>, step: &Step) -> Result<(), Failure> {
        let owner = reference(&**job);
        if step.expired {
            return self.expire(name, job).await;
        }
        self.control.delete_all(&owner, &step.delete, name, &self.written_pods).await?;
        let freed = join_all(step.discard.iter().map(|pod| self.settle(name, pod))).await;
        freed.into_iter().collect::<Result<Vec<()>, Failure>>()?;
        self.control.delete_all(&owner, &step.discard, name, &self.written_pods).await?;
        let (made, outcome) = self.control.create_slowly(&owner, &step.create, name, &self.written_pods).await;
        self.write_status(name, job, with_made(&step.status, step.create.len() - made)).await?;
        let settled = join_all(step.settle.iter().map(|pod| self.settle(name, pod))).await;
        for (severity, reason, message) in &step.events {
            self.recorder.record(owner.clone(), *severity, reason, message.clone());
        }
        settled.into_iter().collect::<Result<Vec<()>, Failure>>()?;
        Ok(outcome?)
    }

    /// Takes our finalizer off.
    async fn settle(&self, name: &Name, pod: &Pod) -> Result<(), Failure> {
        if !tracked(pod) {
            return Ok(());
        }
        let outcome = match patch_if_there::<Pod>(&self.cluster, &pod.metadata, &without_tracking(pod)).await {
            Err(error) if error.is_conflict() => self.settle_newest(pod).await?,
            other => other?,
        };
        if let Some(written) = outcome {
            self.written_pods.note(name, &written.metadata);
        }
        Ok(())
    }

    /// The node has written meanwhile.
    async fn settle_newest(&self, pod: &Pod) -> Result<Option<Pod>, Error> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        match self.cluster.get::<Pod>(namespace, pod.metadata.name.as_deref().unwrap_or_default()).await {
            Ok(live) if live.metadata.uid == pod.metadata.uid => patch_if_there::<Pod>(&self.cluster, &live.metadata, &without_tracking(&live)).await,
            Ok(_) => Ok(None),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write_status(&self, name: &Name, job: &Arc<Job>, status: JobStatus) -> Result<(), Failure> {
        if job.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let new = Job { status: Some(status), ..(**job).clone() };
        let Some(patch) = status_patch(&**job, &new) else { return Ok(()) };
        match self.cluster.merge_patch::<Job>(&name.namespace, &name.name, Some("status"), &patch).await {
            Ok(written) => self.written_jobs.note(name, &written.metadata),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Deletes exactly this job, its pods first, as upstream's ttlafterfinished controller.
    async fn expire(&self, name: &Name, job: &Job) -> Result<(), Failure> {
        let options = json!({ "propagationPolicy": "Foreground", "preconditions": { "uid": job.metadata.uid, "resourceVersion": job.metadata.resource_version } });
        match self.cluster.delete_returning::<Job>(&name.namespace, &name.name, &options).await {
            Ok(left) => self.written_jobs.note_revision(name, left.as_deref()),
            // Gone, or changed meanwhile: then it is looked at again.
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn without_tracking(pod: &Pod) -> Value {
    json!({ "metadata": { "uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version, "finalizers": or_null(other_finalizers(pod)) } })
}

fn or_null(list: Vec<String>) -> Value {
    if list.is_empty() { Value::Null } else { list.into() }
}

/// Pods that could not be made are not active.
fn with_made(status: &JobStatus, missing: usize) -> JobStatus {
    let mut status = status.clone();
    let active = status.active.unwrap_or(0) - i32::try_from(missing).unwrap_or(i32::MAX);
    status.active = crate::replicaset::unless_zero(active.max(0));
    status
}
