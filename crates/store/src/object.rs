//! What is stored: a key, serialized bytes, and the small index entry beside them.

use bytes::Bytes;
use std::sync::Arc;

/// Names one object. `resource` is `<plural>` for the core group, else `<group>/<plural>`: `pods`, `apps/statefulsets`.
/// `namespace` is empty for cluster-scoped objects. Orders by resource, namespace, name: the order of a LIST.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Storage name of the kind.
    pub resource: Arc<str>,
    /// Namespace, or empty.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

/// A part of the key space: all of a resource, or one namespace of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Storage name of the kind.
    pub resource: Arc<str>,
    /// One namespace, or all.
    pub namespace: Option<Arc<str>>,
}

/// What selectors, garbage collection and preconditions need to know without reading the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.labels`, sorted by key.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// The kind's selectable fields beyond name and namespace, in the order of the kind's row.
    pub fields: Vec<Arc<str>>,
    /// `metadata.ownerReferences[].uid`.
    pub owners: Vec<Arc<str>>,
}

/// A serialized object with a hole where the digits of `metadata.resourceVersion` go. The writer fills the hole with the
/// revision it assigns, so an object is serialized once.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Everything before the digits, opening quote included.
    pub head: Vec<u8>,
    /// Everything after the digits, closing quote included.
    pub tail: Vec<u8>,
}

/// One revision of one object. Immutable and shared.
#[derive(Debug)]
pub struct Object {
    /// Its name.
    pub key: Key,
    /// The revision that wrote it: its resourceVersion.
    pub revision: u64,
    /// The serialized JSON object, resourceVersion included.
    pub bytes: Bytes,
    /// Its index entry.
    pub meta: Meta,
}
