//! Events in, bindings out. One task decides, one pod after the other and each with the ones before it in view; requests run beside it.

use crate::decide::{Decision, decide};
use crate::filters::{CLAIMS, NODES, PODS, ROOM};
use crate::queue::{Name, Queue, Rank};
use crate::view::{Place, Things, View, has_ended, node_name};
use crate::volumes::{self, SELECTED_NODE, is_bound, selected_node};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolumeClaim, Pod, PodCondition};
use mainstay_client::{Cache, Cluster, Delta, Error, PatchKind, Recorder, Resource, Severity, reference};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The scheduler that a pod asks for when it asks for none.
const NAME: &str = "default-scheduler";

/// A pod that is as good as bound.
struct Assumed {
    name: Name,
    pod: Arc<Pod>,
    node: String,
}

/// A pod whose claims are being bound for its node.
struct Waiting {
    rank: Rank,
    uid: String,
    node: String,
    /// The newest revision written to its claims; `None` while that is under way.
    annotated: Option<u64>,
}

/// How a request ended.
enum Done {
    Bound { uid: String, rank: Rank, outcome: Result<(), Error> },
    Annotated { name: Name, uid: String, outcome: Result<u64, Error> },
    Said,
}

struct Scheduler {
    cluster: Cluster,
    recorder: Recorder,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    claims: Cache<PersistentVolumeClaim>,
    things: Things,
    queue: Queue,
    assumed: HashMap<String, Assumed>,
    waiting: HashMap<Name, Waiting>,
    said: HashMap<Name, String>,
    requests: JoinSet<Done>,
}

fn name_of(pod: &Pod) -> Name {
    (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default())
}

fn uid_of(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

fn assigned(pod: &Pod) -> bool {
    pod.node_name().is_some_and(|node| !node.is_empty())
}

fn rank_of(pod: &Pod) -> Rank {
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
    let created = pod.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
    Rank { priority: std::cmp::Reverse(priority), created, name: name_of(pod) }
}

/// Whether this scheduler has to find a node for a pod.
fn is_ours(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let scheduler = spec.and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or(NAME);
    let gated = spec.and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty());
    !assigned(pod) && !gated && !has_ended(pod) && pod.metadata.deletion_timestamp.is_none() && scheduler == NAME
}

/// What a change of a pod could mean for others.
fn pod_change(change: &Delta<Pod>) -> u8 {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            let mut changed = 0;
            if has_ended(new) && !has_ended(old) {
                changed |= ROOM | PODS;
            }
            if assigned(new) != assigned(old) || new.metadata.labels != old.metadata.labels || new.metadata.deletion_timestamp.is_some() != old.metadata.deletion_timestamp.is_some() {
                changed |= PODS;
            }
            changed
        }
        (None, Some(new)) if assigned(new) => PODS,
        (Some(_), None) => ROOM | PODS,
        _ => 0,
    }
}

fn node_change(change: &Delta<Node>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    old.spec != new.spec || old.metadata.labels != new.metadata.labels || allocatable(old) != allocatable(new)
}

