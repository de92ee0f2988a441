//! What the worker hears: the object's changes, and how what it began has ended. Each changes the state; `step` then says what follows.

use super::{Message, RETRY_FIRST, Worker};
use crate::container::termination;
use crate::pod::launch::{Failure, Prepared};
use crate::pod::sandbox::{self, Sandbox};
use crate::pod::state::{Address, BackOff, Ended, Phase, Running, Stage, Stopping, Teardown};
use crate::pod::{hooks, reference, step};
use crate::probes::Kind;
use crate::volumes::Mounted;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use mainstay_supervisor::{Container, Exit};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Upstream: volumes 0.5 s to 2 min.
const RETRY_MAX: SignedDuration = SignedDuration::from_secs(120);
/// A container that cannot be configured is tried again then (upstream: the pod worker's resync).
const CONFIG_RETRY: SignedDuration = SignedDuration::from_secs(10);
/// Bounds a postStart hook, which upstream does not.
const HOOK_LIMIT: Duration = Duration::from_secs(3600);

impl Worker {
    pub(super) fn take_object(&mut self, object: Option<Arc<Pod>>) {
        let now = Timestamp::now();
        let Some(pod) = object else {
            if !matches!(self.state.stopping, Some(Stopping::Gone { .. })) {
                // A force delete, or the end of an ordinary one: either way nobody gives it any more time. An orphan found at start has its grace.
                let orphan = self.quiet && self.state.stopping.is_none();
                let deadline = if orphan { now + step::grace(&self.pod) } else { Timestamp::MIN };
                self.stop(Stopping::Gone { deadline });
            }
            return;
        };
        let labels = |p: &Pod| (p.metadata.labels.clone(), p.metadata.annotations.clone());
        let renamed = labels(&pod) != labels(&self.pod);
        self.pod = pod;
        if self.state.started_at.is_none() {
            self.state.started_at = Some(now);
        }
        if let Some(deleted) = &self.pod.metadata.deletion_timestamp {
            // The time in the object has whole seconds, and already holds the grace.
            let grace = SignedDuration::from_secs(self.pod.metadata.deletion_grace_period_seconds.unwrap_or(0).max(0));
            let deadline = if grace.is_zero() { Timestamp::MIN } else { (deleted.0 + SignedDuration::from_secs(1)).min(now + grace) };
            match &self.state.stopping {
                Some(Stopping::Deleted { deadline: old }) if *old <= deadline => {}
                Some(Stopping::Gone { .. }) => {}
                _ => self.stop(Stopping::Deleted { deadline }),
            }
        }
        if renamed {
            self.refresh();
        }
    }

    pub(super) fn stop(&mut self, why: Stopping) {
        self.cancel.cancel();
        if let Some(task) = self.gate_task.take()
            && self.state.gate.is_working() {
                task.abort();
                self.state.gate = Stage::Absent;
            }
        if !matches!(why, Stopping::Failed { .. }) {
            self.node.gate.leave(&self.me.uid);
        }
        let _ = self.deadline.send(why.deadline());
        // A pod that failed as a whole keeps saying so.
        match (&self.state.stopping, &why) {
            (Some(Stopping::Failed { .. }), Stopping::Deleted { .. }) if self.state.teardown != Teardown::NotBegun => self.state.finished = true,
            _ => {}
        }
        self.state.stopping = Some(why);
    }

    pub(super) fn take_reference(&mut self) {
        let now = Timestamp::now();
        if let Stage::Failed { retry_at, .. } = &mut self.state.volumes {
            *retry_at = now;
        }
        for known in self.state.containers.values_mut() {
            if let Phase::Waiting { reason, retry_at, .. } = &mut known.phase
                && reason == "CreateContainerConfigError" {
                    *retry_at = None;
                }
        }
        self.refresh();
    }

