//! SPDY/3.1 as moby/spdystream speaks it, which is what Kubernetes' Go clients do: no windows, no priorities, headers only when a stream opens.
//!
//! The bytes come over the upgraded connection, or in the binary messages of a WebSocket (`SPDY/3.1+portforward.k8s.io`, KEP 4006).

mod dictionary;
mod frame;
mod headers;

use crate::mux::{Connection, Notice, Order, Outgoing, Stream, Table};
use bytes::{Bytes, BytesMut};
use frame::{Decoder, Encoder, Frame};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

pub(crate) use frame::CANCEL;
pub(crate) use headers::Headers;

/// Streams of one connection at once: a thousand forwarded connections.
const STREAMS_LIMIT: usize = 2048;
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// How long the last frames may take once the client is thought gone.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

type Io = TokioIo<Upgraded>;

/// Streams as clients open them.
pub(crate) type Opened = mpsc::UnboundedReceiver<Stream<Headers>>;

/// Whether a stream with such headers is wanted.
pub(crate) type Admit = fn(&Headers) -> bool;

/// Where bytes come from.
pub(crate) enum Source {
    Plain(ReadHalf<Io>),
    Tunnel(SplitStream<WebSocketStream<Io>>),
}

/// Where bytes go.
pub(crate) enum Target {
    Plain(WriteHalf<Io>),
    Tunnel(SplitSink<WebSocketStream<Io>, Message>),
}

/// Both directions of an upgraded connection.
pub(crate) fn plain(io: Io) -> (Source, Target) {
    let (read, write) = tokio::io::split(io);
    (Source::Plain(read), Target::Plain(write))
}

/// Both directions of a WebSocket.
pub(crate) fn tunnel(socket: WebSocketStream<Io>) -> (Source, Target) {
    let (sink, stream) = socket.split();
    (Source::Tunnel(stream), Target::Tunnel(sink))
}

impl Source {
    /// Adds what comes next; false: nothing more.
    async fn read(&mut self, into: &mut BytesMut) -> bool {
        match self {
            Self::Plain(read) => {
                into.reserve(READ_BYTES);
                matches!(read.read_buf(into).await, Ok(1..))
            }
            Self::Tunnel(stream) => loop {
                match stream.next().await {
                    Some(Ok(Message::Binary(data))) => {
                        into.extend_from_slice(&data);
                        return true;
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    _ => return false,
                }
            },
        }
    }
}

impl Target {
    async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::Plain(write) => {
                write.write_all(&bytes).await?;
                write.flush().await
            }
            Self::Tunnel(sink) => sink.send(Message::Binary(bytes)).await.map_err(io::Error::other),
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(write) => write.shutdown().await,
            Self::Tunnel(sink) => sink.send(crate::websocket::normal_close()).await.map_err(io::Error::other),
        }
    }
}

/// Starts serving streams.
pub(crate) fn serve((source, target): (Source, Target), admit: Admit) -> (Connection, Opened) {
    let (table, outgoing) = Table::new();
    let (opened, streams) = mpsc::unbounded_channel();
    let reading = tokio::spawn(read(source, table.clone(), admit, opened));
    let writing = tokio::spawn(write(target, outgoing));
    (Connection { table, tasks: [reading.abort_handle(), writing.abort_handle()] }, streams)
}

async fn read(mut source: Source, table: Arc<Table>, admit: Admit, opened: mpsc::UnboundedSender<Stream<Headers>>) {
    let (mut decoder, mut buffer, mut last) = (Decoder::new(), BytesMut::new(), 0);
    'connection: loop {
        loop {
            match decoder.next(&mut buffer) {
                Ok(Some(frame)) => {
                    if !take(frame, &table, admit, &opened, &mut last).await {
                        break 'connection;
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    table.notify(Notice::Broken);
                    break 'connection;
                }
            }
        }
        if !source.read(&mut buffer).await {
            break;
        }
    }
    table.end();
}

/// False: the client cannot be served any more.
async fn take(frame: Frame, table: &Arc<Table>, admit: Admit, opened: &mpsc::UnboundedSender<Stream<Headers>>, last: &mut u32) -> bool {
    match frame {
        Frame::Open { id, finished, headers } => {
            if id % 2 == 0 || id <= *last {
                return table.notify(Notice::Reset(id, frame::PROTOCOL_ERROR));
            }
            *last = id;
            if table.len() >= STREAMS_LIMIT || !admit(&headers) {
                return table.notify(Notice::Reset(id, frame::REFUSED_STREAM));
            }
            let (reader, writer) = table.open(id, finished);
            table.notify(Notice::Accepted(id)) && opened.send(Stream { id, headers, reader, writer }).is_ok()
        }
        Frame::Data { id, data } => {
            table.deliver(id, data).await;
            true
        }
        Frame::Finished(id) => {
            table.finished(id);
            true
        }
        Frame::Reset(id) => {
            table.reset(id);
            true
        }
        // Ours would be even, and we send none.
        Frame::Ping(id) => id % 2 == 0 || table.notify(Notice::Pong(id)),
        Frame::Other => true,
    }
}

async fn write(mut target: Target, mut outgoing: Outgoing) {
    let (mut encoder, mut orders, mut notices) = (Encoder::default(), Vec::new(), Vec::new());
    let gone = outgoing.gone();
    loop {
        outgoing.next(&mut orders, &mut notices).await;
        let mut out = BytesMut::new();
        let mut last = orders.is_empty() && notices.is_empty();
        for notice in notices.drain(..) {
            match notice {
                Notice::Accepted(id) => encoder.reply(id, &mut out),
                Notice::Reset(id, status) => frame::reset(id, status, &mut out),
                Notice::Consumed(id, bytes) => frame::window(id, bytes, &mut out),
                Notice::Pong(id) => frame::ping(id, &mut out),
                Notice::Broken => frame::go_away(0, 1, &mut out),
            }
        }
        for order in orders.drain(..) {
            match order {
                Order::Data(id, data) => frame::data(id, &data, false, &mut out),
                Order::Finish(id) => frame::data(id, &[], true, &mut out),
                Order::Close => {
                    frame::go_away(0, 0, &mut out);
                    last = true;
                }
            }
        }
        let writing = async {
            target.write(out.freeze()).await?;
            if last { target.close().await } else { Ok(()) }
        };
        let written = tokio::select! {
            written = writing => written,
            () = async { gone.cancelled().await; tokio::time::sleep(LAST_WORDS_TIMEOUT).await } => return,
        };
        if written.is_err() || last {
            return;
        }
    }
}
