//! The agent: registers the node, takes over what runs, gives every pod bound here its worker, and hands out changes.

use crate::container::paths::{Paths, parse_container_id, secrets_dir};
use crate::container::termination;
use crate::context::Node;
use crate::pod::reference::{self, PodRef, Referenced, refers_to};
use crate::pod::restore::{Found, restore};
use crate::pod::sandbox;
use crate::pod::state::{Ended, State};
use crate::pod::worker::Worker;
use crate::registry::{Entry, View};
use crate::{Config, Error, kernel, mounts, records, registration, service};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use mainstay_client::{Change, Cluster};
use mainstay_images::Images;
use mainstay_network::Network;
use mainstay_supervisor::{Container, Containers};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// See [`crate::run`].
pub(crate) async fn run(
    config: Config,
    cluster: Cluster,
    images: Images,
    network: Network,
    containers: Containers,
    ready: impl FnOnce() + Send,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let prepared = config.clone();
    tokio::task::spawn_blocking(move || prepare(&prepared)).await.map_err(|e| start("prepare directories")(io::Error::other(e)))??;
    let node = Arc::new(Node::new(config, cluster.named("kubelet"), images, network, containers));
    let pods = node.cluster.pods();
    let mut changes = pods.subscribe();
    // Started before they are needed, so that the first pod finds them filled.
    let (mut maps, mut secrets) = (node.cluster.config_maps().subscribe(), node.cluster.secrets().subscribe());
    let (mut claims, _volumes, _services) = (node.cluster.persistent_volume_claims().subscribe(), node.cluster.persistent_volumes(), node.cluster.services());
    let service = service::Service::start(node.clone()).map_err(start("open the node's socket"))?;
    let registering = async {
        let registered = registration::register(&node).await;
        registered.map_err(|e| start("register the node")(io::Error::other(e)))
    };
    let (uid, found, ()) = tokio::join!(registering, node.containers.adopt(), pods.synced());
    let uid = uid?;
    let found = found.map_err(|e| start("adopt containers")(io::Error::other(e)))?;
    let mut agent = Agent { node: node.clone(), workers: JoinSet::new(), lease: Arc::default() };
    agent.adopt(found).await;
    ready();
    tokio::pin!(shutdown);
    let mut renew = interval_at(Instant::now(), registration::RENEW_EVERY);
    let mut report = interval_at(Instant::now() + registration::STATUS_EVERY, registration::STATUS_EVERY);
    renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            change = changes.recv() => agent.take_pod(change),
            change = maps.recv() => agent.take_referenced(Referenced::ConfigMap, change),
            change = secrets.recv() => agent.take_referenced(Referenced::Secret, change),
            change = claims.recv() => agent.take_referenced(Referenced::Claim, change),
            Some(ended) = agent.workers.join_next() => agent.take_worker_end(ended),
            _ = renew.tick() => agent.renew(&uid),
            _ = report.tick() => agent.report(),
        }
    }
    // Workers end here; their pods go on.
    agent.workers.shutdown().await;
    service.stop().await;
    Ok(())
}

fn start(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Start { doing, source }
}

/// Directories with nobody else's eyes in them, a tmpfs for secrets, and a kernel that will do.
fn prepare(config: &Config) -> Result<(), Error> {
    let make = |path: &std::path::Path, mode: u32| std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    for path in [config.data_dir.join("pods"), config.data_dir.join("logs"), config.data_dir.join("volumes"), config.run_dir.join("pods")] {
        make(&path, 0o700).map_err(start("make directories"))?;
    }
    let secrets = secrets_dir(&config.run_dir);
    make(&secrets, 0o700).map_err(start("make directories"))?;
    let secrets = secrets.canonicalize().map_err(start("make directories"))?;
    if !mounts::below(&secrets).map_err(start("read the mount table"))?.contains(&secrets) {
        use nix::mount::{MsFlags, mount};
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("mainstay-secrets"), &secrets, Some("tmpfs"), flags, Some("mode=0700,size=64m"))
            .map_err(|e| start("mount a tmpfs for secrets")(e.into()))?;
    }
    kernel::probe(config)
}

struct Agent {
    node: Arc<Node>,
    workers: JoinSet<String>,
    /// At most one renewal at a time.
    lease: Arc<tokio::sync::Mutex<()>>,
}

type Received = Result<Change, broadcast::error::RecvError>;

impl Agent {
    // ---- what was here before ----

