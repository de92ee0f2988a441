//! One walk over an incoming object: types checked, unknown fields found and pruned, nulls dropped.

use crate::Type;
use serde_json::Value;

/// What the walk found, beyond a value that is now clean.
#[derive(Debug, Default)]
pub struct Checked {
    /// Paths of unknown fields, as upstream writes them: `spec.template.spec.containers[0].imagee`. They have been pruned.
    pub unknown: Vec<String>,
}

/// A value that cannot be read as its type. The message is the one a client expects of a 400:
/// `json: cannot unmarshal string into Go struct field StatefulSetSpec.spec.replicas of type int32`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct Issue {
    /// The whole message.
    pub message: String,
    /// The field's path.
    pub path: String,
}

/// Checks and cleans in place. Canonicalises quantities (`1024Mi` stays as written by its suffix rules upstream: `1Gi`), drops nulls.
pub fn check(_ty: Type, _value: &mut Value) -> Result<Checked, Issue> {
    todo!()
}
