//! JSON, merge and strategic merge patches: pure, `Value` to `Value`.

use mainstay_schema::Type;
use serde_json::Value;

/// Why a patch cannot be applied. `Display` is the message a client sees.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 400: the patch is not a patch.
    #[error("{0}")]
    Malformed(String),
    /// 422: it is one, but does not fit this object (a JSON patch `test` that fails, a path that is not there).
    #[error("{0}")]
    Unprocessable(String),
    /// 413: past a stated limit.
    #[error("{0}")]
    TooLarge(String),
}

/// RFC 6902, at most 10,000 operations, the result never larger than `limit_bytes` serialized (checked while applying).
pub fn json(_object: &mut Value, _patch: &Value, _limit_bytes: usize) -> Result<(), Error> {
    todo!()
}

/// RFC 7386.
pub fn merge(_object: &mut Value, _patch: &Value) -> Result<(), Error> {
    todo!()
}

/// Kubernetes' strategic merge patch with `$patch`, `$setElementOrder`, `$retainKeys`, `$deleteFromPrimitiveList`.
pub fn strategic(_object: &mut Value, _patch: &Value, _ty: Type) -> Result<(), Error> {
    todo!()
}
