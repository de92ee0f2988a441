//! One kind's objects: kept, indexed, and told about.

use crate::Resource;
use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;

/// Changes a slow reader may be behind before it is told to look at everything.
const CHANGES_LIMIT: usize = 1024;

/// What changed, by name; read the cache for the state. Coalesced: a reader that lags is told to look at everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Namespace, or empty.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

/// What changed, with the state before and after: what a reader needs that must know whom a removed object belonged to.
#[derive(Debug)]
pub struct Delta<K> {
    /// The state before; `None`: it was not there.
    pub old: Option<Arc<K>>,
    /// The state after; `None`: it is gone.
    pub new: Option<Arc<K>>,
}

impl<K> Clone for Delta<K> {
    fn clone(&self) -> Self {
        Self { old: self.old.clone(), new: self.new.clone() }
    }
}

impl<K> Delta<K> {
    /// The newest state there is: the one after, or the last one.
    pub fn newest(&self) -> Option<&Arc<K>> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

type Names = (Arc<str>, Arc<str>);

#[derive(Debug)]
struct Objects<K> {
    by_name: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Arc<K>>>,
    by_owner: HashMap<Box<str>, BTreeSet<Names>>,
    by_node: HashMap<Box<str>, BTreeSet<Names>>,
}

fn index(map: &mut HashMap<Box<str>, BTreeSet<Names>>, key: &str, names: &Names) {
    match map.get_mut(key) {
        Some(set) => {
            set.insert(names.clone());
        }
        None => {
            map.insert(key.into(), BTreeSet::from([names.clone()]));
        }
    }
}

fn unindex(map: &mut HashMap<Box<str>, BTreeSet<Names>>, key: &str, names: &Names) {
    if let Some(set) = map.get_mut(key) {
        set.remove(names);
        if set.is_empty() {
            map.remove(key);
        }
    }
}

fn owner_uids<K: Resource>(object: &K) -> impl Iterator<Item = &str> {
    object.metadata().owner_references.iter().flatten().map(|owner| owner.uid.as_str())
}

impl<K: Resource> Objects<K> {
    fn get(&self, namespace: &str, name: &str) -> Option<&Arc<K>> {
        self.by_name.get(namespace)?.get(name)
    }

    fn insert(&mut self, names: &Names, object: Arc<K>) -> Option<Arc<K>> {
        let old = self.remove(names);
        for uid in owner_uids(&*object) {
            index(&mut self.by_owner, uid, names);
        }
        if let Some(node) = object.node_name() {
            index(&mut self.by_node, node, names);
        }
        self.by_name.entry(names.0.clone()).or_default().insert(names.1.clone(), object);
        old
    }

    fn remove(&mut self, names: &Names) -> Option<Arc<K>> {
        let namespace = self.by_name.get_mut(&names.0)?;
        let old = namespace.remove(&names.1)?;
        if namespace.is_empty() {
            self.by_name.remove(&names.0);
        }
        for uid in owner_uids(&*old) {
            unindex(&mut self.by_owner, uid, names);
        }
        if let Some(node) = old.node_name() {
            unindex(&mut self.by_node, node, names);
        }
        Some(old)
    }

