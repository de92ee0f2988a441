//! A connection to a supervisor.

use crate::protocol::{Reply, Request};
use crate::wire;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One message a time, in order.
#[derive(Debug)]
pub struct Link {
    socket: AsyncFd<OwnedFd>,
}

impl Link {
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
        fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self { socket: super::readiness::register(socket, Interest::READABLE | Interest::WRITABLE)? })
    }

    pub fn connect(dir: &Path) -> io::Result<Self> {
        Self::new(wire::connect(dir, crate::protocol::SOCKET)?)
    }

    pub async fn send<T: Serialize>(&self, message: &T, fds: &[RawFd]) -> io::Result<()> {
        self.socket.async_io(Interest::WRITABLE, |socket| wire::send(socket, message, fds)).await
    }

    /// `None`: the supervisor closed the connection, or is gone.
    pub async fn receive<T: for<'de> Deserialize<'de>>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let received = self.socket.async_io(Interest::READABLE, |socket| wire::receive(socket)).await;
        match received {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            other => other,
        }
    }

    /// A request and its answer; `UnexpectedEof` if none comes.
    pub async fn ask(&self, request: &Request, fds: &[RawFd]) -> io::Result<(Reply, Vec<OwnedFd>)> {
        self.send(request, fds).await?;
        self.receive().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
