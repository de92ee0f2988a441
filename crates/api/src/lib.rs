//! What each kind means: one row a kind in `kinds/<group>.rs`; its defaults, validation and columns beside it.
//!
//! All hooks work on `serde_json::Value`: the schema walk has checked types and pruned unknown fields before, so a hook
//! reads what it needs and nothing is (de)serialized twice.

mod columns;
mod diff;
mod errors;
mod kind;
mod path;
mod pod;
mod selector;
mod time;
mod value;

pub mod kinds;
pub mod meta;
pub mod names;
pub mod quantity;

pub use errors::{Cause, CauseReason, Errors, Refusal};
pub use kind::{ALL_VERBS, Admission, Column, Convert, Field, Kind, Post, Scale, Scope, Settings, Subresource};
pub use path::Path;
pub use selector::text as selector_text;
