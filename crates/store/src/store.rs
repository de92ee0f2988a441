//! Opening, reading and writing.

use crate::{Draft, Expired, Key, Meta, Object, Range, Watch};
use std::path::Path;
use std::sync::Arc;

/// Bounds. `Default` is what production uses.
#[derive(Clone, Debug)]
pub struct Options {
    /// Events kept in memory for watchers that start from an old revision.
    pub window_events: usize,
    /// Bytes of the largest object.
    pub object_limit_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { window_events: 10_000, object_limit_bytes: 1_572_864 }
    }
}

/// Why a store cannot be opened, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite said no.
    #[error("store: {doing}")]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// Written by a newer version of this program.
    #[error("the data directory has format {found}, this version knows up to {known}: use a newer mainstay, or another --data-dir")]
    Newer {
        /// Format on disk.
        found: u32,
        /// Newest format known here.
        known: u32,
    },
    /// A stored record does not read back as it was written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

/// One change. All are conditional, so that a lost race is seen.
#[derive(Debug)]
pub enum Write {
    /// Fails with [`WriteError::Exists`] when the key is taken.
    Create {
        /// The object's name.
        key: Key,
        /// Its bytes.
        draft: Draft,
        /// Its index entry.
        meta: Meta,
    },
    /// Fails with [`WriteError::Conflict`] unless the current revision is `expected`.
    Update {
        /// The object's name.
        key: Key,
        /// The revision that was read.
        expected: u64,
        /// Its new bytes.
        draft: Draft,
        /// Its new index entry.
        meta: Meta,
    },
    /// Fails with [`WriteError::Conflict`] unless the current revision is `expected`. `draft` is the last state that watchers see.
    Delete {
        /// The object's name.
        key: Key,
        /// The revision that was read.
        expected: u64,
        /// The last state.
        draft: Draft,
    },
}

/// Why a write changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Create: there is one already.
    #[error("exists")]
    Exists(Arc<Object>),
    /// Update or delete: there is none.
    #[error("not found")]
    NotFound,
    /// Update or delete: it is at another revision; read again.
    #[error("conflict")]
    Conflict(Arc<Object>),
    /// Larger than [`Options::object_limit_bytes`].
    #[error("object of {size} bytes, limit {limit}")]
    TooLarge {
        /// Serialized size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// No room on the disk: nothing was written; the store goes on reading.
    #[error("no space left on the disk that holds the data directory")]
    Full,
    /// The store has shut down.
    #[error("closed")]
    Closed,
}

/// Part of a LIST, at one revision.
#[derive(Debug)]
pub struct Page {
    /// The revision at which the page is true.
    pub revision: u64,
    /// In key order.
    pub items: Vec<Arc<Object>>,
    /// How many more there are in the range after the last item (all of them, whatever the selector).
    pub remaining: usize,
}

/// The store. Cheap to clone; the database closes when the last clone is gone or [`Store::close`] was called.
#[derive(Clone, Debug)]
pub struct Store {}

impl Store {
    /// Opens or creates the store in a directory that the caller has locked. Verifies what it reads.
    pub fn open(_dir: &Path, _options: Options) -> Result<Self, Error> {
        todo!()
    }

    /// The revision of the newest committed write (at least 1).
    pub fn revision(&self) -> u64 {
        todo!()
    }

    /// Waits until [`Store::revision`] has reached `revision`.
    pub async fn reached(&self, _revision: u64) {
        todo!()
    }

    /// The newest committed state of an object.
    pub fn get(&self, _key: &Key) -> Option<Arc<Object>> {
        todo!()
    }

    /// Up to `limit` objects (0: all) of a range after `after` (exclusive) at the newest revision.
    pub fn list(&self, _range: &Range, _after: Option<&Key>, _limit: usize) -> Page {
        todo!()
    }

    /// The same at an older revision, for the pages that follow a first one; `Expired` when it is no longer kept.
    pub fn list_at(&self, _range: &Range, _after: Option<&Key>, _limit: usize, _revision: u64) -> Result<Page, Expired> {
        todo!()
    }

    /// Number of objects in a range.
    pub fn count(&self, _range: &Range) -> usize {
        todo!()
    }

    /// Objects of any resource that name `uid` among their owners.
    pub fn owned_by(&self, _uid: &str) -> Vec<Arc<Object>> {
        todo!()
    }

    /// Follows a range from just after `revision`.
    pub fn watch(&self, _range: &Range, _revision: u64) -> Result<Watch, Expired> {
        todo!()
    }

    /// Makes one change durable and returns the state it left (for a delete: the last state, at the deletion's revision).
    /// When this returns `Ok`, the change is on disk. A failed fsync ends the process: what is on disk is then unknown.
    pub async fn write(&self, _write: Write) -> Result<Arc<Object>, WriteError> {
        todo!()
    }

    /// Finishes what was begun, checkpoints, closes.
    pub async fn close(self) {
        todo!()
    }
}
