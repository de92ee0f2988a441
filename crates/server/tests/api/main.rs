//! The API server over a store of its own: what clients send, and what they must be answered.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod abuse;
mod auth;
mod bad_input_rows;
mod bad_inputs;
mod crud;
mod delete;
mod discovery;
mod harness;
mod list;
mod patch;
mod streams;
mod tls;
mod watch;
