//! Events, with upstream's aggregation: the same event again within ten minutes raises `count` instead of adding an object; bounded, never blocking.

use k8s_openapi::api::core::v1::ObjectReference;

/// `type` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// `Normal`.
    Normal,
    /// `Warning`.
    Warning,
}

/// Writes events in the background. Cheap to clone. Past its bound (1,000 waiting) the oldest are dropped and counted in the log.
#[derive(Clone)]
pub struct Recorder {}

impl Recorder {
    /// Never blocks, never fails.
    pub fn record(&self, _about: ObjectReference, _severity: Severity, _reason: &str, _message: impl Into<String>) {
        todo!()
    }
    /// Returns when all that was recorded before is written.
    pub async fn flush(&self) {
        todo!()
    }
}
