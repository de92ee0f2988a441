//! The one thread that changes anything.
//!
//! It takes all requests that wait, decides each against the state as the requests before it leave it, writes the accepted ones in one
//! transaction, publishes them, and only then answers: nobody sees what a crash could take back. When nothing waits it tidies the log.

use crate::intern::Interner;
use crate::log::{Failure, Log};
use crate::store::Shared;
use crate::{Draft, Event, EventKind, Key, Meta, Object, Write, WriteError};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for the writer; past that, callers wait to send.
pub(crate) const WAITING: usize = 1_024;
/// Requests of one transaction.
const BATCH: usize = 256;
/// Bytes after which a transaction takes no further request.
const BATCH_BYTES: usize = 4 << 20;
/// Records removed in one step.
const COMPACT_ROWS: usize = 256;
/// Superseded records that may wait for an idle moment; past that, each transaction takes some with it.
const COMPACT_BACKLOG: usize = 8_192;

/// What a caller is told.
type Answer = Result<Arc<Object>, WriteError>;

/// One change and where its answer goes.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) write: Write,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// Records that nobody needs once the history has moved past the revision that superseded them.
#[derive(Debug)]
pub(crate) struct Superseded {
    /// (superseding revision, record), both rising. A deletion supersedes its object's last record, and then itself.
    queue: VecDeque<(u64, u64)>,
}

impl Superseded {
    pub(crate) fn new() -> Self {
        Self { queue: VecDeque::new() }
    }

    /// Notes what an event makes superfluous.
    pub(crate) fn note(&mut self, kind: EventKind, revision: u64, previous: Option<&Object>) {
        if let Some(previous) = previous {
            self.queue.push_back((revision, previous.revision));
        }
        if kind == EventKind::Deleted {
            // After the record that it hides, so that a crash in between cannot bring the object back.
            self.queue.push_back((revision, revision));
        }
    }

    /// How many records can go while history is kept from `floor` on.
    fn due(&self, floor: u64) -> usize {
        self.queue.partition_point(|(by, _)| *by <= floor)
    }

    fn first(&self, count: usize) -> impl Iterator<Item = u64> {
        self.queue.iter().take(count).map(|(_, record)| *record)
    }

    fn forget(&mut self, count: usize) {
        self.queue.drain(..count);
    }
}

/// Requests decided but not yet written.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    bytes: usize,
    /// What the accepted requests leave behind; `None` after a deletion.
    overlay: HashMap<Key, Option<Arc<Object>>>,
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
}

pub(crate) struct Writer {
    log: Log,
    shared: Arc<Shared>,
    requests: mpsc::Receiver<Request>,
    interner: Interner,
    superseded: Superseded,
    revision: u64,
    /// No tidying until a write has succeeded again: it needs room itself.
    full: bool,
}

impl Writer {
    pub(crate) fn new(log: Log, shared: Arc<Shared>, requests: mpsc::Receiver<Request>, interner: Interner, superseded: Superseded) -> Self {
        let revision = shared.state.read().revision();
        Self { log, shared, requests, interner, superseded, revision, full: false }
    }

    /// Works until nobody can send any more.
    pub(crate) fn run(mut self) {
        loop {
            let first = match self.requests.try_recv() {
                Ok(request) => request,
                Err(mpsc::error::TryRecvError::Disconnected) => break,
                Err(mpsc::error::TryRecvError::Empty) if self.tidy() => continue,
                Err(mpsc::error::TryRecvError::Empty) => match self.requests.blocking_recv() {
                    Some(request) => request,
                    None => break,
                },
            };
            let batch = self.gather(first);
            self.commit(batch);
        }
        if let Err(error) = self.log.close() {
            // All that was acknowledged is in the WAL, which the next opening reads.
            tracing::warn!(%error, "the store was not closed cleanly");
        }
    }

    fn gather(&mut self, first: Request) -> Batch {
        let mut batch = Batch::default();
        let mut next = Some(first);
        while let Some(request) = next {
            let result = self.decide(&mut batch, request.write);
            batch.answers.push((request.reply, result));
            let more = batch.answers.len() < BATCH && batch.bytes < BATCH_BYTES;
            next = if more { self.requests.try_recv().ok() } else { None };
        }
        batch
    }

    fn decide(&mut self, batch: &mut Batch, write: Write) -> Result<Arc<Object>, WriteError> {
        let (kind, key, draft, meta, previous) = match write {
            Write::Create { key, draft, meta } => match self.current(batch, &key) {
                Some(object) => return Err(WriteError::Exists(object)),
                None => (EventKind::Added, self.intern_key(key), draft, self.intern_meta(meta), None),
            },
            Write::Update { key, expected, draft, meta } => {
                let previous = self.expect(batch, &key, expected)?;
                (EventKind::Modified, previous.key.clone(), draft, self.intern_meta(meta), Some(previous))
            }
            Write::Delete { key, expected, draft } => {
                let previous = self.expect(batch, &key, expected)?;
                (EventKind::Deleted, previous.key.clone(), draft, previous.meta.clone(), Some(previous))
            }
        };
        let revision = self.revision + batch.events.len() as u64 + 1;
        let object = Arc::new(Object { key: key.clone(), revision, bytes: splice(&draft, revision), meta });
        batch.bytes += object.bytes.len();
        batch.overlay.insert(key, (kind != EventKind::Deleted).then(|| Arc::clone(&object)));
        batch.events.push(Event { kind, object: Arc::clone(&object), previous });
        Ok(object)
    }

