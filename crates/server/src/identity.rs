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

impl Identity {
    /// A component of this installation, which may do everything: `system:kube-scheduler`.
    pub fn component(user: &str) -> Self {
        Self { user: user.into(), groups: vec!["system:masters".into(), "system:authenticated".into()], uid: None, extra: Vec::new() }
    }

    /// Nobody in particular.
    pub(crate) fn anonymous() -> Self {
        Self { user: "system:anonymous".into(), groups: vec!["system:unauthenticated".into()], uid: None, extra: Vec::new() }
    }

    /// Member of a group.
    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| **own == *group)
    }

    /// Has shown a credential.
    pub(crate) fn is_authenticated(&self) -> bool {
        self.is_in("system:authenticated") || self.is_in("system:masters")
    }
}
