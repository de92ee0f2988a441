//! JSON, merge and strategic merge patches: pure, `Value` to `Value`.

mod error;
mod json;
mod merge;
mod strategic;

pub use error::Error;
pub use json::json;
pub use merge::merge;
pub use strategic::strategic;
