//! The revisioned, watchable, durable log of objects.
//!
//! One SQLite database in WAL mode holds an append-only log; an index in memory holds the newest revision of every
//! object as bytes, and a bounded window of recent events feeds the watchers. One writer thread groups commits: a
//! write is answered after the transaction that holds it is on disk. Nobody but the API server uses this crate.

mod object;
mod store;
mod watch;

pub use object::{Draft, Key, Meta, Object, Range};
pub use store::{Error, Options, Page, Store, Write, WriteError};
pub use watch::{Batch, Event, EventKind, Expired, Watch};
