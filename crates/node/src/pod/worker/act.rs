//! What the worker does: each action of `step` begins a task whose end comes back as a message.

use super::{Message, Worker};
use crate::container::spec;
use crate::pod::state::{BackOff, Phase, Stage, Stopping, Teardown};
use crate::pod::step::{self, Action};
use crate::pod::{launch, reference, sandbox, stop};
use crate::volumes;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::net::Ipv4Addr;
use std::time::Duration;

impl Worker {
    /// Begins what is to be done now; whether there was anything.
    pub(super) fn advance(&mut self) -> bool {
        let step = step::step(&self.pod, &self.state, Timestamp::now());
        let any = !step.actions.is_empty();
        for action in step.actions {
            self.begin(action);
        }
        any
    }

    pub(super) fn begin(&mut self, action: Action) {
        tracing::debug!(pod = %self.me, ?action, "begins");
        match action {
            Action::PassGate => self.pass_gate(),
            Action::MakeSandbox => self.make_sandbox(),
            Action::MountVolumes => self.mount_volumes(),
            Action::Prepare { container, attempt } => self.prepare(&container, attempt),
            Action::Launch { container } => self.launch(&container),
            Action::BackOff { container, until, message } => {
                self.events.warn_container(&self.pod, &container, "BackOff", format!("Back-off restarting failed container {container} in pod {}", self.me));
                let known = self.state.container_mut(&container);
                if let Phase::Exited(ended) = &known.phase {
                    known.attempt = ended.attempt + 1;
                    known.last = Some(ended.clone());
                }
                known.phase = Phase::Waiting { reason: "CrashLoopBackOff".into(), message: Some(message), retry_at: Some(until) };
            }
            Action::Stop { container, deadline, message } => self.stop_container(&container, deadline, &message),
            Action::Fail { reason, message } => {
                self.events.warn(reason, message.clone());
                let deadline = Timestamp::now() + step::grace(&self.pod);
                self.stop(Stopping::Failed { reason: reason.to_owned(), message, deadline });
            }
            Action::TearDown => self.tear_down(),
            Action::Remove => self.remove(),
        }
    }

    pub(super) fn pass_gate(&mut self) {
        // Most pass at once: then there is nothing to wait for.
        if self.node.gate.blocked_by(&self.me.uid).is_none() {
            self.state.gate = Stage::Done(());
            return;
        }
        self.state.gate = Stage::Working;
        let (node, uid) = (self.node.clone(), self.me.uid.clone());
        self.gate_task = Some(self.spawn(async move {
            node.gate.pass(&uid).await;
            Message::GatePassed
        }));
    }

    pub(super) fn make_sandbox(&mut self) {
        self.state.sandbox = Stage::Working;
        let spec = self.pod.spec.as_ref();
        if spec.and_then(|s| s.share_process_namespace) == Some(true) {
            self.events.warn("Unsupported", "shareProcessNamespace is not supported on this node: each container sees its own processes only");
        }
        if spec.and_then(|s| s.host_users) == Some(false) {
            self.events.warn("Unsupported", "hostUsers: false is not supported on this node: root in the container is root on the host");
        }
        let (node, pod, paths) = (self.node.clone(), self.pod.clone(), self.paths.clone());
        self.spawn(async move { Message::Sandbox(sandbox::make(&node, &pod, &paths).await) });
    }

    pub(super) fn ip(&self) -> Ipv4Addr {
        self.sandbox.as_ref().and_then(|s| s.ip.parse().ok()).unwrap_or(self.node.ip)
    }

    pub(super) fn pod_ip(&self) -> String {
        self.sandbox.as_ref().map(|s| s.ip.clone()).or_else(|| self.pod.status.as_ref()?.pod_ip.clone()).unwrap_or_default()
    }

    pub(super) fn mount_volumes(&mut self) {
        self.state.volumes = Stage::Working;
        let (node, pod, paths, tokens, ip) = (self.node.clone(), self.pod.clone(), self.paths.clone(), self.tokens.clone(), self.pod_ip());
        let begun = !self.containers.is_empty();
        self.spawn(async move {
            let around = node.surroundings(&ip);
            let context = volumes::Context { config: &node.config, cluster: &node.cluster, paths: &paths, pod: &pod, around: &around, tokens: &tokens, begun };
            Message::Volumes(volumes::mount_all(&context).await)
        });
    }

