//! The exec, attach and log protocols of the Kubernetes API: WebSocket v5 channels.
//!
//! [`accept`] answers an upgrade request and hands a [`Session`] to whoever runs the command. A session is used as it is, or
//! split into a [`Receiver`] and a [`Sender`] when input and output are moved by different tasks (so that a command that
//! does not read its input cannot keep its output from flowing).
//!
//! Bounds: a message of at most 1 MiB; output is sent in frames of at most 64 KiB, each flushed before the call returns, so
//! a slow client slows the command and no queue grows.

mod accept;
mod outcome;
mod session;

pub use accept::accept;
pub use outcome::Outcome;
pub use session::{Input, Receiver, Sender, Session};
