//! The one owner of a pod on this node: hears what happens, asks `step` what to do, does it, tells the API.

use super::events::Events;
use super::launch::{self, Failure, Prepared};
use super::reference::{self, PodRef};
use super::sandbox::{self, Sandbox};
use super::state::{Address, BackOff, Ended, Phase, Running, Stage, State, Stopping, Teardown};
use super::status_writer::StatusWriter;
use super::step::{self, Action};
use super::{hooks, status, stop};
use crate::container::paths::Paths;
use crate::container::{spec, termination};
use crate::context::Node;
use crate::probes::{self, Kind, Target};
use crate::registry::{Entry, View};
use crate::volumes::{self, Mounted, Tokens};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as Spec, Pod, PodStatus};
use mainstay_supervisor::{Container, Exit};
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{RwLock, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Messages from the worker's own tasks; past it they wait, the worker never does.
const INBOX_LIMIT: usize = 64;
/// How long what failed waits when nothing it refers to changes: 1 s, doubling to 2 min (upstream: volumes 0.5 s to 2 min).
const RETRY_FIRST: SignedDuration = SignedDuration::from_secs(1);
const RETRY_MAX: SignedDuration = SignedDuration::from_secs(120);
/// A container that cannot be configured is tried again then (upstream: the pod worker's resync).
const CONFIG_RETRY: SignedDuration = SignedDuration::from_secs(10);
/// Bounds a postStart hook, which upstream does not.
const HOOK_LIMIT: Duration = Duration::from_secs(3600);

/// What the worker's tasks report.
enum Message {
    GatePassed,
    Sandbox(Result<Sandbox, String>),
    Volumes(Result<BTreeMap<String, Mounted>, String>),
    Refreshed(Result<Option<SystemTime>, String>),
    Prepared(String, u32, Result<Prepared, Failure>),
    Launched(String, u32, Result<Container, Failure>),
    PostStarted(String, u32, Result<(), String>),
    Ended(String, u32, Exit, Option<String>),
    Probed(String, u32, Kind, bool, String),
    TornDown(Result<(), String>),
    Removed(Result<(), String>),
}

impl Message {
    /// For the log, which must see no secret.
    fn name(&self) -> &'static str {
        match self {
            Self::GatePassed => "waiting at the gate",
            Self::Sandbox(_) => "sandbox",
            Self::Volumes(_) => "volumes",
            Self::Refreshed(_) => "refresh of volumes",
            Self::Prepared(..) => "image and root",
            Self::Launched(..) => "launch",
            Self::PostStarted(..) => "postStart",
            Self::Ended(..) => "container",
            Self::Probed(..) => "probe",
            Self::TornDown(_) => "tear down",
            Self::Removed(_) => "removal",
        }
    }
}

/// One pod's worker.
pub(crate) struct Worker {
    node: Arc<Node>,
    entry: Arc<Entry>,
    pod: Arc<Pod>,
    me: PodRef,
    paths: Paths,
    events: Events,
    state: State,
    sandbox: Option<Sandbox>,
    volumes: Arc<BTreeMap<String, Mounted>>,
    tokens: Arc<Tokens>,
    refresh_at: Option<SystemTime>,
    refreshing: bool,
    /// The newest run of each container, running or ended.
    containers: HashMap<String, Container>,
    prepared: HashMap<String, Prepared>,
    probes: HashMap<String, JoinSet<()>>,
    inbox: mpsc::Receiver<Message>,
    outbox: mpsc::Sender<Message>,
    tasks: JoinSet<()>,
    gate_task: Option<tokio::task::AbortHandle>,
    /// Held for reading by whoever removes an ended container's files.
    cleaning: Arc<RwLock<()>>,
    /// Ends pulls and waits once the pod is to stop.
    cancel: CancellationToken,
    deadline: watch::Sender<Timestamp>,
    writer: StatusWriter,
    told: Option<PodStatus>,
    retries: [SignedDuration; 2],
    /// Until sandbox and volumes are known again, an adopted pod's status is as it was.
    quiet: bool,
}