    pub(super) fn refresh(&mut self) {
        self.refresh_at = None;
        if self.state.volumes.done().is_none() || self.refreshing || self.state.stopping.is_some() {
            return;
        }
        self.refreshing = true;
        let (node, pod, paths, tokens, ip) = (self.node.clone(), self.pod.clone(), self.paths.clone(), self.tokens.clone(), self.pod_ip());
        self.spawn(async move {
            let around = node.surroundings(&ip);
            let context = volumes::Context { config: &node.config, cluster: &node.cluster, paths: &paths, pod: &pod, around: &around, tokens: &tokens, begun: true };
            Message::Refreshed(volumes::refresh(&context).await)
        });
    }

    pub(super) fn prepare(&mut self, name: &str, attempt: u32) {
        let Some(container) = reference::container(&self.pod, name).cloned() else { return };
        let known = self.state.container_mut(name);
        if let Phase::Exited(ended) = &known.phase {
            known.last = Some(ended.clone());
            known.restart = Some(BackOff::next(known.restart, Timestamp::now()));
        } else if matches!(&known.phase, Phase::Waiting { reason, .. } if reason == "CrashLoopBackOff") {
            known.restart = Some(BackOff::next(known.restart, Timestamp::now()));
        }
        known.attempt = attempt;
        known.phase = Phase::Preparing;
        let (node, pod, paths, events, cancel) =
            (self.node.clone(), self.pod.clone(), self.paths.clone(), self.events.clone(), self.cancel.clone());
        let name = name.to_owned();
        self.spawn(async move {
            let result = launch::prepare(&node, &pod, &container, attempt, &paths, &events, &cancel).await;
            Message::Prepared(name, attempt, result)
        });
    }

    pub(super) fn launch(&mut self, name: &str) {
        let (Some(container), Some(sandbox), Some(prepared)) =
            (reference::container(&self.pod, name).cloned(), self.sandbox.clone(), self.prepared.get(name).cloned())
        else {
            return;
        };
        self.node.warmth.expect_launch();
        let known = self.state.container_mut(name);
        known.phase = Phase::Launching;
        let attempt = known.attempt;
        let order = launch::Order {
            node: self.node.clone(),
            pod: self.pod.clone(),
            container,
            attempt,
            paths: self.paths.clone(),
            sandbox,
            volumes: self.volumes.clone(),
            prepared,
        };
        let (events, name) = (self.events.clone(), name.to_owned());
        self.spawn(async move {
            let result = order.launch(&events).await;
            Message::Launched(name, attempt, result)
        });
    }

    pub(super) fn stop_container(&mut self, name: &str, deadline: Timestamp, message: &str) {
        let (Some(spec), Some(container)) = (reference::container(&self.pod, name).cloned(), self.containers.get(name).cloned()) else { return };
        if let Some(running) = self.state.container_mut(name).running_mut() {
            running.stopping = true;
        }
        self.probes.remove(name);
        self.events.container(&self.pod, name, "Killing", message);
        let order = stop::Order {
            pod: self.pod.clone(),
            signal: spec::kept_stop_signal(&self.paths.stop_signal(name)),
            spec,
            container,
            ip: self.ip(),
            deadline,
            pod_deadline: self.deadline.subscribe(),
        };
        let events = self.events.clone();
        self.tasks.spawn(async move { order.stop(&events).await });
    }

    pub(super) fn tear_down(&mut self) {
        self.state.teardown = Teardown::Working;
        self.probes.clear();
        self.prepared.clear();
        let (node, me, paths, cleaning) = (self.node.clone(), self.me.clone(), self.paths.clone(), self.cleaning.clone());
        self.spawn(async move {
            let _all_cleaned = cleaning.write_owned().await;
            Message::TornDown(sandbox::tear_down(&node, &me, &paths).await)
        });
    }

    /// The object goes when the API has heard how everything ended.
    pub(super) fn remove(&mut self) {
        self.state.removed = true;
        self.publish();
        let written = self.writer.flushed();
        let (node, me) = (self.node.clone(), self.me.clone());
        self.spawn(async move {
            written.await;
            let options = serde_json::json!({"gracePeriodSeconds": 0, "preconditions": {"uid": me.uid}});
            let result = match node.cluster.delete::<Pod>(&me.namespace, &me.name, &options).await {
                Err(error) if error.is_not_found() || error.code() == Some(409) => Ok(()),
                Err(error) => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    Err(error.to_string())
                }
                Ok(()) => Ok(()),
            };
            Message::Removed(result)
        });
    }
}
