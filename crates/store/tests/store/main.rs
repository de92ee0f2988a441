//! The store's promises, each as a test. One binary: the crash tests run it again as their victim.
#![allow(clippy::unwrap_used)]

mod basics;
mod bounds;
mod crash;
mod model;
mod support;
