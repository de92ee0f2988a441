//! Real containers. Needs root, cgroups and /bin/busybox (package busybox-static).
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

#[path = "containers/confinement.rs"]
mod confinement;
#[path = "containers/lifecycle.rs"]
mod lifecycle;
#[path = "containers/streams.rs"]
mod streams;
