//! The table of kinds.

use crate::Kind;

/// Every kind that is served, in the order of `kubectl api-resources`.
pub fn all() -> &'static [&'static Kind] {
    &[]
}

/// The row of a kind, by group, version and plural.
pub fn by_plural(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    all().iter().copied().find(|k| k.group == group && k.version == version && k.plural == plural)
}
