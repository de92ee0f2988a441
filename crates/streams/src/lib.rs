//! The exec, attach and port-forward protocols of the Kubernetes API.
//!
//! [`accept_command`] answers an upgrade request and hands a [`Session`] to whoever runs the command; [`accept_forwards`] hands [`Forwards`]
//! to whoever connects to the pod's ports. Below them lie two transports, WebSocket channels (`websocket`) and SPDY/3.1 (`spdy`: plain, or
//! tunnelled in a WebSocket), which both offer numbered streams (`mux`). `upgrade` chooses transport and protocol.
//!
//! Bounds: a message or control frame of at most 1 MiB or 64 KiB, a header block of 64 KiB, 1 MiB of input that nobody has read yet and eight
//! chunks of output (64 KiB each) a connection, 2,048 SPDY streams. A slow client slows the command, a slow command its client; no queue grows.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod command;
mod forward;
mod mux;
mod outcome;
mod spdy;
mod upgrade;
mod websocket;

pub use command::{Event, Events, Output, Session, Wanted, accept_command};
pub use forward::{Forward, Forwards, accept_forwards};
pub use mux::{Reader, Writer};
pub use outcome::Outcome;
pub use upgrade::{ACCEPTED_STREAM_PROTOCOLS, STREAM_PROTOCOL, asks_to_stream};
