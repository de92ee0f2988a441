//! What every transport offers once it is upgraded: numbered streams, each with a half to read and a half to write.
//!
//! A transport has two tasks. The one that reads [`Table::deliver`]s what comes; the one that writes takes [`Order`]s and [`Notice`]s. Neither
//! SPDY as Kubernetes' clients speak it nor WebSocket has windows that both sides keep, so a stream whose reader is slow holds up its
//! connection once [`UNREAD_LIMIT_BYTES`] wait; what is written waits for the client, a few chunks at a time.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

/// What a client may have sent on a connection that nobody has read yet.
const UNREAD_LIMIT_BYTES: usize = 1 << 20;
/// What a waiting chunk costs beside its bytes.
const CHUNK_COST_BYTES: usize = 128;
/// Orders that wait to be written.
const ORDERS_LIMIT: usize = 8;
/// Notices that wait to be written; a client that causes more without reading is cut off.
const NOTICES_LIMIT: usize = 8192;
/// Bytes that were read before the client is told so.
const CONSUMED_STEP_BYTES: usize = 32 * 1024;
/// How long a client may take to close too, before the connection is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// To be written, in order, each waiting for the one before.
#[derive(Debug)]
pub(crate) enum Order {
    Data(u32, Bytes),
    Finish(u32),
    Close,
}

/// To be written before any [`Order`], by those who must not wait.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The stream is accepted.
    Accepted(u32),
    /// The stream is refused, or given up; SPDY's status.
    Reset(u32, u32),
    /// So much more was read of the stream.
    Consumed(u32, u32),
    /// An answer to a ping.
    Pong(u32),
    /// The client broke the protocol: say so and close.
    Broken,
}

/// The streams of one connection.
#[derive(Debug)]
pub(crate) struct Table {
    entries: Mutex<HashMap<u32, Entry>>,
    room: Arc<Semaphore>,
    orders: mpsc::Sender<Order>,
    notices: mpsc::Sender<Notice>,
    /// The client is gone, or is to be thought gone.
    gone: CancellationToken,
}

#[derive(Debug)]
struct Entry {
    /// `None`: the client has finished.
    chunks: Option<mpsc::UnboundedSender<Chunk>>,
    reset: CancellationToken,
    written: bool,
}

#[derive(Debug)]
struct Chunk {
    data: Bytes,
    _room: OwnedSemaphorePermit,
}

/// What the writing task takes from.
#[derive(Debug)]
pub(crate) struct Outgoing {
    orders: mpsc::Receiver<Order>,
    notices: mpsc::Receiver<Notice>,
    gone: CancellationToken,
}

/// What a client sends on one stream.
#[derive(Debug)]
pub struct Reader {
    id: u32,
    chunks: mpsc::UnboundedReceiver<Chunk>,
    table: Arc<Table>,
    reset: CancellationToken,
    unreported: usize,
}

/// What is sent to a client on one stream. Dropping it unfinished resets the stream.
#[derive(Debug)]
pub struct Writer {
    id: u32,
    table: Arc<Table>,
    reset: CancellationToken,
    finished: bool,
}

/// Both halves of a stream, and how it was introduced.
#[derive(Debug)]
pub(crate) struct Stream<H> {
    pub(crate) id: u32,
    pub(crate) headers: H,
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
}

impl Table {
    pub(crate) fn new() -> (Arc<Self>, Outgoing) {
        let ((orders, to_order), (notices, to_note)) = (mpsc::channel(ORDERS_LIMIT), mpsc::channel(NOTICES_LIMIT));
        let gone = CancellationToken::new();
        let table = Self { entries: Mutex::default(), room: Arc::new(Semaphore::new(UNREAD_LIMIT_BYTES)), orders, notices, gone: gone.clone() };
        (Arc::new(table), Outgoing { orders: to_order, notices: to_note, gone })
    }

    /// Adds a stream. On a connection that has ended it is one that has ended.
    pub(crate) fn open(self: &Arc<Self>, id: u32, finished: bool) -> (Reader, Writer) {
        let (sender, chunks) = mpsc::unbounded_channel();
        let reset = self.gone.child_token();
        let entry = Entry { chunks: (!finished).then_some(sender), reset: reset.clone(), written: false };
        if !self.gone.is_cancelled() {
            self.entries.lock().insert(id, entry);
        }
        let reader = Reader { id, chunks, table: self.clone(), reset: reset.clone(), unreported: 0 };
        (reader, Writer { id, table: self.clone(), reset, finished: false })
    }

