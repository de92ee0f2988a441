//! Following the log from a revision on.

use crate::Object;
use std::sync::Arc;

/// What happened to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was not there before.
    Added,
    /// It was changed.
    Modified,
    /// It is gone; `object` is its last state, with the revision of the deletion.
    Deleted,
}

/// One revision of the log.
#[derive(Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The state after (for `Deleted`: the last one).
    pub object: Arc<Object>,
    /// The state before, which decides whether a selector's watcher sees an addition, a change or a removal.
    pub previous: Option<Arc<Object>>,
}

/// Events in revision order, and how far the watcher has now seen: every event of its range up to and including `revision`.
#[derive(Debug)]
pub struct Batch {
    /// May be empty when only `revision` moved on.
    pub events: Vec<Arc<Event>>,
    /// A safe resourceVersion for a bookmark.
    pub revision: u64,
}

/// The watcher asked for, or fell behind to, a revision that is no longer kept. Answer 410 and let it list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {requested} ({oldest})")]
pub struct Expired {
    /// What was asked for.
    pub requested: u64,
    /// The oldest revision from which a watch can start now.
    pub oldest: u64,
}

/// A cursor in the log. Holds no copy of events: a slow watcher costs nothing but falls out of the window.
#[derive(Debug)]
pub struct Watch {}

impl Watch {
    /// The next events of this watch's range (at most `limit`), waiting until there is at least one. Cancel safe.
    pub async fn next(&mut self, _limit: usize) -> Result<Batch, Expired> {
        todo!()
    }

    /// How far this watch has seen (see [`Batch::revision`]), moved on over events of other ranges without waiting.
    pub fn revision(&mut self) -> u64 {
        todo!()
    }
}