impl Worker {
    /// `containers`: adopted runs, the newest of each name; `state`: what `restore` made of them, or the default for a new pod.
    pub(crate) fn new(node: Arc<Node>, entry: Arc<Entry>, pod: Arc<Pod>, state: State, containers: HashMap<String, Container>) -> Self {
        let me = PodRef::of(&pod);
        let (outbox, inbox) = mpsc::channel(INBOX_LIMIT);
        let quiet = !containers.is_empty();
        Self {
            paths: Paths::new(&node.config, &me),
            events: Events::new(node.events.clone(), me.clone()),
            writer: StatusWriter::start(node.cluster.clone(), me.clone(), pod.status.clone()),
            entry,
            state,
            sandbox: None,
            volumes: Arc::default(),
            tokens: Arc::default(),
            refresh_at: None,
            refreshing: false,
            containers,
            prepared: HashMap::new(),
            probes: HashMap::new(),
            inbox,
            outbox,
            tasks: JoinSet::new(),
            gate_task: None,
            cleaning: Arc::default(),
            cancel: CancellationToken::new(),
            deadline: watch::Sender::new(Timestamp::MAX),
            told: None,
            retries: [RETRY_FIRST; 2],
            quiet,
            me,
            pod,
            node,
        }
    }

    /// Runs until the pod's object is gone and nothing of the pod is left on the node. Dropping the future leaves the pod running.
    pub(crate) async fn run(mut self) {
        let mut object = self.entry.object.subscribe();
        let first = object.borrow_and_update().clone();
        // Before anything is begun: it may already be on its way out.
        self.take_object(first);
        self.begin_adopted();
        loop {
            while self.advance() {}
            self.publish();
            if self.is_done() {
                break;
            }
            let wake = step::step(&self.pod, &self.state, Timestamp::now()).wake_at;
            let entry = self.entry.clone();
            tokio::select! {
                changed = object.changed() => {
                    if changed.is_err() { return }
                    let newest = object.borrow_and_update().clone();
                    self.take_object(newest);
                }
                Some(message) = self.inbox.recv() => self.take(message),
                () = entry.referenced.notified() => self.take_reference(),
                () = until(wake) => {}
                () = until_system(self.refresh_at) => self.refresh(),
                Some(Err(error)) = self.tasks.join_next() => {
                    if error.is_panic() {
                        tracing::error!(pod = %self.me, %error, "a task of the pod's worker failed; what it was doing is taken up when the agent restarts");
                    }
                }
            }
        }
        self.finish().await;
    }

    fn is_done(&self) -> bool {
        matches!(self.state.stopping, Some(Stopping::Gone { .. })) && self.state.teardown == Teardown::Done
    }

    /// The last of the pod: files, logs and the supervisor's records. Its identity is free already.
    async fn finish(mut self) {
        for (_, container) in self.containers.drain() {
            let id = container.id().to_owned();
            if let Err(error) = container.remove().await {
                tracing::warn!(container = id, %error, "the record of an ended container could not be removed");
            }
        }
        let paths = self.paths.clone();
        match tokio::task::spawn_blocking(move || sandbox::remove_files(&paths)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(pod = %self.me, %error, "files of a deleted pod could not be removed"),
            Err(error) => tracing::error!(pod = %self.me, %error, "removing the files of a deleted pod panicked"),
        }
    }

    fn spawn(&mut self, task: impl Future<Output = Message> + Send + 'static) -> tokio::task::AbortHandle {
        let outbox = self.outbox.clone();
        self.tasks.spawn(async move {
            let message = task.await;
            // The worker is gone only when the agent stops: then nobody needs to know.
            let _ = outbox.send(message).await;
        })
    }

    // ---- hearing ----

