//! One pod on this node: what is known of it, what to do next (pure), what to tell the API (pure), and the worker that does it.

pub(crate) mod events;
pub(crate) mod hooks;
pub(crate) mod launch;
pub(crate) mod reference;
pub(crate) mod restore;
pub(crate) mod sandbox;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod status_writer;
pub(crate) mod step;
pub(crate) mod stop;
pub(crate) mod worker;

#[cfg(test)]
mod tests;
