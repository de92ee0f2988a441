//! Who is asking.

use std::sync::Arc;

/// A user, from a client certificate (CN, O), a ServiceAccount token, or, in process, from whoever made the service. Travels as a
/// request extension, never as a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `system:serviceaccount:default:default`, `mainstay-admin`, `system:anonymous`.
    pub user: Arc<str>,
    /// Groups: `system:masters` may do everything.
    pub groups: Vec<Arc<str>>,
    /// The uid of a ServiceAccount.
    pub uid: Option<Arc<str>>,
    /// What a token says beyond the user: `authentication.kubernetes.io/pod-name` …
    pub extra: Vec<(Arc<str>, Vec<Arc<str>>)>,
}