    pub(super) fn take(&mut self, message: Message) {
        tracing::debug!(pod = %self.me, what = message.name(), "ends");
        match message {
            Message::GatePassed => self.state.gate = Stage::Done(()),
            Message::Sandbox(result) => self.take_sandbox(result),
            Message::Volumes(result) => self.take_volumes(result),
            Message::Refreshed(result) => self.take_refreshed(result),
            Message::Prepared(name, attempt, result) => self.take_prepared(&name, attempt, result),
            Message::Launched(name, attempt, result) => self.take_launched(&name, attempt, result),
            Message::PostStarted(name, attempt, result) => self.take_post_started(&name, attempt, result),
            Message::Ended(name, attempt, exit, words) => self.take_ended(&name, attempt, &exit, words),
            Message::Probed(name, attempt, kind, ok, words) => self.take_probed(&name, attempt, kind, ok, &words),
            Message::TornDown(result) => self.take_torn_down(result),
            Message::Removed(result) => {
                if let Err(error) = result {
                    tracing::warn!(pod = %self.me, error, "the deleted pod's object could not be removed; trying again");
                    self.state.removed = false;
                }
            }
        }
        self.state.initialized = step::is_initialized(&self.pod, &self.state);
    }

    pub(super) fn retry_at(&mut self, which: usize) -> Timestamp {
        let wait = self.retries[which];
        self.retries[which] = (wait * 2).min(RETRY_MAX);
        Timestamp::now() + wait
    }

