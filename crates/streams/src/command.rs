//! The streams of one command: of exec, of attach.

use crate::mux::{Connection, Reader, Stream, Table, Writer};
use crate::spdy::{self, Headers};
use crate::upgrade::{Protocols, Refused, negotiate, switch};
use crate::websocket::{self, Codec};
use crate::Outcome;
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Bytes of output in one frame.
const FRAME_BYTES: usize = 64 * 1024;
/// How long a SPDY client may take to open the streams it asked for; upstream's figure.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a terminal size.
const SIZE_LIMIT_BYTES: usize = 1024;

/// Channels of `*.channel.k8s.io`, by their numbers.
const STDIN: u32 = 0;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;
const ERROR: u32 = 3;
const RESIZE: u32 = 4;

/// Which streams a client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error; with a terminal there is none.
    pub stderr: bool,
    /// A terminal, whose size the client will tell.
    pub tty: bool,
}

/// One connected client of an exec or attach.
#[derive(Debug)]
pub struct Session {
    /// What the client sends to standard input, if it asked to; the end is the input's end.
    pub stdin: Option<Reader>,
    /// What else it tells.
    pub events: Events,
    /// What it is sent.
    pub output: Output,
}

/// What a client tells beside its input.
#[derive(Debug)]
pub struct Events {
    resize: Option<Reader>,
    buffer: BytesMut,
    gone: CancellationToken,
}

/// One such thing.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Terminal size.
    Resize {
        /// Width.
        columns: u16,
        /// Height.
        rows: u16,
    },
    /// The client is gone.
    Gone,
}

/// What a client is sent.
#[derive(Debug)]
pub struct Output {
    stdout: Option<Writer>,
    stderr: Option<Writer>,
    error: Writer,
    structured: bool,
    connection: Connection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    WebSocket(Codec),
    Spdy { resizes: bool },
}

/// A version of the command protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    transport: Transport,
    /// The outcome is a Status (v4 and later), not words.
    structured: bool,
}

const fn channels(base64: bool, half_close: bool, structured: bool) -> Version {
    Version { transport: Transport::WebSocket(Codec { base64, half_close }), structured }
}

const fn streams(resizes: bool, structured: bool) -> Version {
    Version { transport: Transport::Spdy { resizes }, structured }
}

const PROTOCOLS: Protocols<Version> = Protocols {
    websocket: &[
        ("v5.channel.k8s.io", channels(false, true, true)),
        ("v4.channel.k8s.io", channels(false, false, true)),
        ("v4.base64.channel.k8s.io", channels(true, false, true)),
        ("channel.k8s.io", channels(false, false, false)),
        ("base64.channel.k8s.io", channels(true, false, false)),
        ("", channels(false, false, false)),
    ],
    spdy: &[
        ("v5.channel.k8s.io", streams(true, true)),
        ("v4.channel.k8s.io", streams(true, true)),
        ("v3.channel.k8s.io", streams(true, false)),
        ("v2.channel.k8s.io", streams(false, false)),
        ("channel.k8s.io", streams(false, false)),
    ],
};

/// Answers an upgrade request of an exec or attach with 101 and calls `serve` with the session once its streams are there; answers what a
/// client expects (400, 403) when the request asks for no transport or names no protocol known here.
pub fn accept_command<B, F, Fut>(request: Request<B>, wanted: Wanted, serve: F) -> Response<String>
where
    F: FnOnce(Session) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let wanted = Wanted { stderr: wanted.stderr && !wanted.tty, ..wanted };
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Refused::bad("you must specify at least 1 of stdin, stdout, stderr").into_response();
    }
    match negotiate(request.headers(), &PROTOCOLS) {
        Err(refused) => refused.into_response(),
        Ok(agreed) => switch(request, agreed, move |io, version: Version| async move {
            let session = match version.transport {
                Transport::WebSocket(codec) => Some(over_websocket(io, codec, wanted, version.structured).await),
                Transport::Spdy { resizes } => over_spdy(io, wanted, resizes, version.structured).await,
            };
            if let Some(session) = session {
                serve(session).await;
            }
        }),
    }
}

async fn over_websocket(io: TokioIo<Upgraded>, codec: Codec, wanted: Wanted, structured: bool) -> Session {
    let (table, outgoing) = Table::new();
    let reader = |channel, wanted: bool| {
        wanted.then(|| {
            let (reader, writer) = table.open(channel, false);
            // Nothing is ever sent on it; the channel itself stays.
            writer.unused();
            reader
        })
    };
    let writer = |channel| table.open(channel, true).1;
    let (stdin, resize) = (reader(STDIN, wanted.stdin), reader(RESIZE, wanted.tty));
    let (stdout, stderr, error) = (wanted.stdout.then(|| writer(STDOUT)), wanted.stderr.then(|| writer(STDERR)), writer(ERROR));
    // The client learns that it is connected from an empty message on the first channel that it reads.
    let first = stdout.as_ref().or(stderr.as_ref()).unwrap_or(&error);
    let _ = first.write(Bytes::new()).await;
    let gone = table.gone();
    let connection = websocket::serve(websocket::socket(io).await, codec, table, outgoing);
    let events = Events { resize, buffer: BytesMut::new(), gone };
    Session { stdin, events, output: Output { stdout, stderr, error, structured, connection } }
}

