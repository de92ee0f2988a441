//! The shared caches, one informer a kind, and the one place where typed objects are (de)serialized in bulk.
//!
//! Controllers, scheduler, node and DNS see the cluster only through [`Cluster`]: a `kube::Client`, in process or over TLS, with one
//! lazily started informer a kind that all of them share.
//!
//! * [`cluster`](Cluster): requests, typed and plain, and the caches.
//! * [`cache`](Cache): the newest known state of one kind, its indexes, and who wants to hear of changes; `informer` keeps it current.
//! * [`resource`](Resource): the table of kinds.
//! * [`events`](Recorder): events with upstream's aggregation.
//! * [`selector`]: label selectors.
//! * [`fake`]: a small API in memory, for the tests of the crates that use this one.

mod backoff;
mod cache;
mod cluster;
mod error;
mod events;
pub mod fake;
mod informer;
mod lines;
mod resource;
pub mod selector;

pub use cache::{Cache, Change, Delta};
pub use cluster::{Cluster, PatchKind, Shared, encode_segment};
pub use error::Error;
pub use events::{Recorder, Severity};
pub use k8s_openapi;
pub use resource::{ROOT_CA, Resource, reference};