    async fn adopt(&mut self, found: Vec<Container>) {
        let mut by_pod: HashMap<String, BTreeMap<String, BTreeMap<u32, Container>>> = HashMap::new();
        for container in found {
            match parse_container_id(container.id()) {
                Some((uid, name, attempt)) => {
                    let (uid, name) = (uid.to_owned(), name.to_owned());
                    by_pod.entry(uid).or_default().entry(name).or_default().insert(attempt, container);
                }
                None => tracing::warn!(container = container.id(), "a container that is no pod's; left alone"),
            }
        }
        let bound: HashMap<String, Arc<Pod>> =
            self.node.cluster.pods().on_node(&self.node.config.name).into_iter().map(|p| (PodRef::of(&p).uid, p)).collect();
        let recorded: HashMap<String, Arc<Pod>> = records::read_all(&self.node.config.run_dir).into_iter().map(|p| (PodRef::of(&p).uid, p)).collect();
        // Those with processes first: they hold their identities.
        let mut first: Vec<&String> = recorded.keys().collect();
        first.sort_by_key(|uid| bound.contains_key(*uid));
        for uid in first {
            let runs = by_pod.remove(uid).unwrap_or_default();
            match bound.get(uid) {
                Some(pod) => self.begin(pod.clone(), runs, true),
                None => self.begin(recorded[uid].clone(), runs, false),
            }
        }
        let known: HashSet<&String> = recorded.keys().collect();
        for (uid, pod) in bound.iter().filter(|(uid, _)| !known.contains(uid)) {
            let runs = by_pod.remove(uid).unwrap_or_default();
            self.begin(pod.clone(), runs, true);
        }
        let strangers: Vec<Container> = by_pod.into_values().flat_map(BTreeMap::into_values).flat_map(BTreeMap::into_values).collect();
        let keep: HashSet<String> = bound.into_keys().chain(recorded.into_keys()).collect();
        tokio::spawn(clean_up(self.node.clone(), strangers, keep));
    }

    /// `exists`: the API has it.
    fn begin(&mut self, pod: Arc<Pod>, runs: BTreeMap<String, BTreeMap<u32, Container>>, exists: bool) {
        let me = PodRef::of(&pod);
        let paths = Paths::new(&self.node.config, &me);
        let mut found: BTreeMap<String, Vec<Found>> = BTreeMap::new();
        let mut newest = HashMap::new();
        for (name, attempts) in runs {
            let list = attempts.iter().map(|(attempt, container)| describe(&pod, &paths, &name, *attempt, container)).collect();
            found.insert(name.clone(), list);
            if let Some((_, container)) = attempts.into_iter().next_back() {
                newest.insert(name, container);
            }
        }
        let status_holds = pod.status.as_ref().is_some_and(|s| s.container_statuses.is_some() || s.start_time.is_some());
        let state = if found.is_empty() && !status_holds { State::default() } else { restore(&pod, &found, Timestamp::now()) };
        self.employ(pod, me, state, newest, exists);
    }

    fn employ(&mut self, pod: Arc<Pod>, me: PodRef, state: State, containers: HashMap<String, Container>, exists: bool) {
        let view = View { pod: pod.clone(), state: Arc::new(state.clone()), containers: Arc::new(containers.clone()) };
        let entry = Arc::new(Entry {
            pod: me.clone(),
            object: watch::Sender::new(exists.then(|| pod.clone())),
            referenced: Notify::new(),
            view: Mutex::new(view),
            changed: watch::Sender::new(0),
        });
        self.node.gate.enter(&me, reference::claims(&pod));
        self.node.registry.insert(entry.clone());
        let worker = Worker::new(self.node.clone(), entry, pod, state, containers);
        self.workers.spawn(async move {
            worker.run().await;
            me.uid
        });
    }

    // ---- changes ----

    fn take_pod(&mut self, change: Received) {
        match change {
            Ok(change) => self.look_at(&change.namespace, &change.name),
            Err(broadcast::error::RecvError::Lagged(_)) => self.look_at_all(),
            Err(broadcast::error::RecvError::Closed) => {}
        }
    }

    fn look_at_all(&mut self) {
        let bound = self.node.cluster.pods().on_node(&self.node.config.name);
        let employed = self.node.registry.all();
        let names = bound.iter().map(|p| PodRef::of(p)).chain(employed.iter().map(|e| e.pod.clone()));
        let names: HashSet<(String, String)> = names.map(|r| (r.namespace, r.name)).collect();
        for (namespace, name) in names {
            self.look_at(&namespace, &name);
        }
    }

    fn look_at(&mut self, namespace: &str, name: &str) {
        let current = self.node.cluster.pods().get(namespace, name);
        let uid = current.as_ref().and_then(|p| p.metadata.uid.clone());
        for entry in self.node.registry.named(namespace, name) {
            if Some(&entry.pod.uid) == uid.as_ref() {
                entry.object.send_if_modified(|object| {
                    let changed = object.as_ref().is_none_or(|old| old.metadata.resource_version != current.as_ref().and_then(|p| p.metadata.resource_version.clone()));
                    object.clone_from(&current);
                    changed
                });
            } else {
                entry.object.send_if_modified(|object| object.take().is_some());
            }
        }
        let Some(pod) = current else { return };
        let node_name = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
        let here = node_name == Some(self.node.config.name.as_str());
        let is_new = self.node.registry.get(uid.as_deref().unwrap_or_default()).is_none();
        if is_new && (here || node_name.is_none()) {
            // Perhaps on its way to here: the slowest of what its container needs begins before the binding is on the disk.
            self.node.warmth.expect_launch();
        }
        if here && is_new {
            self.begin(pod, BTreeMap::new(), true);
        }
    }

