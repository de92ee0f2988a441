//! What every object looks like: OpenAPI v3, pruning, merge keys, list types, protobuf field numbers.
//!
//! Structure and descriptions come from `k8s-openapi`'s `schemars` feature; merge keys and list types are a table of our
//! own; protobuf field numbers are a compact table of facts written by `cargo xtask tables`.

mod openapi;
mod protobuf;
mod types;
mod walk;

pub use openapi::{GroupVersion, Operation, document};
pub use protobuf::{decode as decode_protobuf, ProtobufError};
pub use types::{MergeStrategy, Type, TypeKind, root};
pub use walk::{Checked, Issue, check};