    fn named(&self, names: Option<&BTreeSet<Names>>) -> Vec<Arc<K>> {
        names.into_iter().flatten().filter_map(|(namespace, name)| self.get(namespace, name).cloned()).collect()
    }
}

/// What the informer writes and the readers read.
#[derive(Debug)]
pub(crate) struct Store<K> {
    objects: RwLock<Objects<K>>,
    changes: broadcast::Sender<Change>,
    deltas: OnceLock<broadcast::Sender<Delta<K>>>,
    /// 0: the first list is not in yet.
    revision: watch::Sender<u64>,
}

/// resourceVersions are decimal and comparable (KEP-5504); one that is not counts as the oldest.
pub(crate) fn parse_revision(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn names_of<K: Resource>(object: &K) -> Names {
    let metadata = object.metadata();
    (metadata.namespace.as_deref().unwrap_or_default().into(), metadata.name.as_deref().unwrap_or_default().into())
}

impl<K: Resource> Store<K> {
    pub(crate) fn new() -> Self {
        let objects = Objects { by_name: BTreeMap::new(), by_owner: HashMap::new(), by_node: HashMap::new() };
        Self {
            objects: RwLock::new(objects),
            changes: broadcast::channel(CHANGES_LIMIT).0,
            deltas: OnceLock::new(),
            revision: watch::channel(0).0,
        }
    }

    fn tell(&self, names: Names, old: Option<Arc<K>>, new: Option<Arc<K>>) {
        if let Some(deltas) = self.deltas.get() {
            // An error only says that nobody listens.
            let _ = deltas.send(Delta { old, new });
        }
        let _ = self.changes.send(Change { namespace: names.0, name: names.1 });
    }

    /// Takes in one state of an object and how far the watch has come with it.
    pub(crate) fn put(&self, mut object: K) {
        let revision = parse_revision(object.metadata().resource_version.as_deref());
        object.metadata_mut().managed_fields = None;
        let names = names_of(&object);
        let object = Arc::new(object);
        let old = self.objects.write().insert(&names, object.clone());
        self.advance(revision);
        self.tell(names, old, Some(object));
    }

    /// Takes an object out; `last` is its last state.
    pub(crate) fn take(&self, last: &K) {
        let names = names_of(last);
        let old = self.objects.write().remove(&names);
        self.advance(parse_revision(last.metadata().resource_version.as_deref()));
        if let Some(old) = old {
            self.tell(names, Some(old), None);
        }
    }

    /// How far the watch has come, where no object tells.
    pub(crate) fn advance(&self, revision: u64) {
        self.revision.send_if_modified(|have| {
            let newer = revision > *have;
            *have = revision.max(*have);
            newer
        });
    }

    /// Replaces everything by a list and tells of the differences.
    pub(crate) fn replace(&self, list: Vec<K>, revision: u64) {
        let mut told = Vec::new();
        {
            let mut objects = self.objects.write();
            let mut gone: BTreeSet<Names> = BTreeSet::new();
            for (namespace, named) in &objects.by_name {
                gone.extend(named.keys().map(|name| (namespace.clone(), name.clone())));
            }
            for mut object in list {
                object.metadata_mut().managed_fields = None;
                let names = names_of(&object);
                gone.remove(&names);
                let known = objects.get(&names.0, &names.1).is_some_and(|known| known.metadata().resource_version == object.metadata().resource_version);
                if known {
                    continue;
                }
                let object = Arc::new(object);
                let old = objects.insert(&names, object.clone());
                told.push((names, old, Some(object)));
            }
            for names in gone {
                let old = objects.remove(&names);
                told.push((names, old, None));
            }
        }
        self.revision.send_replace(revision.max(1));
        for (names, old, new) in told {
            self.tell(names, old, new);
        }
    }
}

/// Ends the informer with the last cache.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The newest known state of every object of one kind. Cheap to clone; all clones share one watch.
#[derive(Debug)]
pub struct Cache<K> {
    store: Arc<Store<K>>,
    _task: Arc<Task>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), _task: self._task.clone() }
    }
}

impl<K: Resource> Cache<K> {
    /// Starts `informer` on a new store. Needs a tokio runtime.
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(informer: impl FnOnce(Arc<Store<K>>) -> F) -> Self {
        let store = Arc::new(Store::new());
        let task = tokio::spawn(informer(store.clone()));
        Self { store, _task: Arc::new(Task(task.abort_handle())) }
    }

