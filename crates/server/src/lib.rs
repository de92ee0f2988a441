//! The API server: the only writer of the store.
//!
//! authentication → authorization → admission → the kind's row → store. One generic handler serves every kind.

mod config;
mod identity;
mod server;

pub use config::{Config, NodeEndpoints, Pki};
pub use identity::Identity;
pub use server::{Body, Local, Server};
