//! Opening, reading and writing.

use crate::intern::Interner;
use crate::log::Log;
use crate::state::State;
use crate::writer::{self, Request, Writer};
use crate::{Draft, Event, EventKind, Expired, Key, Meta, Object, Range, Watch};
use parking_lot::{Mutex, RwLock};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{Notify, mpsc, oneshot};

/// Bounds. `Default` is what production uses.
#[derive(Clone, Debug)]
pub struct Options {
    /// Events kept for watchers that start from an old revision, in memory and in the log.
    pub window_events: usize,
    /// Bytes of replaced and deleted objects that those events may keep in memory.
    pub window_bytes: usize,
    /// Bytes of the largest object.
    pub object_limit_bytes: usize,
    /// Bytes of the database file, past which writes fail with [`WriteError::Full`].
    pub disk_limit_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { window_events: 50_000, window_bytes: 16 << 20, object_limit_bytes: 1_572_864, disk_limit_bytes: 8 << 30 }
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
    /// A stored record does not read back as it was written. Says which file, and what to do.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The writer's thread could not be started.
    #[error("store: start the writer")]
    Thread(#[source] std::io::Error),
}

impl Error {
    pub(crate) fn sqlite(doing: &'static str, source: rusqlite::Error) -> Self {
        Self::Sqlite { doing, source }
    }
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
pub struct Store {
    shared: Arc<Shared>,
    handle: Arc<Handle>,
}

/// What the writer publishes and everyone reads.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) state: RwLock<State>,
    /// Raised after each publication.
    pub(crate) progress: Notify,
}

/// The way to the writer.
#[derive(Debug)]
struct Handle {
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    object_limit_bytes: usize,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The writer ends when nobody can send any more; waiting for it makes the files free for the next opening.
        self.requests.lock().take();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

impl Store {
    /// Opens or creates the store in a directory that the caller has locked. Verifies what it reads.
    pub fn open(dir: &Path, options: Options) -> Result<Self, Error> {
        let log = Log::open(dir, options.disk_limit_bytes)?;
        let mut interner = Interner::new();
        let floor = log.floor()?;
        let mut state = State::new(floor, options.window_events, options.window_bytes);
        let mut superseded = writer::Superseded::new();
        log.replay(&mut interner, |record| {
            let object = Arc::new(record.object);
            let previous = state.get(&object.key).cloned();
            superseded.note(record.kind, object.revision, previous.as_deref());
            if object.revision <= floor {
                state.restore(record.kind, &object);
                return Ok(());
            }
            if object.revision != state.revision() + 1 || previous.is_none() != (record.kind == EventKind::Added) {
                return Err(log.damaged(&format!("has lost records before revision {}", object.revision)));
            }
            state.publish(vec![Event { kind: record.kind, object, previous }]);
            Ok(())
        })?;
        let shared = Arc::new(Shared { state: RwLock::new(state), progress: Notify::new() });
        let (requests, receiver) = mpsc::channel(writer::WAITING);
        let writer = Writer::new(log, Arc::clone(&shared), receiver, interner, superseded);
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || writer.run()).map_err(Error::Thread)?;
        let handle =
            Handle { requests: Mutex::new(Some(requests)), thread: Mutex::new(Some(thread)), object_limit_bytes: options.object_limit_bytes };
        Ok(Self { shared, handle: Arc::new(handle) })
    }

    /// The revision of the newest committed write (at least 1).
    pub fn revision(&self) -> u64 {
        self.shared.state.read().revision()
    }

    /// Waits until [`Store::revision`] has reached `revision`.
    pub async fn reached(&self, revision: u64) {
        loop {
            let progress = self.shared.progress.notified();
            if self.revision() >= revision {
                return;
            }
            progress.await;
        }
    }

    /// The newest committed state of an object.
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.shared.state.read().get(key).cloned()
    }

    /// Up to `limit` objects (0: all) of a range after `after` (exclusive) at the newest revision.
    pub fn list(&self, range: &Range, after: Option<&Key>, limit: usize) -> Page {
        self.shared.state.read().list(range, after, limit)
    }

    /// The same at an older revision, for the pages that follow a first one; `Expired` when it is no longer kept. A revision that is
    /// still to come answers as the newest: wait with [`Store::reached`] first.
    pub fn list_at(&self, range: &Range, after: Option<&Key>, limit: usize, revision: u64) -> Result<Page, Expired> {
        self.shared.state.read().list_at(range, after, limit, revision)
    }

    /// Number of objects in a range.
    pub fn count(&self, range: &Range) -> usize {
        self.shared.state.read().count(range)
    }

    /// Objects of any resource that name `uid` among their owners.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<Object>> {
        self.shared.state.read().owned_by(uid)
    }

    /// Follows a range from just after `revision`. A kind that has not changed for long never expires: what counts is whether all
    /// events of this resource are still there.
    pub fn watch(&self, range: &Range, revision: u64) -> Result<Watch, Expired> {
        let mut state = self.shared.state.write();
        state.check_kept(&range.resource, revision)?;
        let signal = state.signal(range);
        drop(state);
        Ok(Watch::new(Arc::clone(&self.shared), range.clone(), revision, signal))
    }

    /// Makes one change durable and returns the state it left (for a delete: the last state, at the deletion's revision).
    /// When this returns `Ok`, the change is on disk. A failed fsync ends the process: what is on disk is then unknown.
    /// Dropping the future does not take the change back.
    pub async fn write(&self, write: Write) -> Result<Arc<Object>, WriteError> {
        let (Write::Create { draft, .. } | Write::Update { draft, .. } | Write::Delete { draft, .. }) = &write;
        let (size, limit) = (draft.head.len() + draft.tail.len(), self.handle.object_limit_bytes);
        if size > limit {
            return Err(WriteError::TooLarge { size, limit });
        }
        let requests = self.handle.requests.lock().clone().ok_or(WriteError::Closed)?;
        let (reply, answer) = oneshot::channel();
        requests.send(Request { write, reply }).await.map_err(|_| WriteError::Closed)?;
        drop(requests);
        answer.await.unwrap_or(Err(WriteError::Closed))
    }

    /// Finishes what was begun, checkpoints, closes. Later writes of other clones fail with [`WriteError::Closed`].
    pub async fn close(self) {
        self.handle.requests.lock().take();
        let thread = self.handle.thread.lock().take();
        let Some(thread) = thread else { return };
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the store's writer panicked");
        }
    }
}
