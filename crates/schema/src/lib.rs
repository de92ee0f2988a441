//! What every object looks like: OpenAPI v3, pruning, merge keys, list types, protobuf field numbers.
//!
//! One compact table of facts (`facts.tsv`, written by `cargo xtask tables`: types, merge keys, list types, protobuf numbers) feeds the
//! walk, the patches and the protobuf decoder; the OpenAPI documents take structure and descriptions from `k8s-openapi`.

mod facts;
mod fill;
mod openapi;
mod protobuf;
mod quantity;
mod times;
mod types;
mod walk;
mod wire;

pub use fill::fill;
pub use openapi::{GroupVersion, Operation, document};
pub use protobuf::{decode as decode_protobuf, ProtobufError};
pub use types::{ListType, MergeStrategy, Type, TypeKind, root};
pub use walk::{Checked, Issue, check};
