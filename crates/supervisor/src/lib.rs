//! The process that owns one container, and the way the node speaks with it.
//!
//! The node starts one supervisor a container from a sealed memfd; the supervisor makes the container with libcontainer, holds its standard streams,
//! writes its log, reaps it, and records its exit. It outlives the node, which finds it again by its directory.
//!
//! Two builds share this crate: the library with the feature `node` (what the node uses) and, with the feature `program`, the supervisor
//! itself, which `build.rs` makes and the library embeds. What both need stands in [`protocol`], [`cgroup`], [`crilog`] and [`process`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod cgroup;
pub mod crilog;
pub mod defaults;
pub mod process;
pub mod protocol;
pub mod types;
pub mod wire;

#[cfg(feature = "node")]
mod node;
#[cfg(feature = "node")]
mod pin;

#[cfg(feature = "node")]
pub use node::{Container, Containers, Execution, Streams};
#[cfg(feature = "node")]
pub use pin::{PinnedNamespaces, pin_namespaces, unpin_namespaces};
pub use types::{Error, Exec, Exit, Launch, Log};
