//! Clients that read a container's output as it comes and write its input, beside the log.

use crate::sys;
use mainstay_supervisor::crilog::Stream;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// What a client may lag behind before the container is made to wait for it.
pub const MAX_LAG: usize = 64 * 1024;
/// How long the container waits for a client that does not read at all; then the client goes.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Output that is held for the first client of an interactive container.
pub const MAX_REPLAY: usize = 64 * 1024;

/// The write end of a pipe to one client.
pub struct Sink {
    /// The pipe.
    pub fd: OwnedFd,
    lag: Vec<u8>,
    stalled: Option<Instant>,
}

impl Sink {
    /// Takes over a pipe.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        sys::set_nonblocking(&fd)?;
        Ok(Self { fd, lag: Vec::new(), stalled: None })
    }

    /// Whether something waits to be written.
    pub fn lags(&self) -> bool {
        !self.lag.is_empty()
    }

    /// Writes what can be written. False: the client is gone, or has not read for too long.
    pub fn push(&mut self, mut data: &[u8]) -> bool {
        if self.lag.is_empty() {
            match write(&self.fd, data) {
                Ok(written) => data = &data[written..],
                Err(_) => return false,
            }
        }
        self.lag.extend_from_slice(data);
        self.flush()
    }

    /// Writes what waits.
    pub fn flush(&mut self) -> bool {
        if self.lag.is_empty() {
            return true;
        }
        match write(&self.fd, &self.lag) {
            Err(_) => return false,
            Ok(0) => {
                let since = *self.stalled.get_or_insert_with(Instant::now);
                return since.elapsed() < PATIENCE;
            }
            Ok(written) => drop(self.lag.drain(..written)),
        }
        self.stalled = None;
        if self.lag.is_empty() {
            self.lag = Vec::new();
        }
        true
    }

    /// Whether the container has to wait for this client.
    pub fn is_full(&self) -> bool {
        self.lag.len() > MAX_LAG
    }
}

/// How much went; 0 if the pipe is full.
fn write(fd: &OwnedFd, data: &[u8]) -> io::Result<usize> {
    match nix::unistd::write(fd, data) {
        Ok(written) => Ok(written),
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => Ok(0),
        Err(errno) => Err(errno.into()),
    }
}

/// One attached client.
pub struct Attached {
    /// Where it writes the container's input.
    pub stdin: Option<OwnedFd>,
    /// Its standard output.
    pub stdout: Option<Sink>,
    /// Its standard error.
    pub stderr: Option<Sink>,
}

impl Attached {
    /// The sink of a stream.
    pub fn sink(&mut self, stream: Stream) -> &mut Option<Sink> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Hands output to it.
    pub fn push(&mut self, stream: Stream, data: &[u8]) {
        let sink = self.sink(stream);
        if sink.as_mut().is_some_and(|sink| !sink.push(data)) {
            *sink = None;
        }
    }

    /// Forgets streams whose reader is gone.
    pub fn drop_closed(&mut self) {
        for sink in [&mut self.stdout, &mut self.stderr] {
            if sink.as_ref().is_some_and(|sink| sys::is_closed(&sink.fd)) {
                *sink = None;
            }
        }
        if self.stdout.is_none() && self.stderr.is_none() {
            self.stdin = None;
        }
    }

    /// Writes what waits; the container `ended` if no more will come.
    pub fn flush(&mut self, ended: bool) {
        for sink in [&mut self.stdout, &mut self.stderr] {
            if sink.as_mut().is_some_and(|sink| !sink.flush() || (ended && !sink.lags())) {
                *sink = None;
            }
        }
    }

    /// Something waits to be read by it.
    pub fn lags(&self) -> bool {
        [&self.stdout, &self.stderr].into_iter().flatten().any(Sink::lags)
    }

    /// The container has to wait for it.
    pub fn is_full(&self) -> bool {
        [&self.stdout, &self.stderr].into_iter().flatten().any(Sink::is_full)
    }

    /// Nobody reads or writes any more.
    pub fn is_gone(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none() && self.stdin.is_none()
    }
}

/// The first output of an interactive container: `kubectl run -it` attaches after the container wrote its prompt.
#[derive(Default)]
pub struct Replay {
    pieces: Vec<(Stream, Vec<u8>)>,
    size: usize,
}

impl Replay {
    /// Keeps output. False: it is more than is ever held, and now all of it is dropped.
    pub fn keep(&mut self, stream: Stream, data: &[u8]) -> bool {
        self.size += data.len();
        if self.size > MAX_REPLAY {
            return false;
        }
        match self.pieces.last_mut() {
            Some((last, piece)) if *last == stream => piece.extend_from_slice(data),
            _ => self.pieces.push((stream, data.to_vec())),
        }
        true
    }

    /// Hands all of it to the first client.
    pub fn play(self, attached: &mut Attached) {
        for (stream, piece) in self.pieces {
            attached.push(stream, &piece);
        }
    }
}

/// What flows from clients into the container.
pub struct Input {
    /// The pipe, or a copy of the terminal.
    pub fd: OwnedFd,
    lag: Vec<u8>,
    /// Close it once what waits is written.
    pub closing: bool,
}

impl Input {
    /// Takes over the container's end.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        sys::set_nonblocking(&fd)?;
        Ok(Self { fd, lag: Vec::new(), closing: false })
    }

    /// Whether something waits to be written; then nothing more is taken from clients.
    pub fn lags(&self) -> bool {
        !self.lag.is_empty()
    }

    /// Writes to the container. False: it closed its input, or it is to be closed and all is written.
    pub fn push(&mut self, data: &[u8]) -> bool {
        self.lag.extend_from_slice(data);
        match write(&self.fd, &self.lag) {
            Err(_) => return false,
            Ok(written) => drop(self.lag.drain(..written)),
        }
        if self.lag.is_empty() {
            self.lag = Vec::new();
        }
        !(self.closing && self.lag.is_empty())
    }
}