/// Runs until dropped.
pub(crate) async fn run(cluster: Cluster) {
    let namespaces: Cache<Namespace> = cluster.namespaces();
    let (volumes, classes) = (cluster.persistent_volumes(), cluster.storage_classes());
    let (pods, nodes, claims) = (cluster.pods(), cluster.nodes(), cluster.persistent_volume_claims());
    let mut of_pods = pods.follow();
    let mut of_nodes = nodes.follow();
    let mut of_claims = claims.follow();
    let mut of_volumes = volumes.subscribe();
    let mut of_classes = classes.subscribe();
    tokio::join!(pods.synced(), nodes.synced(), claims.synced(), volumes.synced(), classes.synced(), namespaces.synced());
    let things = Things::Live { namespaces, claims: claims.clone(), volumes, classes };
    let recorder = cluster.recorder();
    let mut scheduler = Scheduler {
        cluster,
        recorder,
        pods,
        nodes,
        claims,
        things,
        queue: Queue::default(),
        assumed: HashMap::new(),
        waiting: HashMap::new(),
        said: HashMap::new(),
        requests: JoinSet::new(),
    };
    scheduler.look_at_all();
    loop {
        scheduler.try_ready();
        let deadline = scheduler.queue.deadline();
        let later = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            change = of_pods.recv() => if !scheduler.pods_changed(change, &mut of_pods) { return },
            change = of_nodes.recv() => match change {
                Ok(change) if !node_change(&change) => {}
                Err(RecvError::Closed) => return,
                _ => scheduler.queue.wake(NODES),
            },
            change = of_claims.recv() => match change {
                Err(RecvError::Closed) => return,
                _ => scheduler.volumes_changed(),
            },
            change = of_volumes.recv() => match change {
                Err(RecvError::Closed) => return,
                _ => scheduler.volumes_changed(),
            },
            change = of_classes.recv() => match change {
                Err(RecvError::Closed) => return,
                _ => scheduler.volumes_changed(),
            },
            Some(done) = scheduler.requests.join_next(), if !scheduler.requests.is_empty() => match done {
                Ok(done) => scheduler.done(done),
                Err(error) => tracing::error!(%error, "a request of the scheduler has ended by a bug"),
            },
            () = later => {}
        }
    }
}

impl Scheduler {
    fn look_at_all(&mut self) {
        for pod in self.pods.list() {
            if is_ours(&pod) && !self.assumed.contains_key(&uid_of(&pod)) {
                self.queue.add(rank_of(&pod));
            }
        }
    }

    /// Takes in one change and all that came with it. `false`: there will be no more.
    fn pods_changed(&mut self, change: Result<Delta<Pod>, RecvError>, more: &mut Receiver<Delta<Pod>>) -> bool {
        let mut next = change;
        loop {
            match next {
                Ok(change) => self.pod_changed(&change),
                Err(RecvError::Lagged(_)) => {
                    self.forget_gone();
                    self.queue.wake(u8::MAX);
                    self.look_at_all();
                }
                Err(RecvError::Closed) => return false,
            }
            next = match more.try_recv() {
                Ok(change) => Ok(change),
                Err(tokio::sync::broadcast::error::TryRecvError::Empty) => return true,
                Err(tokio::sync::broadcast::error::TryRecvError::Closed) => Err(RecvError::Closed),
                Err(tokio::sync::broadcast::error::TryRecvError::Lagged(missed)) => Err(RecvError::Lagged(missed)),
            };
        }
    }

    /// After missed changes: whatever is assumed or waits and is no longer there, or no longer ours, is dropped.
    fn forget_gone(&mut self) {
        let pods = self.pods.clone();
        let still = |name: &Name, uid: &str| pods.get(&name.0, &name.1).is_some_and(|pod| uid_of(&pod) == uid && is_ours(&pod));
        self.assumed.retain(|uid, assumed| still(&assumed.name, uid));
        self.waiting.retain(|name, waiting| still(name, &waiting.uid));
        self.said.retain(|name, _| pods.get(&name.0, &name.1).is_some());
    }

    fn pod_changed(&mut self, change: &Delta<Pod>) {
        let changed = pod_change(change);
        match (&change.old, &change.new) {
            (old, Some(new)) if is_ours(new) => {
                let same = |old: &Arc<Pod>| old.metadata.uid == new.metadata.uid && old.spec == new.spec && old.metadata.labels == new.metadata.labels;
                if !old.as_ref().is_some_and(same) && !self.assumed.contains_key(&uid_of(new)) {
                    self.queue.add(rank_of(new));
                }
            }
            (_, Some(new)) => self.forget(new),
            (Some(old), None) => self.forget(old),
            (None, None) => {}
        }
        if changed != 0 {
            self.queue.wake(changed);
        }
    }

    fn forget(&mut self, pod: &Pod) {
        let name = name_of(pod);
        self.queue.remove(&name);
        self.assumed.remove(&uid_of(pod));
        self.waiting.remove(&name);
        self.said.remove(&name);
    }

