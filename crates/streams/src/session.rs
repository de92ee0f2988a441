//! An upgraded connection and its channels.

use crate::{Outcome, accept::Protocol};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt, stream};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Bytes of output in one frame.
const FRAME_BYTES: usize = 64 * 1024;

/// How long a client may take to answer our close frame before the connection is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// One connected client of an exec or attach. Channels as in `v5.channel.k8s.io`: 0 stdin, 1 stdout, 2 stderr, 3 error (a Status),
/// 4 resize, 255 close of a channel.
#[derive(Debug)]
pub struct Session {
    receiver: Receiver,
    sender: Sender,
}

/// The half that reads what the client sends.
#[derive(Debug)]
pub struct Receiver {
    socket: stream::SplitStream<Socket>,
    protocol: Protocol,
    gone: bool,
}

/// The half that writes to the client.
#[derive(Debug)]
pub struct Sender {
    socket: stream::SplitSink<Socket, Message>,
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Stdin(Bytes),
    /// End of standard input.
    StdinClosed,
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

impl Session {
    pub(crate) fn new(socket: Socket, protocol: Protocol) -> Self {
        let (sink, stream) = socket.split();
        Self { receiver: Receiver { socket: stream, protocol, gone: false }, sender: Sender { socket: sink } }
    }

    /// Both halves, for two tasks. The halves end the connection when both are dropped; [`Sender::finish`] with the receiver does it well.
    pub fn split(self) -> (Receiver, Sender) {
        (self.receiver, self.sender)
    }

    /// The next thing the client sent; answers pings by itself. Cancel safe.
    pub async fn receive(&mut self) -> Input {
        self.receiver.receive().await
    }

    /// Sends output on channel 1.
    pub async fn stdout(&mut self, data: &[u8]) -> io::Result<()> {
        self.sender.stdout(data).await
    }

    /// Sends output on channel 2.
    pub async fn stderr(&mut self, data: &[u8]) -> io::Result<()> {
        self.sender.stderr(data).await
    }

    /// Sends the outcome on channel 3 and closes.
    pub async fn finish(self, outcome: Outcome) -> io::Result<()> {
        self.sender.finish(self.receiver, outcome).await
    }
}

impl Receiver {
    /// The next thing the client sent; answers pings by itself. Cancel safe. After [`Input::Gone`] it answers `Gone` again.
    pub async fn receive(&mut self) -> Input {
        while !self.gone {
            match self.socket.next().await {
                Some(Ok(Message::Binary(frame))) => {
                    if let Some(input) = decode(&frame, self.protocol) {
                        return input;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => self.gone = true,
                // Reading on flushes the pong that tungstenite has queued for a ping. Text frames belong to protocols not spoken here.
                Some(Ok(_)) => {}
            }
        }
        Input::Gone
    }
}

impl Sender {
    /// Sends output on channel 1.
    pub async fn stdout(&mut self, data: &[u8]) -> io::Result<()> {
        self.output(STDOUT, data).await
    }

    /// Sends output on channel 2.
    pub async fn stderr(&mut self, data: &[u8]) -> io::Result<()> {
        self.output(STDERR, data).await
    }

    /// Sends the outcome on channel 3 and closes; waits a moment for the client to close too, so that the last frames are not
    /// cut off by a reset.
    pub async fn finish(mut self, mut receiver: Receiver, outcome: Outcome) -> io::Result<()> {
        self.frame(ERROR, outcome.status().to_string().as_bytes()).await?;
        // client-go takes any close but a normal one (1000) for an error, even after the outcome.
        let normal = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        self.socket.send(Message::Close(Some(normal))).await.map_err(into_io)?;
        let drained = async { while receiver.receive().await != Input::Gone {} };
        // A client that does not answer the close loses nothing: all was sent.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, drained).await;
        Ok(())
    }

    async fn output(&mut self, channel: u8, data: &[u8]) -> io::Result<()> {
        for chunk in data.chunks(FRAME_BYTES) {
            self.frame(channel, chunk).await?;
        }
        Ok(())
    }

    async fn frame(&mut self, channel: u8, data: &[u8]) -> io::Result<()> {
        let mut frame = BytesMut::with_capacity(data.len() + 1);
        frame.put_u8(channel);
        frame.put_slice(data);
        self.socket.send(Message::Binary(frame.freeze())).await.map_err(into_io)
    }
}

/// A client frame: its first byte names the channel. `None`: nothing that concerns a command.
fn decode(frame: &Bytes, protocol: Protocol) -> Option<Input> {
    let (&channel, data) = frame.split_first()?;
    match channel {
        // client-go sends an empty frame on each channel it opens; it says nothing.
        STDIN if data.is_empty() => None,
        STDIN => Some(Input::Stdin(frame.slice(1..))),
        RESIZE => {
            let size: serde_json::Value = serde_json::from_slice(data).ok()?;
            let side = |name| size.get(name).and_then(serde_json::Value::as_u64).and_then(|n| u16::try_from(n).ok());
            Some(Input::Resize { columns: side("Width")?, rows: side("Height")? })
        }
        CLOSE if protocol == Protocol::V5 && data == [STDIN] => Some(Input::StdinClosed),
        _ => None,
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::new(io::ErrorKind::BrokenPipe, other),
    }
}
