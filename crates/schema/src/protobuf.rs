//! Decoding protobuf request bodies (`k8s\0` + `runtime.Unknown`). Answers are always JSON.

use serde_json::Value;

/// Why a body is not what it says it is.
#[derive(Debug, thiserror::Error)]
pub enum ProtobufError {
    /// The four magic bytes are missing.
    #[error("the body does not begin with the protobuf magic number")]
    Magic,
    /// A kind whose field numbers are not known.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    Unknown {
        /// As sent.
        api_version: String,
        /// As sent.
        kind: String,
    },
    /// Broken bytes.
    #[error("protobuf: {0}")]
    Malformed(String),
}

/// Decodes to the JSON form, `apiVersion` and `kind` included, default-valued fields omitted as Go's JSON would (`omitempty`).
pub fn decode(_body: &[u8]) -> Result<Value, ProtobufError> {
    todo!()
}
