//! Field errors, as upstream's `field.Error` prints them.

use serde_json::Value;

/// `details.causes[].reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CauseReason {
    /// `FieldValueRequired`: "Required value".
    Required,
    /// `FieldValueInvalid`: "Invalid value".
    Invalid,
    /// `FieldValueNotSupported`: "Unsupported value".
    NotSupported,
    /// `FieldValueForbidden`: "Forbidden".
    Forbidden,
    /// `FieldValueDuplicate`: "Duplicate value".
    Duplicate,
    /// `FieldValueNotFound`: "Not found".
    NotFound,
    /// `FieldValueTooLong`: "Too long".
    TooLong,
    /// `FieldValueTooMany`: "Too many".
    TooMany,
    /// `FieldValueTypeInvalid`.
    TypeInvalid,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Its sort.
    pub reason: CauseReason,
    /// Where: `spec.template.spec.containers[0].name`.
    pub field: String,
    /// The whole text after `field: `, e.g. `Invalid value: -1: must be greater than or equal to 0`.
    pub message: String,
}

/// Collected while validating; empty means valid.
#[derive(Debug, Default)]
pub struct Errors(pub Vec<Cause>);

impl Errors {
    /// `field: Required value[: detail]`.
    pub fn required(&mut self, field: impl Into<String>, detail: &str) {
        let message = if detail.is_empty() { "Required value".to_owned() } else { format!("Required value: {detail}") };
        self.push(CauseReason::Required, field, message);
    }

    /// `field: Invalid value: <value>: detail`.
    pub fn invalid(&mut self, field: impl Into<String>, value: &Value, detail: &str) {
        self.push(CauseReason::Invalid, field, format!("Invalid value: {value}: {detail}"));
    }

    /// `field: Unsupported value: <value>: supported values: "a", "b"`.
    pub fn not_supported(&mut self, field: impl Into<String>, value: &Value, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        self.push(CauseReason::NotSupported, field, format!("Unsupported value: {value}: supported values: {}", list.join(", ")));
    }

    /// `field: Forbidden: detail`.
    pub fn forbidden(&mut self, field: impl Into<String>, detail: &str) {
        self.push(CauseReason::Forbidden, field, format!("Forbidden: {detail}"));
    }

    /// `field: Duplicate value: <value>`.
    pub fn duplicate(&mut self, field: impl Into<String>, value: &Value) {
        self.push(CauseReason::Duplicate, field, format!("Duplicate value: {value}"));
    }

    /// Any other.
    pub fn push(&mut self, reason: CauseReason, field: impl Into<String>, message: String) {
        self.0.push(Cause { reason, field: field.into(), message });
    }
}

/// Admission said no: becomes a Status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status: 403, 404, 409, 422, 400, 500.
    pub code: u16,
    /// `Forbidden`, `NotFound`, …
    pub reason: &'static str,
    /// The message, without kubectl's prefix.
    pub message: String,
    /// For `Invalid`: the causes.
    pub causes: Vec<Cause>,
}