    fn take_object(&mut self, object: Option<Arc<Pod>>) {
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

    fn stop(&mut self, why: Stopping) {
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

    fn take_reference(&mut self) {
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

    fn take(&mut self, message: Message) {
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

    fn retry_at(&mut self, which: usize) -> Timestamp {
        let wait = self.retries[which];
        self.retries[which] = (wait * 2).min(RETRY_MAX);
        Timestamp::now() + wait
    }

    fn take_sandbox(&mut self, result: Result<Sandbox, String>) {
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

    fn take_volumes(&mut self, result: Result<BTreeMap<String, Mounted>, String>) {
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

    fn take_refreshed(&mut self, result: Result<Option<SystemTime>, String>) {
        self.refreshing = false;
        match result {
            Ok(next) => self.refresh_at = next,
            Err(message) => {
                self.events.warn("FailedMount", message);
                self.refresh_at = Some(SystemTime::now() + Duration::from_secs(60));
            }
        }
    }

    fn take_prepared(&mut self, name: &str, attempt: u32, result: Result<Prepared, Failure>) {
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

    fn take_pull_waiting(&mut self, name: &str, words: &str) {
        if let Phase::Waiting { reason, message, .. } = &mut self.state.container_mut(name).phase
            && reason == "ErrImagePull" {
                let image = reference::container(&self.pod, name).and_then(|c| c.image.clone()).unwrap_or_default();
                self.events.container(&self.pod, name, "BackOff", format!("Back-off pulling image {image:?}"));
                self.events.warn_container(&self.pod, name, "Failed", "Error: ImagePullBackOff");
                *reason = "ImagePullBackOff".to_owned();
                *message = Some(words.to_owned());
            }
    }

    fn take_failure(&mut self, name: &str, attempt: u32, failure: Failure) {
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

    fn take_launched(&mut self, name: &str, attempt: u32, result: Result<Container, Failure>) {
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
    fn forget(&mut self, container: Container) {
        let id = container.id().to_owned();
        let written = self.writer.flushed();
        self.tasks.spawn(async move {
            written.await;
            if let Err(error) = container.remove().await {
                tracing::warn!(container = id, %error, "the record of an ended container could not be removed");
            }
        });
    }

    fn watch_end(&mut self, name: &str, attempt: u32, container: Container, spec: &Spec) {
        let (file, log) = (self.paths.termination_message(name, attempt), self.paths.log(name, attempt));
        let run_dir = self.paths.run_of(name, attempt);
        let (name, spec, cleaning, pod) = (name.to_owned(), spec.clone(), self.cleaning.clone(), self.me.clone());
        self.spawn(async move {
            let exit = container.wait().await;
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

    fn take_post_started(&mut self, name: &str, attempt: u32, result: Result<(), String>) {
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

    fn take_ended(&mut self, name: &str, attempt: u32, exit: &Exit, message: Option<String>) {
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

    fn take_probed(&mut self, name: &str, attempt: u32, kind: Kind, ok: bool, words: &str) {
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

    fn take_torn_down(&mut self, result: Result<(), String>) {
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

    fn tell_host_ports(&mut self) {
        if crate::host_ports::has_any(&self.pod) {
            self.publish();
            let node = self.node.clone();
            // Not one of the worker's own tasks: it must end even if the worker does.
            tokio::spawn(async move { crate::host_ports::apply(&node).await });
        }
    }

    // ---- doing ----

    /// Begins what is to be done now; whether there was anything.
    fn advance(&mut self) -> bool {
        let step = step::step(&self.pod, &self.state, Timestamp::now());
        let any = !step.actions.is_empty();
        for action in step.actions {
            self.begin(action);
        }
        any
    }

    fn begin(&mut self, action: Action) {
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

    fn pass_gate(&mut self) {
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

    fn make_sandbox(&mut self) {
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

    fn ip(&self) -> Ipv4Addr {
        self.sandbox.as_ref().and_then(|s| s.ip.parse().ok()).unwrap_or(self.node.ip)
    }

    fn pod_ip(&self) -> String {
        self.sandbox.as_ref().map(|s| s.ip.clone()).or_else(|| self.pod.status.as_ref()?.pod_ip.clone()).unwrap_or_default()
    }

    fn mount_volumes(&mut self) {
        self.state.volumes = Stage::Working;
        let (node, pod, paths, tokens, ip) = (self.node.clone(), self.pod.clone(), self.paths.clone(), self.tokens.clone(), self.pod_ip());
        self.spawn(async move {
            let around = node.surroundings(&ip);
            let context = volumes::Context { config: &node.config, cluster: &node.cluster, paths: &paths, pod: &pod, around: &around, tokens: &tokens };
            Message::Volumes(volumes::mount_all(&context).await)
        });
    }

    fn refresh(&mut self) {
        self.refresh_at = None;
        if self.state.volumes.done().is_none() || self.refreshing || self.state.stopping.is_some() {
            return;
        }
        self.refreshing = true;
        let (node, pod, paths, tokens, ip) = (self.node.clone(), self.pod.clone(), self.paths.clone(), self.tokens.clone(), self.pod_ip());
        self.spawn(async move {
            let around = node.surroundings(&ip);
            let context = volumes::Context { config: &node.config, cluster: &node.cluster, paths: &paths, pod: &pod, around: &around, tokens: &tokens };
            Message::Refreshed(volumes::refresh(&context).await)
        });
    }

    fn prepare(&mut self, name: &str, attempt: u32) {
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

    fn launch(&mut self, name: &str) {
        let (Some(container), Some(sandbox), Some(prepared)) =
            (reference::container(&self.pod, name).cloned(), self.sandbox.clone(), self.prepared.get(name).cloned())
        else {
            return;
        };
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

    fn stop_container(&mut self, name: &str, deadline: Timestamp, message: &str) {
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

    fn tear_down(&mut self) {
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
    fn remove(&mut self) {
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

    // ---- probes ----

    fn start_probes(&mut self, name: &str) {
        let Some((running, attempt)) = self.state.container(name).and_then(|k| Some((k.running()?.clone(), k.attempt))) else { return };
        let (Some(spec), Some(container)) = (reference::container(&self.pod, name).cloned(), self.containers.get(name).cloned()) else { return };
        if running.stopping || self.state.stopping.is_some() {
            return;
        }
        let kinds: &[Kind] = if running.started { &[Kind::Readiness, Kind::Liveness] } else { &[Kind::Startup] };
        let mut tasks = JoinSet::new();
        for kind in kinds.iter().copied().filter(|k| k.of(&spec).is_some()) {
            let target = Target { pod: self.pod.clone(), spec: spec.clone(), container: container.clone(), ip: self.ip() };
            let healthy = match kind {
                Kind::Startup => false,
                Kind::Readiness => running.ready,
                Kind::Liveness => true,
            };
            let (events, outbox, name) = (self.events.clone(), self.outbox.clone(), name.to_owned());
            tasks.spawn(probes::run(kind, target, healthy, events, move |ok, words| {
                let (outbox, name) = (outbox.clone(), name.clone());
                async move {
                    let _ = outbox.send(Message::Probed(name, attempt, kind, ok, words)).await;
                }
            }));
        }
        self.probes.insert(name.to_owned(), tasks);
    }

    /// Who was running before this process began: watched from now on.
    fn begin_adopted(&mut self) {
        let adopted: Vec<(String, u32, Container)> = self
            .state
            .containers
            .iter()
            .filter(|(_, known)| known.running().is_some())
            .filter_map(|(name, known)| Some((name.clone(), known.attempt, self.containers.get(name)?.clone())))
            .collect();
        for (name, attempt, container) in adopted {
            if let Some(spec) = reference::container(&self.pod, &name).cloned() {
                self.watch_end(&name, attempt, container, &spec);
            }
        }
    }

    fn probe_adopted(&mut self) {
        let unprobed: Vec<String> = self
            .state
            .containers
            .iter()
            .filter(|(name, known)| known.running().is_some_and(|r| r.post_started) && !self.probes.contains_key(*name))
            .map(|(name, _)| name.clone())
            .collect();
        unprobed.iter().for_each(|name| self.start_probes(name));
    }

    // ---- telling ----

    fn publish(&mut self) {
        let view = View { pod: self.pod.clone(), state: Arc::new(self.state.clone()), containers: Arc::new(self.containers.clone()) };
        self.entry.show(view);
        // A pod whose containers all ended while nobody watched gets no sandbox again: its end is told at once.
        let runs = self.state.containers.values().any(|known| known.running().is_some());
        if self.quiet && runs && self.state.stopping.is_none() {
            let known = |working: bool, absent: bool| !working && !absent;
            let sandbox = known(self.state.sandbox.is_working(), matches!(self.state.sandbox, Stage::Absent));
            let volumes = known(self.state.volumes.is_working(), matches!(self.state.volumes, Stage::Absent));
            if !(sandbox && volumes) {
                return;
            }
            self.quiet = false;
        }
        if matches!(self.state.stopping, Some(Stopping::Gone { .. })) {
            return;
        }
        let base = status::base(self.told.as_ref(), &self.pod);
        let next = status::status(&self.pod, &base, &self.state, &self.node.ip.to_string(), Timestamp::now());
        if self.told.as_ref() != Some(&next) {
            self.told = Some(next.clone());
            self.writer.set(next);
        }
    }
}

async fn until(at: Option<Timestamp>) {
    match at {
        Some(at) => tokio::time::sleep(Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default()).await,
        None => std::future::pending().await,
    }
}

async fn until_system(at: Option<SystemTime>) {
    match at {
        Some(at) => tokio::time::sleep(at.duration_since(SystemTime::now()).unwrap_or_default()).await,
        None => std::future::pending().await,
    }
}

