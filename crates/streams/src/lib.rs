//! The exec, attach and log protocols of the Kubernetes API: WebSocket v5 channels.

use std::future::Future;

/// One connected client of an exec or attach. Channels as in `v5.channel.k8s.io`: 0 stdin, 1 stdout, 2 stderr, 3 error (a Status),
/// 4 resize, 255 close of a channel.
#[derive(Debug)]
pub struct Session {}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Stdin(bytes::Bytes),
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

/// How it ended, for the error channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0.
    Success,
    /// Reason `NonZeroExitCode`, cause `ExitCode`.
    ExitCode(i32),
    /// Reason `InternalError`, with words.
    Failure(String),
}

/// Answers an upgrade request with 101 and calls `serve` with the session once the connection is upgraded; answers what a client
/// expects (400, 403) when the request is no WebSocket upgrade or names no protocol known here: a client that wants SPDY gets a clear message.
pub fn accept<B, F, Fut>(_request: http::Request<B>, _serve: F) -> http::Response<String>
where
    F: FnOnce(Session) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    todo!()
}

impl Session {
    /// The next thing the client sent; answers pings by itself. Cancel safe.
    pub async fn receive(&mut self) -> Input {
        todo!()
    }
    /// Sends output on channel 1.
    pub async fn stdout(&mut self, _data: &[u8]) -> std::io::Result<()> {
        todo!()
    }
    /// Sends output on channel 2.
    pub async fn stderr(&mut self, _data: &[u8]) -> std::io::Result<()> {
        todo!()
    }
    /// Sends the outcome on channel 3 and closes.
    pub async fn finish(self, _outcome: Outcome) -> std::io::Result<()> {
        todo!()
    }
}
