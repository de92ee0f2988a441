//! The metadata of every object of every served kind, followed by one watch a kind: what the garbage collector and the namespace
//! controller share. Only names, uids, owners and finalizers are kept.

mod discovery;
mod follow;
mod world;

pub(crate) use discovery::Kind;
pub(crate) use world::{Item, Owner, World};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use mainstay_client::Cluster;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// Changes a slow reader may be behind before it is told to look at everything.
const CHANGES_LIMIT: usize = 4_096;

/// What happened to an object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) old: Option<Arc<Item>>,
    /// `None`: it is gone.
    pub(crate) new: Option<Arc<Item>>,
}

/// The shared view. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    world: Arc<RwLock<World>>,
    changes: broadcast::Sender<Change>,
    /// Kinds whose first list is still to come; `None` before discovery.
    missing: watch::Sender<Option<usize>>,
}

impl Metadata {
    pub(crate) fn new() -> Self {
        Self { world: Arc::default(), changes: broadcast::channel(CHANGES_LIMIT).0, missing: watch::channel(None).0 }
    }

    /// Hold it shortly, never across an await.
    pub(crate) fn world(&self) -> RwLockReadGuard<'_, World> {
        self.world.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, World> {
        self.world.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Returns when every kind has been listed.
    pub(crate) async fn synced(&self) {
        // The sender lives in `self`, so that this cannot fail.
        let _ = self.missing.subscribe().wait_for(|missing| *missing == Some(0)).await;
    }

    fn put(&self, item: Item) {
        let new = Arc::new(item);
        let old = self.write().put(Arc::clone(&new));
        if old.as_ref() != Some(&new) {
            // An error only says that nobody listens.
            let _ = self.changes.send(Change { old, new: Some(new) });
        }
    }

    fn remove(&self, uid: &str) {
        let old = self.write().remove(uid);
        if old.is_some() {
            let _ = self.changes.send(Change { old, new: None });
        }
    }

    /// Discovers the served kinds and follows them, until the future is dropped.
    pub(crate) async fn run(self, cluster: Cluster) {
        let mut wait = Duration::from_millis(5);
        let kinds = loop {
            match discovery::kinds(&cluster).await {
                Ok(kinds) => break kinds,
                Err(error) => {
                    tracing::debug!("{error}");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(5));
                }
            }
        };
        self.write().set_kinds(kinds.clone());
        self.missing.send_replace(Some(kinds.iter().filter(|kind| kind.followed()).count()));
        let listed = || self.missing.send_modify(|missing| *missing = missing.map(|missing| missing.saturating_sub(1)));
        let mut following: FuturesUnordered<_> =
            kinds.iter().enumerate().filter(|(_, kind)| kind.followed()).map(|(index, kind)| follow::follow(&cluster, &self, index, kind, listed)).collect();
        while following.next().await.is_some() {}
    }
}
