//! The revisioned, watchable, durable log of objects.
//!
//! One SQLite database in WAL mode holds an append-only log; an index in memory holds the newest revision of every
//! object as bytes, and a bounded window of recent events feeds the watchers. One writer thread groups commits: a
//! write is answered after the transaction that holds it is on disk. Nobody but the API server uses this crate.
//!
//! | file | what |
//! |---|---|
//! | `store.rs` | the public handle |
//! | `object.rs`, `watch.rs` | what is stored, and following it |
//! | `state.rs` | the index and the window of events: what readers see |
//! | `writer.rs` | the one thread that changes anything |
//! | `log.rs`, `record.rs` | the database file, and one record of it |
//! | `intern.rs` | one copy of each repeated string |

mod intern;
mod log;
mod object;
mod record;
mod state;
mod store;
mod watch;
mod writer;

pub use object::{Draft, Key, Meta, Object, Range};
pub use store::{Error, Options, Page, Store, Write, WriteError};
pub use watch::{Batch, Event, EventKind, Expired, Watch};
