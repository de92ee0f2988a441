//! Against the real kernel, each test in network and mount namespaces of its own: nothing of the host is touched. Needs root.

#![allow(clippy::unwrap_used)]

mod rules;
mod sandboxes;
mod support;