    pub(super) fn take_sandbox(&mut self, result: Result<Sandbox, String>) {
        match result {
            Ok(sandbox) => {
                self.state.sandbox = Stage::Done(Address { ip: sandbox.ip.clone() });
                self.sandbox = Some(sandbox);
                self.retries[0] = RETRY_FIRST;
                self.probe_adopted();
                self.tell_host_ports();
            }
            Err(message) => {
                self.events.warn("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {message}"));
                let retry_at = self.retry_at(0);
                self.state.sandbox = Stage::Failed { message, retry_at };
            }
        }
    }

    pub(super) fn take_volumes(&mut self, result: Result<BTreeMap<String, Mounted>, String>) {
        match result {
            Ok(mounted) => {
                self.volumes = Arc::new(mounted);
                self.state.volumes = Stage::Done(());
                self.retries[1] = RETRY_FIRST;
                self.refresh_at = self.tokens.next_refresh();
            }
            Err(message) => {
                self.events.warn("FailedMount", message.clone());
                let retry_at = self.retry_at(1);
                self.state.volumes = Stage::Failed { message, retry_at };
            }
        }
    }

    pub(super) fn take_refreshed(&mut self, result: Result<Option<SystemTime>, String>) {
        self.refreshing = false;
        match result {
            Ok(next) => self.refresh_at = next,
            Err(message) => {
                self.events.warn("FailedMount", message);
                self.refresh_at = Some(SystemTime::now() + Duration::from_secs(60));
            }
        }
    }

    pub(super) fn take_prepared(&mut self, name: &str, attempt: u32, result: Result<Prepared, Failure>) {
        if let Err(Failure { reason: "ImagePullBackOff", message, .. }) = &result {
            return self.take_pull_waiting(name, message);
        }
        let known = self.state.container_mut(name);
        match result {
            Ok(prepared) => {
                known.image = prepared.image.names.first().cloned().unwrap_or_default();
                known.image_id = prepared.image.digests.first().cloned().unwrap_or_else(|| prepared.image.id.clone());
                known.pull = None;
                known.phase = Phase::Prepared;
                self.prepared.insert(name.to_owned(), prepared);
            }
            Err(failure) => self.take_failure(name, attempt, failure),
        }
    }

    pub(super) fn take_pull_waiting(&mut self, name: &str, words: &str) {
        if let Phase::Waiting { reason, message, .. } = &mut self.state.container_mut(name).phase
            && reason == "ErrImagePull" {
                let image = reference::container(&self.pod, name).and_then(|c| c.image.clone()).unwrap_or_default();
                self.events.container(&self.pod, name, "BackOff", format!("Back-off pulling image {image:?}"));
                self.events.warn_container(&self.pod, name, "Failed", "Error: ImagePullBackOff");
                *reason = "ImagePullBackOff".to_owned();
                *message = Some(words.to_owned());
            }
    }

    pub(super) fn take_failure(&mut self, name: &str, attempt: u32, failure: Failure) {
        let now = Timestamp::now();
        let known = self.state.container_mut(name);
        if failure.ran {
            known.phase = Phase::Exited(Ended {
                attempt,
                id: None,
                exit_code: 128,
                signal: None,
                reason: "StartError".into(),
                message: Some(failure.message.clone()),
                started_at: None,
                finished_at: now,
            });
            self.events.warn_container(&self.pod, name, "Failed", format!("Error: {}", failure.message));
            let dir = self.paths.run_of(name, attempt);
            self.tasks.spawn_blocking(move || {
                if let Err(error) = crate::container::rootfs::discard(&dir) {
                    tracing::warn!(%error, "the root file system of a container that did not start could not be removed yet");
                }
            });
            return;
        }
        let retry_at = if failure.of_image {
            let back_off = BackOff::next(known.pull, now);
            known.pull = Some(back_off);
            now + back_off.delay
        } else {
            self.events.warn_container(&self.pod, name, "Failed", format!("Error: {}", failure.message));
            now + CONFIG_RETRY
        };
        let known = self.state.container_mut(name);
        known.phase = Phase::Waiting { reason: failure.reason.to_owned(), message: Some(failure.message.clone()), retry_at: Some(retry_at) };
        if failure.reason == "ErrImagePull" {
            let image = reference::container(&self.pod, name).and_then(|c| c.image.clone()).unwrap_or_default();
            let outbox = self.outbox.clone();
            let (name, message) = (name.to_owned(), format!("Back-off pulling image {image:?}: ErrImagePull: {}", failure.message));
            // The first word is what went wrong; the waiting is told a moment later, as upstream does on its next look.
            self.tasks.spawn(async move {
                tokio::time::sleep(Duration::from_secs(2)).await;
                let waiting = Failure { reason: "ImagePullBackOff", message, of_image: true, ran: false };
                let _ = outbox.send(Message::Prepared(name, attempt, Err(waiting))).await;
            });
        }
    }

    pub(super) fn take_launched(&mut self, name: &str, attempt: u32, result: Result<Container, Failure>) {
        self.prepared.remove(name);
        let container = match result {
            Ok(container) => container,
            Err(failure) => return self.take_failure(name, attempt, failure),
        };
        let Some(spec) = reference::container(&self.pod, name).cloned() else { return };
        let hook = spec.lifecycle.as_ref().and_then(|l| l.post_start.clone());
        self.state.container_mut(name).phase = Phase::Running(Running {
            id: container.id().to_owned(),
            started_at: Timestamp::try_from(container.started_at()).unwrap_or_else(|_| Timestamp::now()),
            image: spec.image.clone().unwrap_or_default(),
            post_started: hook.is_none(),
            started: spec.startup_probe.is_none(),
            ready: spec.readiness_probe.is_none(),
            unhealthy: None,
            grace: None,
            stopping: false,
        });
        if let Some(previous) = self.containers.insert(name.to_owned(), container.clone()) {
            self.forget(previous);
        }
        self.watch_end(name, attempt, container.clone(), &spec);
        if let Some(hook) = hook {
            let (name, ip) = (name.to_owned(), self.ip());
            let (spec, container) = (spec.clone(), container.clone());
            self.spawn(async move {
                let result = hooks::run(&hook, &spec, &container, ip, HOOK_LIMIT).await;
                Message::PostStarted(name, attempt, result)
            });
        } else {
            self.start_probes(name);
        }
    }

    /// The supervisor's record of a run that the API knows the end of.
    pub(super) fn forget(&mut self, container: Container) {
        let id = container.id().to_owned();
        let written = self.writer.flushed();
        self.tasks.spawn(async move {
            written.await;
            if let Err(error) = container.remove().await {
                tracing::warn!(container = id, %error, "the record of an ended container could not be removed");
            }
        });
    }

    pub(super) fn watch_end(&mut self, name: &str, attempt: u32, container: Container, spec: &Spec) {
        let (file, log) = (self.paths.termination_message(name, attempt), self.paths.log(name, attempt));
        let run_dir = self.paths.run_of(name, attempt);
        let (name, spec, cleaning, pod) = (name.to_owned(), spec.clone(), self.cleaning.clone(), self.me.clone());
        let warmth = self.node.warmth.clone();
        self.spawn(async move {
            let exit = container.wait().await;
            // Most ends are followed by a start: of this container, or of the pod that replaces it.
            warmth.expect_launch();
            if let Err(error) = container.kill_all().await {
                tracing::warn!(container = container.id(), %error, "what an ended container left running could not be killed");
            }
            let failed = exit.code != 0;
            let words = tokio::task::spawn_blocking(move || termination::message(&spec, &file, &log, failed)).await.ok().flatten();
            // Off the path of a restart; the pod's end waits for it.
            let cleaning = cleaning.read_owned().await;
            tokio::task::spawn_blocking(move || {
                if let Err(error) = crate::container::rootfs::discard(&run_dir) {
                    tracing::warn!(%pod, %error, "the root file system of an ended container could not be removed yet");
                }
                drop(cleaning);
            });
            Message::Ended(name, attempt, exit, words)
        });
    }

    pub(super) fn take_post_started(&mut self, name: &str, attempt: u32, result: Result<(), String>) {
        let known = self.state.container_mut(name);
        if known.attempt != attempt {
            return;
        }
        let Some(running) = known.running_mut() else { return };
        match result {
            Ok(()) => {
                running.post_started = true;
                self.start_probes(name);
            }
            Err(error) => {
                running.unhealthy = Some("FailedPostStartHook".to_owned());
                self.events.warn_container(&self.pod, name, "FailedPostStartHook", format!("PostStartHook failed: {error}"));
            }
        }
    }

    pub(super) fn take_ended(&mut self, name: &str, attempt: u32, exit: &Exit, message: Option<String>) {
        self.probes.remove(name);
        let known = self.state.container_mut(name);
        if known.attempt != attempt {
            return;
        }
        let Some(running) = known.running() else { return };
        let reason = match exit {
            Exit { oom_killed: true, .. } => "OOMKilled",
            Exit { code: 0, .. } => "Completed",
            _ => "Error",
        };
        known.phase = Phase::Exited(Ended {
            attempt,
            id: Some(running.id.clone()),
            exit_code: exit.code,
            // Upstream leaves the signal out and shows 128 + its number.
            signal: None,
            reason: reason.to_owned(),
            message,
            started_at: Some(running.started_at),
            finished_at: Timestamp::try_from(exit.finished_at).unwrap_or_else(|_| Timestamp::now()),
        });
    }

    pub(super) fn take_probed(&mut self, name: &str, attempt: u32, kind: Kind, ok: bool, words: &str) {
        let known = self.state.container_mut(name);
        if known.attempt != attempt {
            return;
        }
        let Some(running) = known.running_mut() else { return };
        match (kind, ok) {
            (Kind::Readiness, _) => running.ready = ok,
            (Kind::Startup, true) => {
                running.started = true;
                self.start_probes(name);
            }
            (Kind::Liveness, true) => {}
            (Kind::Startup | Kind::Liveness, false) => {
                tracing::info!(pod = %self.me, container = name, probe = kind.word(), words, "the container is restarted");
                running.unhealthy = Some(format!("Container {name} failed {} probe, will be restarted", kind.word().to_lowercase()));
                running.grace = reference::container(&self.pod, name).and_then(|c| kind.of(c)).and_then(|p| p.termination_grace_period_seconds);
            }
        }
    }

    pub(super) fn take_torn_down(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.state.teardown = Teardown::Done;
                self.state.sandbox = Stage::Absent;
                self.state.volumes = Stage::Absent;
                self.sandbox = None;
                self.node.gate.release(&self.me.uid);
                self.tell_host_ports();
            }
            Err(error) => {
                tracing::error!(pod = %self.me, error, "the pod could not be cleaned up; trying again");
                let outbox = self.outbox.clone();
                let (node, me, paths) = (self.node.clone(), self.me.clone(), self.paths.clone());
                self.tasks.spawn(async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    let _ = outbox.send(Message::TornDown(sandbox::tear_down(&node, &me, &paths).await)).await;
                });
            }
        }
    }

    pub(super) fn tell_host_ports(&mut self) {
        if crate::host_ports::has_any(&self.pod) {
            self.publish();
            let node = self.node.clone();
            // Not one of the worker's own tasks: it must end even if the worker does.
            tokio::spawn(async move { crate::host_ports::apply(&node).await });
        }
    }
}