    fn view(&self) -> View {
        let mut places: Vec<Place> = self.nodes.list().into_iter().map(|node| (self.pods.on_node(node_name(&node)), node)).map(|(pods, node)| Place::new(node, pods)).collect();
        for assumed in self.assumed.values() {
            let seen = self.pods.get(&assumed.name.0, &assumed.name.1).is_some_and(|pod| assigned(&pod));
            if let Some(place) = places.iter_mut().find(|place| !seen && place.name() == assumed.node) {
                place.put(assumed.pod.clone());
            }
        }
        View { places, things: self.things.clone() }
    }

    /// Tries every pod that is ready to be tried.
    fn try_ready(&mut self) {
        let now = Instant::now();
        if !self.queue.has_ready(now) {
            return;
        }
        let mut view = self.view();
        while let Some(rank) = self.queue.next(now) {
            let Some(pod) = self.pods.get(&rank.name.0, &rank.name.1).filter(|pod| is_ours(pod)) else { continue };
            let uid = uid_of(&pod);
            if self.assumed.contains_key(&uid) {
                continue;
            }
            match decide(&pod, &view) {
                Decision::Nowhere(message, waits_for) => {
                    self.say(&pod, &rank.name, message);
                    self.queue.park(rank, waits_for, now);
                }
                Decision::Place(index, claims) => {
                    let node = view.places[index].name().to_owned();
                    view.places[index].put(pod.clone());
                    self.assumed.insert(uid.clone(), Assumed { name: rank.name.clone(), pod: pod.clone(), node: node.clone() });
                    if claims.waiting.is_empty() {
                        self.bind(&pod, rank, node);
                    } else {
                        let claims = claims.waiting.into_iter().map(|(claim, _)| claim).collect();
                        self.waiting.insert(rank.name.clone(), Waiting { rank: rank.clone(), uid: uid.clone(), node: node.clone(), annotated: None });
                        self.annotate(rank.name, uid, claims, node);
                    }
                }
            }
        }
    }

