//! All controllers against the real API server, in this process.
#![allow(clippy::unwrap_used)]

mod claims;
mod garbage;
mod harness;
mod namespaces;
mod statefulsets;
