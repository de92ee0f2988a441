//! What turns changes into keys, and keys into work.

use crate::queue::Queue;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mainstay_client::{Cache, Delta, Resource};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast::error::RecvError};
use tokio::task::JoinSet;

/// How long a controller that ended by a bug stays down.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// How long a controller waits for its own writes to come back through the watch before it tries again later.
const PATIENCE: Duration = Duration::from_secs(1);

/// `namespace` and `name` of what a controller looks after.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Name {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Of an object.
    pub(crate) fn of<K: Resource>(object: &K) -> Self {
        let metadata = object.metadata();
        Self::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The newest revision that a controller has written for each of its objects, in one cache: not to be acted on before the cache shows it.
/// Upstream: StaleControllerConsistencyStatefulSet.
#[derive(Debug, Default)]
pub(crate) struct OwnWrites {
    newest: Mutex<HashMap<Name, u64>>,
}

impl OwnWrites {
    /// Notes what a write answered.
    pub(crate) fn note(&self, name: &Name, written: &ObjectMeta) {
        self.note_revision(name, written.resource_version.as_deref());
    }

    /// Notes a resourceVersion.
    pub(crate) fn note_revision(&self, name: &Name, resource_version: Option<&str>) {
        let Some(revision) = resource_version.and_then(|text| text.parse::<u64>().ok()) else { return };
        let mut newest = self.newest.lock();
        match newest.get_mut(name) {
            Some(known) => *known = revision.max(*known),
            None => {
                newest.insert(name.clone(), revision);
            }
        }
    }

    /// Waits, not for long, until `cache` shows all that was noted. `false`: it does not.
    pub(crate) async fn seen<K: Resource>(&self, cache: &Cache<K>, name: &Name) -> bool {
        let revision = self.newest.lock().get(name).copied().unwrap_or(0);
        cache.has_reached(revision) || tokio::time::timeout(PATIENCE, cache.reached(&revision.to_string())).await.is_ok()
    }

    /// The object is gone.
    pub(crate) fn forget(&self, name: &Name) {
        self.newest.lock().remove(name);
    }
}

/// Tasks that end together, when the group is dropped.
#[derive(Default)]
pub(crate) struct Group {
    tasks: JoinSet<()>,
}

impl Group {
    /// Runs a task to its end.
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Runs a controller, again if a bug ends it: one must not stop the others.
    pub(crate) fn keep<F: Future<Output = ()> + Send + 'static>(&mut self, name: &'static str, controller: impl Fn() -> F + Send + 'static) {
        self.tasks.spawn(async move {
            loop {
                let mut alone = JoinSet::new();
                alone.spawn(controller());
                let ended = alone.join_next().await;
                tracing::error!(controller = name, ?ended, "a controller has ended; it starts again");
                tokio::time::sleep(RESTART_AFTER).await;
            }
        });
    }

    /// Waits until all tasks have ended, which for controllers is never.
    pub(crate) async fn wait(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task has ended by a bug");
                // Its siblings would wait for it for ever: end together, to be started again together.
                return;
            }
        }
    }
}

/// Adds the keys that `keys` finds in every change, first in everything there is. A reader that lagged looks at everything again.
pub(crate) async fn feed<R: Resource, K: Clone + Eq + Hash>(cache: Cache<R>, queue: Arc<Queue<K>>, keys: impl Fn(&Delta<R>, &mut dyn FnMut(K))) {
    let mut changes = cache.follow();
    let all = || {
        for object in cache.list() {
            keys(&Delta { old: None, new: Some(object) }, &mut |key| queue.add(key));
        }
    };
    all();
    loop {
        match changes.recv().await {
            Ok(change) => keys(&change, &mut |key| queue.add(key)),
            Err(RecvError::Lagged(_)) => all(),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Says `done` even when the work panics.
struct Done<K: Clone + Eq + Hash>(Arc<Queue<K>>, K);

impl<K: Clone + Eq + Hash> Drop for Done<K> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.retry(self.1.clone());
        }
        self.0.done(&self.1);
    }
}

/// Works on keys for ever, `workers` of them at a time, each key in a task of its own. `work` answers when to look again even if nothing changes; an
/// error is logged and tried again later, and later after each.
pub(crate) async fn work<K, F, E>(name: &'static str, workers: usize, queue: Arc<Queue<K>>, work: impl Fn(K) -> F + Send + Sync + 'static)
where
    K: Clone + Eq + Hash + std::fmt::Display + Send + Sync + 'static,
    F: Future<Output = Result<Option<Duration>, E>> + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let free = Arc::new(Semaphore::new(workers));
    let mut tasks = JoinSet::new();
    loop {
        // The semaphore is never closed.
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        let key = queue.next().await;
        while tasks.try_join_next().is_some() {}
        let (running, queue) = (work(key.clone()), queue.clone());
        tasks.spawn(async move {
            let _permit = permit;
            let done = Done(queue, key);
            let (queue, key) = (&done.0, &done.1);
            match running.await {
                Ok(again) => {
                    queue.forget(key);
                    if let Some(delay) = again {
                        queue.add_after(key.clone(), delay);
                    }
                }
                Err(error) => {
                    tracing::info!(controller = name, %key, %error, "will try again");
                    queue.retry(key.clone());
                }
            }
        });
    }
}