    fn bind(&mut self, pod: &Arc<Pod>, rank: Rank, node: String) {
        let (cluster, recorder, pod) = (self.cluster.clone(), self.recorder.clone(), pod.clone());
        self.requests.spawn(async move {
            let uid = uid_of(&pod);
            let (namespace, name) = &rank.name;
            let body = json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name, "namespace": namespace, "uid": uid },
                "target": { "apiVersion": "v1", "kind": "Node", "name": node } });
            let outcome = cluster.post_subresource::<Pod>(namespace, name, "binding", &body).await.map(|_| ());
            if outcome.is_ok() {
                recorder.record(reference(&*pod), Severity::Normal, "Scheduled", format!("Successfully assigned {namespace}/{name} to {node}"));
            }
            Done::Bound { uid, rank, outcome }
        });
    }

    /// Tells the claim controller for which node the claims are.
    fn annotate(&mut self, name: Name, uid: String, claims: Vec<Arc<PersistentVolumeClaim>>, node: String) {
        let cluster = self.cluster.clone();
        self.requests.spawn(async move {
            let patch = json!({ "metadata": { "annotations": { (SELECTED_NODE): node } } });
            let mut newest = 0;
            for claim in claims.iter().filter(|claim| selected_node(claim) != Some(&node)) {
                let metadata = &claim.metadata;
                let claim_name = metadata.name.as_deref().unwrap_or_default();
                match cluster.merge_patch::<PersistentVolumeClaim>(&name.0, claim_name, None, &patch).await {
                    Ok(written) => newest = newest.max(written.metadata.resource_version.and_then(|text| text.parse().ok()).unwrap_or(0)),
                    Err(error) => return Done::Annotated { name, uid, outcome: Err(error) },
                }
            }
            Done::Annotated { name, uid, outcome: Ok(newest) }
        });
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Said | Done::Bound { outcome: Ok(()), .. } => {}
            Done::Bound { uid, rank, outcome: Err(error) } => {
                tracing::info!(pod = format!("{}/{}", rank.name.0, rank.name.1), %error, "not bound");
                self.again(&uid, rank, error.is_not_found() || error.is_conflict());
            }
            Done::Annotated { name, uid, outcome } => {
                let Some(waiting) = self.waiting.get_mut(&name).filter(|waiting| waiting.uid == uid) else { return };
                match outcome {
                    Ok(revision) => {
                        waiting.annotated = Some(revision);
                        self.check_waiting(&name);
                    }
                    Err(error) => {
                        tracing::info!(pod = format!("{}/{}", name.0, name.1), %error, "claims not assigned");
                        let rank = waiting.rank.clone();
                        self.waiting.remove(&name);
                        self.again(&uid, rank, false);
                    }
                }
            }
        }
    }

    /// Gives up an assumption; the pod is tried again after a while, or, if `over`, when it changes.
    fn again(&mut self, uid: &str, rank: Rank, over: bool) {
        self.assumed.remove(uid);
        self.queue.wake(ROOM | PODS);
        if !over {
            self.queue.put_off(rank, Instant::now());
        }
    }

    fn volumes_changed(&mut self) {
        self.queue.wake(CLAIMS);
        let names: Vec<Name> = self.waiting.keys().cloned().collect();
        for name in names {
            self.check_waiting(&name);
        }
    }

    /// Binds a pod whose claims have become bound; tries anew when that cannot come to be.
    fn check_waiting(&mut self, name: &Name) {
        let Some(waiting) = self.waiting.get(name) else { return };
        let Some(revision) = waiting.annotated else { return };
        let Some(pod) = self.pods.get(&name.0, &name.1).filter(|pod| uid_of(pod) == waiting.uid && is_ours(pod)) else { return };
        if !self.claims.has_reached(revision) {
            return;
        }
        let claims: Vec<_> = volumes::names(&pod).iter().map(|(claim, _)| self.claims.get(&name.0, claim)).collect();
        let lost = claims.iter().any(|claim| claim.as_ref().is_none_or(|claim| !is_bound(claim) && selected_node(claim) != Some(&waiting.node)));
        if !lost && !claims.iter().flatten().all(|claim| is_bound(claim)) {
            return;
        }
        let reachable = || {
            let node = self.nodes.get("", &waiting.node)?;
            let claims = volumes::claims(&pod, &self.things).ok()?;
            Some(volumes::forbids(&claims, &Place::new(node, []), &self.things).is_none())
        };
        match if lost { Some(false) } else { reachable() } {
            // A volume that is not seen yet comes with a change of its own.
            None => {}
            Some(true) => {
                if let Some(waiting) = self.waiting.remove(name) {
                    self.bind(&pod, waiting.rank, waiting.node);
                }
            }
            Some(false) => {
                if let Some(waiting) = self.waiting.remove(name) {
                    self.again(&waiting.uid, waiting.rank, false);
                }
            }
        }
    }

    /// Says why a pod is not scheduled, where people look for it: its condition and an event. Once for each reason.
    fn say(&mut self, pod: &Arc<Pod>, name: &Name, message: String) {
        if self.said.get(name) == Some(&message) {
            return;
        }
        self.said.insert(name.clone(), message.clone());
        self.recorder.record(reference(&**pod), Severity::Warning, "FailedScheduling", message.clone());
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let known: Option<&PodCondition> = conditions.iter().find(|condition| condition.type_ == "PodScheduled");
        if known.is_some_and(|known| known.status == "False" && known.message.as_ref() == Some(&message)) {
            return;
        }
        let since = known.filter(|known| known.status == "False").and_then(|known| known.last_transition_time.as_ref()).map_or_else(Timestamp::now, |time| time.0);
        let since = since.round(jiff::Unit::Second).unwrap_or(since).to_string();
        let condition = json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message, "lastProbeTime": null, "lastTransitionTime": since });
        let patch = json!({ "metadata": { "uid": pod.metadata.uid }, "status": { "conditions": [condition] } });
        let (cluster, name) = (self.cluster.clone(), name.clone());
        self.requests.spawn(async move {
            if let Err(error) = cluster.patch::<Pod>(PatchKind::Strategic, &name.0, &name.1, Some("status"), &patch).await {
                tracing::debug!(%error, "condition not written");
            }
            Done::Said
        });
    }
}
