//! Following the log from a revision on.

use crate::store::Shared;
use crate::{Object, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

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

/// Wakes the watchers of one range. There is one for each range that is watched, however many watch it.
#[derive(Debug)]
pub(crate) struct Signal {
    /// No event of the range is newer than this.
    last: AtomicU64,
    changed: Notify,
}

impl Signal {
    pub(crate) fn new(revision: u64) -> Self {
        Self { last: AtomicU64::new(revision), changed: Notify::new() }
    }

    /// Notes an event of the range and returns the revision noted before. Called with the state's lock held for writing.
    pub(crate) fn raise(&self, revision: u64) -> u64 {
        self.last.swap(revision, Ordering::AcqRel)
    }

    pub(crate) fn wake(&self) {
        self.changed.notify_waiters();
    }
}

/// A cursor in the log. Holds no copy of events: a slow watcher costs nothing but falls out of the window.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    range: Range,
    seen: u64,
    /// `None` only while being dropped.
    signal: Option<Arc<Signal>>,
}

impl Watch {
    pub(crate) fn new(shared: Arc<Shared>, range: Range, seen: u64, signal: Arc<Signal>) -> Self {
        Self { shared, range, seen, signal: Some(signal) }
    }

    /// The next events of this watch's range (at most `limit`), waiting until there is at least one. Cancel safe.
    pub async fn next(&mut self, limit: usize) -> Result<Batch, Expired> {
        loop {
            let signal = self.signal.clone();
            let Some(signal) = signal.as_deref() else { return std::future::pending().await };
            // Registers before looking, so that a publication in between is not missed.
            let changed = signal.changed.notified();
            if signal.last.load(Ordering::Acquire) > self.seen
                && let Some(batch) = self.take(limit)?
            {
                return Ok(batch);
            }
            changed.await;
        }
    }

    fn take(&mut self, limit: usize) -> Result<Option<Batch>, Expired> {
        let state = self.shared.state.read();
        state.check_kept(&self.range.resource, self.seen)?;
        let (events, seen) = state.events(&self.range, self.seen, limit);
        drop(state);
        self.seen = seen;
        Ok((!events.is_empty()).then_some(Batch { events, revision: seen }))
    }

    /// How far this watch has seen (see [`Batch::revision`]), moved on over events of other ranges without waiting.
    pub fn revision(&mut self) -> u64 {
        let state = self.shared.state.read();
        let quiet = self.signal.as_ref().is_some_and(|signal| signal.last.load(Ordering::Acquire) <= self.seen);
        // An expired watch stays where it is, so that `next` says so.
        if quiet || (state.check_kept(&self.range.resource, self.seen).is_ok() && !state.pending(&self.range, self.seen)) {
            self.seen = self.seen.max(state.revision());
        }
        self.seen
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(signal) = self.signal.take()
            && self.range.namespace.is_some()
        {
            self.shared.state.write().release(&self.range, signal);
        }
    }
}
