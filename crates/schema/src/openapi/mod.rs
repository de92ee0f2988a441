//! The OpenAPI v3 documents that kubectl reads: generated on demand, kept by nobody here.
//!
//! kubectl looks up a kind's schema by `x-kubernetes-group-version-kind`, finds its path for `explain`, asks whether PATCH declares
//! `fieldValidation` before it leaves validation to the server, and takes merge keys for its three-way merge from the schemas.

mod kinds;
mod paths;
mod schemas;

use serde_json::{Map, Value, json};

/// One kind in a document, as the server serves it.
#[derive(Clone, Debug)]
pub struct Operation {
    /// `StatefulSet`.
    pub kind: &'static str,
    /// `statefulsets`.
    pub plural: &'static str,
    /// Namespaced or not.
    pub namespaced: bool,
    /// `status`, `scale`, …
    pub subresources: &'static [&'static str],
}

/// What one document describes.
#[derive(Clone, Debug)]
pub struct GroupVersion<'a> {
    /// Empty for core.
    pub group: &'a str,
    /// `v1`.
    pub version: &'a str,
    /// Kinds served in it.
    pub kinds: &'a [Operation],
}

/// The serialized document: components (with merge keys, list types, group-version-kind) and paths whose PATCH, POST and PUT
/// declare `fieldValidation`, `dryRun` and `fieldManager`. The same input gives the same bytes. Takes milliseconds and megabytes while it
/// runs: the caller keeps the (compressed) result.
pub fn document(gv: &GroupVersion<'_>) -> Vec<u8> {
    let mut paths = paths::Paths::new(gv);
    for operation in gv.kinds {
        paths.add(operation);
    }
    // Moved into place: `json!` would copy the largest parts.
    let mut document = Map::new();
    document.insert("openapi".to_owned(), json!("3.0.0"));
    document.insert("info".to_owned(), json!({"title": "Mainstay", "version": "unversioned"}));
    document.insert("paths".to_owned(), paths.into_value());
    document.insert("components".to_owned(), Value::Object(Map::from_iter([("schemas".to_owned(), schemas::components(gv))])));
    Value::Object(document).to_string().into_bytes()
}
