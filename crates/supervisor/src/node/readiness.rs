//! Waiting for a descriptor that tokio has no type for.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers an owned descriptor.
pub fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: what is asked is that the descriptor stays the same open file until it is deregistered; an OwnedFd that is moved in is closed only by
    // AsyncFd's own drop, after deregistration.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}
