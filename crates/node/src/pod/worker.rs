//! The one owner of a pod on this node: hears what happens (`hear`), asks `step` what to do, does it (`act`), tells the API.

mod act;
mod hear;
mod probing;

use super::events::Events;
use super::launch::{Failure, Prepared};
use super::reference::PodRef;
use super::sandbox::{self, Sandbox};
use super::state::{Stage, State, Stopping, Teardown};
use super::status_writer::StatusWriter;
use super::{status, step};
use crate::container::paths::Paths;
use crate::context::Node;
use crate::probes::Kind;
use crate::registry::{Entry, View};
use crate::volumes::{Mounted, Tokens};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use mainstay_supervisor::{Container, Exit};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{RwLock, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Messages from the worker's own tasks; past it they wait, the worker never does.
const INBOX_LIMIT: usize = 64;
/// How long what failed waits when nothing it refers to changes: this, doubling to `RETRY_MAX`.
const RETRY_FIRST: SignedDuration = SignedDuration::from_secs(1);

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
    }}

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