    fn take_referenced(&self, kind: Referenced, change: Received) {
        let change = match change {
            Ok(change) => Some(change),
            Err(broadcast::error::RecvError::Lagged(_)) => None,
            Err(broadcast::error::RecvError::Closed) => return,
        };
        for entry in self.node.registry.all() {
            let concerned = change.as_ref().is_none_or(|c| *c.namespace == *entry.pod.namespace && refers_to(&entry.view.lock().pod, kind, &c.name));
            if concerned {
                entry.referenced.notify_one();
            }
        }
    }

    fn take_worker_end(&mut self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => {
                self.node.gate.release(&uid);
                self.node.registry.remove(&uid);
            }
            Err(error) => tracing::error!(%error, "a pod's worker failed; its pod is taken up again when the agent restarts"),
        }
    }

    // ---- the node itself ----

    fn renew(&self, uid: &str) {
        let (node, uid, lease) = (self.node.clone(), uid.to_owned(), self.lease.clone());
        tokio::spawn(async move {
            let Ok(_one) = lease.try_lock() else { return };
            if let Err(error) = registration::renew(&node, &uid).await {
                tracing::warn!(%error, "the node's lease could not be renewed");
            }
        });
    }

    fn report(&self) {
        let node = self.node.clone();
        tokio::spawn(async move {
            if let Err(error) = registration::report(&node).await {
                tracing::warn!(%error, "the node's status could not be written");
            }
        });
    }
}

fn describe(pod: &Pod, paths: &Paths, name: &str, attempt: u32, container: &Container) -> Found {
    let started_at = Timestamp::try_from(container.started_at()).unwrap_or_default();
    let ended = container.exit().map(|exit| {
        let spec = reference::container(pod, name);
        let message = spec.and_then(|s| termination::message(s, &paths.termination_message(name, attempt), &paths.log(name, attempt), exit.code != 0));
        Ended {
            attempt,
            id: Some(container.id().to_owned()),
            exit_code: exit.code,
            signal: None,
            reason: if exit.oom_killed { "OOMKilled" } else if exit.code == 0 { "Completed" } else { "Error" }.to_owned(),
            message,
            started_at: Some(started_at),
            finished_at: Timestamp::try_from(exit.finished_at).unwrap_or_default(),
        }
    });
    Found { attempt, id: container.id().to_owned(), started_at, ended }
}

/// Ends containers no record and no pod speaks of, and removes files of pods that are no more.
async fn clean_up(node: Arc<Node>, strangers: Vec<Container>, keep: HashSet<String>) {
    for container in strangers {
        let id = container.id().to_owned();
        tracing::warn!(container = id, "nothing is known of this container's pod; ending it");
        let ended = async {
            container.kill_all().await?;
            container.wait().await;
            container.remove().await
        };
        if let Err(error) = ended.await {
            tracing::error!(container = id, %error, "it could not be removed");
        }
    }
    let names = |dir: std::path::PathBuf| -> Vec<String> {
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    };
    let mut gone: HashMap<String, PodRef> = HashMap::new();
    for uid in names(node.config.data_dir.join("pods")) {
        gone.insert(uid.clone(), PodRef { namespace: String::new(), name: String::new(), uid });
    }
    for log in names(node.config.data_dir.join("logs")) {
        if let [namespace, name, uid] = log.split('_').collect::<Vec<_>>()[..] {
            gone.insert(uid.to_owned(), PodRef { namespace: namespace.into(), name: name.into(), uid: uid.into() });
        }
    }
    gone.retain(|uid, _| !keep.contains(uid) && node.registry.get(uid).is_none());
    for pod in gone.into_values() {
        let paths = Paths::new(&node.config, &pod);
        let torn = sandbox::tear_down(&node, &pod, &paths).await;
        let removed = tokio::task::spawn_blocking(move || sandbox::remove_files(&paths)).await;
        if torn.is_err() || !matches!(removed, Ok(Ok(()))) {
            tracing::error!(pod = pod.uid, ?torn, ?removed, "what a pod that is no more left behind could not be removed");
        }
    }
    let known: HashSet<String> = keep;
    for sandbox in node.network.sandboxes() {
        if known.contains(&sandbox.pod) || node.registry.get(&sandbox.pod).is_some() {
            continue;
        }
        if let Err(error) = node.network.detach(&sandbox.pod).await {
            tracing::error!(pod = sandbox.pod, %error, "the network of a pod that is no more could not be removed");
        }
    }
}
