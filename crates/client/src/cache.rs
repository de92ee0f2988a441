//! One informer: list, watch, keep, tell.

use std::sync::Arc;
use tokio::sync::broadcast;

/// What changed, by name; read the cache for the state. Coalesced: a reader that lags is told to look at everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Namespace, or empty.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

/// The newest known state of every object of one kind. Cheap to clone; all clones share one watch.
#[derive(Debug)]
pub struct Cache<K> {
    _kind: std::marker::PhantomData<K>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self { _kind: std::marker::PhantomData }
    }
}

impl<K: Send + Sync + 'static> Cache<K> {
    /// One object; `namespace` is empty for cluster-scoped kinds.
    pub fn get(&self, _namespace: &str, _name: &str) -> Option<Arc<K>> {
        todo!()
    }
    /// All of a namespace, by name.
    pub fn list_in(&self, _namespace: &str) -> Vec<Arc<K>> {
        todo!()
    }
    /// All, by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        todo!()
    }
    /// Changes from now on. `RecvError::Lagged`: look at everything again.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        todo!()
    }
    /// Returns when the first list is in.
    pub async fn synced(&self) {
        todo!()
    }
    /// Returns when the cache holds this revision or a newer one (after a write of one's own, so as not to act on a stale view).
    pub async fn reached(&self, _resource_version: &str) {
        todo!()
    }
}