    fn current(&self, batch: &Batch, key: &Key) -> Option<Arc<Object>> {
        match batch.overlay.get(key) {
            Some(object) => object.clone(),
            None => self.shared.state.read().get(key).cloned(),
        }
    }

    fn expect(&self, batch: &Batch, key: &Key, expected: u64) -> Result<Arc<Object>, WriteError> {
        let object = self.current(batch, key).ok_or(WriteError::NotFound)?;
        if object.revision == expected { Ok(object) } else { Err(WriteError::Conflict(object)) }
    }

    fn intern_key(&mut self, key: Key) -> Key {
        Key { resource: self.interner.intern(&key.resource), namespace: self.interner.intern(&key.namespace), name: key.name }
    }

    fn intern_meta(&mut self, meta: Meta) -> Meta {
        let mut list = |texts: Vec<Arc<str>>| texts.iter().map(|text| self.interner.intern(text)).collect::<Vec<_>>();
        let (fields, owners) = (list(meta.fields), list(meta.owners));
        let labels = meta.labels.iter().map(|(key, value)| (self.interner.intern(key), self.interner.intern(value))).collect();
        Meta { uid: meta.uid, labels, fields, owners }
    }

    fn commit(&mut self, batch: Batch) {
        let Batch { events, answers, overlay, .. } = batch;
        drop(overlay);
        if events.is_empty() {
            // Nothing to write: a refusal tells of a state that is on disk already.
            return answers.into_iter().for_each(|(reply, result)| answer(reply, result));
        }
        let floor = self.shared.state.read().floor();
        let due = self.superseded.due(floor);
        let taken = if due > COMPACT_BACKLOG { (2 * events.len()).min(due) } else { 0 };
        match self.log.append(&events, self.superseded.first(taken), floor) {
            Ok(()) => {
                self.full = false;
                self.superseded.forget(taken);
                self.publish(events);
                answers.into_iter().for_each(|(reply, result)| answer(reply, result));
            }
            Err(Failure::Full) => {
                self.make_room();
                // Also what was refused because of another request of this batch: that one did not happen.
                answers.into_iter().for_each(|(reply, _)| answer(reply, Err(WriteError::Full)));
            }
            Err(Failure::Fatal(error)) => fatal("write to the log", &error),
        }
        self.checkpoint();
    }

    fn publish(&mut self, events: Vec<Event>) {
        self.revision += events.len() as u64;
        for event in &events {
            self.superseded.note(event.kind, event.object.revision, event.previous.as_deref());
        }
        fail::fail_point!("store::before-publish");
        let published = self.shared.state.write().publish(events);
        fail::fail_point!("store::after-publish");
        self.shared.progress.notify_waiters();
        published.signals.iter().for_each(|signal| signal.wake());
    }

    /// One step of what can wait; false when there is nothing left to do.
    fn tidy(&mut self) -> bool {
        if self.full {
            return false;
        }
        let floor = self.shared.state.read().floor();
        let done = if self.superseded.due(floor) >= COMPACT_ROWS { self.compact(floor).map(|()| true) } else { self.log.shrink() };
        let more = match done {
            Ok(more) => more,
            Err(Failure::Full) => {
                self.full = true;
                tracing::warn!("no room on the disk to compact the store");
                false
            }
            Err(Failure::Fatal(error)) => fatal("compact the log", &error),
        };
        self.checkpoint();
        more
    }

    fn compact(&mut self, floor: u64) -> Result<(), Failure> {
        let count = self.superseded.due(floor).min(COMPACT_ROWS);
        self.log.compact(self.superseded.first(count), floor)?;
        self.superseded.forget(count);
        Ok(())
    }

    /// After a write found no room: removes what it can, which frees pages within the file.
    fn make_room(&mut self) {
        tracing::warn!("no space left on the disk that holds the data directory: writes are refused");
        self.full = true;
        let floor = self.shared.state.read().floor();
        while self.superseded.due(floor) > 0 {
            match self.compact(floor) {
                Ok(()) => {}
                Err(Failure::Full) => return,
                Err(Failure::Fatal(error)) => fatal("compact the log", &error),
            }
        }
    }

    fn checkpoint(&mut self) {
        match self.log.checkpoint_if_due() {
            Ok(()) => {}
            Err(Failure::Full) => tracing::warn!("no room on the disk to checkpoint the store"),
            Err(Failure::Fatal(error)) => fatal("checkpoint the log", &error),
        }
    }
}

/// The caller may have gone; its change stays.
fn answer(reply: oneshot::Sender<Answer>, result: Answer) {
    let _gone = reply.send(result);
}

fn splice(draft: &Draft, revision: u64) -> Bytes {
    let digits = revision.to_string();
    let mut bytes = Vec::with_capacity(draft.head.len() + digits.len() + draft.tail.len());
    bytes.extend_from_slice(&draft.head);
    bytes.extend_from_slice(digits.as_bytes());
    bytes.extend_from_slice(&draft.tail);
    bytes.into()
}

/// A failed sync leaves it unknown what is on disk, and the kernel forgets the pages: only reading the log again can tell. Pods outlive
/// this process; the next start reads the log.
fn fatal(doing: &str, error: &rusqlite::Error) -> ! {
    tracing::error!(%error, "the store cannot {doing}: stopping, because what is on disk is unknown");
    eprintln!("mainstay: the store cannot {doing}: {error}: stopping, because what is on disk is unknown");
    std::process::abort()
}
