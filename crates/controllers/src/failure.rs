//! Why a workload was left half way.

use crate::runner::Name;
use mainstay_client::Error;

/// Why a workload was left half way; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The API said no.
    #[error(transparent)]
    Api(#[from] Error),
    /// Nothing may be adopted.
    #[error(transparent)]
    Owner(#[from] crate::owners::Failure),
    /// The watch is behind; nothing was done.
    #[error("the caches have not yet seen what was written last")]
    Behind,
    /// The name of a new ReplicaSet is another's.
    #[error("a ReplicaSet {name} is there, with another template or owner")]
    Collision { name: Name },
}