    /// How many streams there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// Hands data to the stream's reader, waiting for room. What nobody reads is dropped.
    pub(crate) async fn deliver(&self, id: u32, data: Bytes) {
        let Some(chunks) = self.entries.lock().get(&id).and_then(|entry| entry.chunks.clone()) else { return };
        let cost = (data.len() + CHUNK_COST_BYTES).min(UNREAD_LIMIT_BYTES) as u32;
        tokio::select! {
            room = self.room.clone().acquire_many_owned(cost) => if let Ok(room) = room {
                let _ = chunks.send(Chunk { data, _room: room });
            },
            // Its reader has left, so there is no room to wait for.
            () = chunks.closed() => {}
        }
    }

    /// The client has finished a stream.
    pub(crate) fn finished(&self, id: u32) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get_mut(&id) {
            entry.chunks = None;
            if entry.written {
                entries.remove(&id);
            }
        }
    }

    /// The client has given up a stream.
    pub(crate) fn reset(&self, id: u32) {
        if let Some(entry) = self.entries.lock().remove(&id) {
            entry.reset.cancel();
        }
    }

    /// The client is gone.
    pub(crate) fn end(&self) {
        self.gone.cancel();
        self.entries.lock().clear();
    }

    /// Resolves when the client is gone.
    pub(crate) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// False: too much waits to be written.
    pub(crate) fn notify(&self, notice: Notice) -> bool {
        self.notices.try_send(notice).is_ok()
    }

    /// The writer has finished, or was dropped. Whether the client still knows the stream.
    fn written(&self, id: u32, aborted: bool) -> bool {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(&id) else { return false };
        entry.written = true;
        if aborted || entry.chunks.as_ref().is_none_or(mpsc::UnboundedSender::is_closed) {
            entries.remove(&id);
        }
        true
    }
}

impl Outgoing {
    /// What is to be written next, at least one thing, notices first: a stream's acceptance stands before its data because it was made before.
    /// Empty: the client is gone.
    pub(crate) async fn next(&mut self, orders: &mut Vec<Order>, notices: &mut Vec<Notice>) {
        let order = tokio::select! {
            biased;
            () = self.gone.cancelled() => None,
            Some(notice) = self.notices.recv() => {
                notices.push(notice);
                self.orders.try_recv().ok()
            }
            order = self.orders.recv() => order,
        };
        if let Some(order) = order {
            orders.push(order);
            while orders.len() < ORDERS_LIMIT && let Ok(order) = self.orders.try_recv() {
                orders.push(order);
            }
        }
        while let Ok(notice) = self.notices.try_recv() {
            notices.push(notice);
        }
    }

    /// Resolves when the client is gone.
    pub(crate) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }
}

impl Reader {
    /// What the client sends next; `None`: nothing more, because it finished, gave up or went. Cancel safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        let chunk = self.chunks.recv().await?;
        self.unreported += chunk.data.len();
        if self.unreported >= CONSUMED_STEP_BYTES && self.table.notify(Notice::Consumed(self.id, self.unreported as u32)) {
            self.unreported = 0;
        }
        Some(chunk.data)
    }

    /// Resolves when the client has given up the stream, or is gone; not when it has only finished sending.
    pub fn given_up(&self) -> CancellationToken {
        self.reset.clone()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.chunks.close();
        let mut entries = self.table.entries.lock();
        if entries.get(&self.id).is_some_and(|entry| entry.written) {
            entries.remove(&self.id);
        }
    }
}

impl Writer {
    /// Sends data, waiting for the client. Of an error the reason does not matter: nothing arrives any more.
    pub async fn write(&self, data: Bytes) -> io::Result<()> {
        if self.reset.is_cancelled() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.order(Order::Data(self.id, data)).await
    }

    /// Says that nothing more comes.
    pub async fn finish(mut self) -> io::Result<()> {
        self.finished = true;
        match self.table.written(self.id, false) {
            true => self.order(Order::Finish(self.id)).await,
            false => Ok(()),
        }
    }

    /// Nothing will be sent, and that needs not be said: the stream is one that only the client writes to.
    pub(crate) fn unused(mut self) {
        self.finished = true;
        self.table.written(self.id, false);
    }

    async fn order(&self, order: Order) -> io::Result<()> {
        tokio::select! {
            sent = self.table.orders.send(order) => sent.map_err(|_| io::ErrorKind::BrokenPipe.into()),
            () = self.reset.cancelled() => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished && self.table.written(self.id, true) {
            self.table.notify(Notice::Reset(self.id, crate::spdy::CANCEL));
        }
    }
}

/// A connection's tasks; dropping it ends them and the connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) table: Arc<Table>,
    pub(crate) tasks: [AbortHandle; 2],
}

impl Connection {
    /// Says goodbye once all is written, and waits a moment for the client to close too: a connection closed while the client still sends is
    /// reset, and that may take the last frames with it.
    pub(crate) async fn close(self) {
        if self.table.orders.send(Order::Close).await.is_ok() {
            // All before it is written first, however slowly the client reads.
            self.table.orders.closed().await;
            // A client that does not answer the close loses nothing: all was sent.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.table.gone.cancelled()).await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.table.end();
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}