fn stream_type(headers: &Headers) -> &str {
    headers.get("streamtype").unwrap_or_default()
}

/// `None`: the client did not open what it asked for.
async fn over_spdy(io: TokioIo<Upgraded>, wanted: Wanted, resizes: bool, structured: bool) -> Option<Session> {
    let admit = |headers: &Headers| matches!(stream_type(headers), "error" | "stdin" | "stdout" | "stderr" | "resize");
    let (connection, mut opened) = spdy::serve(spdy::plain(io), admit);
    let all = [("error", true), ("stdin", wanted.stdin), ("stdout", wanted.stdout), ("stderr", wanted.stderr), ("resize", wanted.tty && resizes)];
    let mut missing: Vec<&str> = all.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name).collect();
    let mut found: HashMap<&str, Stream<Headers>> = HashMap::new();
    let collected = tokio::time::timeout(STREAMS_TIMEOUT, async {
        while !missing.is_empty() {
            let stream = opened.recv().await?;
            // One that was not announced, or a second one, is dropped, and so reset.
            if let Some(at) = missing.iter().position(|name| *name == stream_type(&stream.headers)) {
                found.insert(missing.swap_remove(at), stream);
            }
        }
        Some(())
    });
    collected.await.ok()??;
    let mut reader = |name| {
        found.remove(name).map(|stream| {
            stream.writer.unused();
            stream.reader
        })
    };
    let (stdin, resize) = (reader("stdin"), reader("resize"));
    let mut writer = |name| found.remove(name).map(|stream| stream.writer);
    let (stdout, stderr, error) = (writer("stdout"), writer("stderr"), writer("error")?);
    let events = Events { resize, buffer: BytesMut::new(), gone: connection.table.gone() };
    Some(Session { stdin, events, output: Output { stdout, stderr, error, structured, connection } })
}

impl Events {
    /// The next event; after [`Event::Gone`] it is `Gone` again. Cancel safe.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(size) = self.size() {
                return size;
            }
            let Some(resize) = &mut self.resize else {
                self.gone.cancelled().await;
                return Event::Gone;
            };
            match resize.next().await {
                Some(data) if self.buffer.len() + data.len() <= SIZE_LIMIT_BYTES => self.buffer.extend_from_slice(&data),
                Some(_) => self.buffer.clear(),
                None => self.resize = None,
            }
        }
    }

    /// The next whole size in the buffer: `{"Width":80,"Height":24}`.
    fn size(&mut self) -> Option<Event> {
        loop {
            let end = self.buffer.iter().position(|byte| *byte == b'}')?;
            let text = self.buffer.split_to(end + 1);
            let Ok(size) = serde_json::from_slice::<serde_json::Value>(&text) else { continue };
            let side = |name| size.get(name).and_then(serde_json::Value::as_u64).and_then(|n| u16::try_from(n).ok());
            if let (Some(columns), Some(rows)) = (side("Width"), side("Height")) {
                return Some(Event::Resize { columns, rows });
            }
        }
    }
}

impl Output {
    /// Sends standard output; dropped if the client did not ask for it. It returns once there is room, so a slow client slows the command.
    pub async fn stdout(&self, data: Bytes) -> io::Result<()> {
        send(self.stdout.as_ref(), data).await
    }

    /// Sends standard error.
    pub async fn stderr(&self, data: Bytes) -> io::Result<()> {
        send(self.stderr.as_ref(), data).await
    }

    /// Sends the outcome and closes; waits a moment for the client to close too, so that the last frames are not cut off by a reset.
    pub async fn finish(self, outcome: Outcome) -> io::Result<()> {
        let Self { stdout, stderr, error, structured, connection } = self;
        for writer in [stdout, stderr].into_iter().flatten() {
            writer.finish().await?;
        }
        let words = if structured { Some(outcome.status().to_string()) } else { outcome.words() };
        if let Some(words) = words {
            error.write(words.into()).await?;
        }
        error.finish().await?;
        connection.close().await;
        Ok(())
    }
}

async fn send(writer: Option<&Writer>, mut data: Bytes) -> io::Result<()> {
    let Some(writer) = writer else { return Ok(()) };
    while !data.is_empty() {
        writer.write(data.split_to(data.len().min(FRAME_BYTES))).await?;
    }
    Ok(())
}