    /// One object; `namespace` is empty for cluster-scoped kinds.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store.objects.read().get(namespace, name).cloned()
    }
    /// All of a namespace, by name.
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.store.objects.read().by_name.get(namespace).map(|named| named.values().cloned().collect()).unwrap_or_default()
    }
    /// All, by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.store.objects.read().by_name.values().flat_map(|named| named.values().cloned()).collect()
    }
    /// How many there are.
    pub fn count(&self) -> usize {
        self.store.objects.read().by_name.values().map(BTreeMap::len).sum()
    }
    /// Those that name `uid` among their ownerReferences, by namespace and name. Costs what it returns.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        let objects = self.store.objects.read();
        objects.named(objects.by_owner.get(uid))
    }
    /// Those bound to a node (`spec.nodeName` of pods), by namespace and name. Costs what it returns.
    pub fn on_node(&self, node: &str) -> Vec<Arc<K>> {
        let objects = self.store.objects.read();
        objects.named(objects.by_node.get(node))
    }
    /// Changes from now on. `RecvError::Lagged`: look at everything again.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.store.changes.subscribe()
    }
    /// Changes from now on, with the states before and after. `RecvError::Lagged`: look at everything again.
    pub fn follow(&self) -> broadcast::Receiver<Delta<K>> {
        self.store.deltas.get_or_init(|| broadcast::channel(CHANGES_LIMIT).0).subscribe()
    }
    /// Returns when the first list is in.
    pub async fn synced(&self) {
        self.wait(1).await;
    }
    /// Whether the first list is in.
    pub fn is_synced(&self) -> bool {
        self.has_reached(1)
    }
    /// The newest revision that the cache has seen; 0 before the first list.
    pub fn revision(&self) -> u64 {
        *self.store.revision.borrow()
    }
    /// Returns when the cache holds this revision or a newer one (after a write of one's own to this kind, so as not to act on a stale
    /// view). A revision of another kind's write is reached only with the next change or bookmark. An unreadable one returns at once.
    pub async fn reached(&self, resource_version: &str) {
        if let Ok(revision) = resource_version.parse() {
            self.wait(revision).await;
        }
    }
    /// Whether the cache holds this revision or a newer one.
    pub fn has_reached(&self, revision: u64) -> bool {
        *self.store.revision.borrow() >= revision
    }

    async fn wait(&self, revision: u64) {
        // The sender lives in the store that `self` holds, so that this cannot fail.
        let _ = self.store.revision.subscribe().wait_for(|have| *have >= revision).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    fn pod(name: &str, revision: u64, owner: &str, node: &str) -> Pod {
        let text = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"default","resourceVersion":"{revision}","managedFields":[{{"manager":"x"}}],
            "ownerReferences":[{{"uid":"{owner}","name":"o","kind":"K","apiVersion":"v1"}}]}},"spec":{{"nodeName":"{node}","containers":[]}}}}"#
        );
        Pod::decode(text.as_bytes()).expect("a pod")
    }

    fn cache() -> Cache<Pod> {
        Cache::start(|_| std::future::pending())
    }

    fn names(pods: Vec<Arc<Pod>>) -> String {
        let names: Vec<&str> = pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
        names.join(" ")
    }

    #[tokio::test]
    async fn indexes_follow_every_change() {
        let cache = cache();
        cache.store.put(pod("a", 2, "u1", "n1"));
        cache.store.put(pod("b", 3, "u1", "n2"));
        assert_eq!(names(cache.owned_by("u1")), "a b");
        assert_eq!(names(cache.on_node("n1")), "a");
        assert!(cache.get("default", "a").expect("there").metadata.managed_fields.is_none());
        cache.store.put(pod("a", 4, "u2", "n2"));
        assert_eq!(names(cache.owned_by("u1")), "b");
        assert_eq!(names(cache.on_node("n2")), "a b");
        cache.store.take(&pod("b", 5, "u1", "n2"));
        assert_eq!(names(cache.owned_by("u1")), "");
        assert_eq!(names(cache.list()), "a");
        assert!(cache.has_reached(5) && !cache.has_reached(6));
    }

    #[tokio::test]
    async fn a_list_tells_only_of_differences() {
        let cache = cache();
        cache.store.replace(vec![pod("a", 2, "u", "n"), pod("b", 3, "u", "n")], 7);
        let (mut changes, mut deltas) = (cache.subscribe(), cache.follow());
        cache.store.replace(vec![pod("b", 3, "u", "n"), pod("c", 9, "u", "n")], 9);
        let mut told = Vec::new();
        while let Ok(change) = changes.try_recv() {
            told.push(change.name.to_string());
        }
        assert_eq!(told, ["c", "a"]);
        assert!(deltas.try_recv().expect("c").old.is_none());
        assert!(deltas.try_recv().expect("a").new.is_none());
        assert_eq!(cache.count(), 2);
    }
}
