//! The shared caches, one informer a kind, and the one place where typed objects are (de)serialized in bulk.
//!
//! Controllers, scheduler, node and DNS see the cluster only through [`Cluster`]: a `kube::Client`, in process or over TLS, with one
//! lazily started informer a kind that all of them share.

mod cache;
mod cluster;
mod events;

pub use cache::{Cache, Change};
pub use cluster::{Cluster, Error, Resource};
pub use events::{Recorder, Severity};
pub use k8s_openapi;
