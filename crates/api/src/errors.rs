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

    /// `field: Too long: may not be more than <max> bytes`.
    pub fn too_long(&mut self, field: impl Into<String>, max: usize) {
        self.push(CauseReason::TooLong, field, format!("Too long: may not be more than {max} bytes"));
    }

    /// `field: Too many: <count>: must have at most <max> items`.
    pub fn too_many(&mut self, field: impl Into<String>, count: usize, max: usize) {
        self.push(CauseReason::TooMany, field, format!("Too many: {count}: must have at most {max} items"));
    }

    /// `field: Not found: <value>`.
    pub fn not_found(&mut self, field: impl Into<String>, value: &Value) {
        self.push(CauseReason::NotFound, field, format!("Not found: {value}"));
    }

    /// `field: Invalid value: <value>: detail`, of a text.
    pub fn invalid_text(&mut self, field: impl Into<String>, value: &str, detail: &str) {
        self.invalid(field, &Value::from(value), detail);
    }

    /// `invalid_text` when a rule on names says no.
    pub fn rule(&mut self, field: impl Into<String>, value: &str, rule: crate::names::Rule) {
        if let Err(detail) = rule(value) {
            self.invalid_text(field, value, &detail);
        }
    }

    /// One `invalid_text` for each thing that a rule on names finds.
    pub fn rules(&mut self, field: &crate::Path<'_>, value: &str, rule: fn(&str) -> Vec<String>) {
        for detail in rule(value) {
            self.invalid_text(field, value, &detail);
        }
    }

    /// Must not be negative, when it is set.
    pub fn non_negative(&mut self, field: impl Into<String>, value: Option<i64>) {
        if let Some(number) = value.filter(|n| *n < 0) {
            self.invalid(field, &number.into(), "must be greater than or equal to 0");
        }
    }

    /// One of the supported values; an empty one is the caller's business.
    pub fn one_of(&mut self, field: impl Into<String>, value: &str, supported: &[&str]) {
        if !supported.contains(&value) {
            self.not_supported(field, &value.into(), supported);
        }
    }

    /// Any other.
    pub fn push(&mut self, reason: CauseReason, field: impl Into<String>, message: String) {
        self.0.push(Cause { reason, field: field.into(), message });
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl Refusal {
    /// 403: `pods "db-0" is forbidden: <why>`. `resource` as in [`crate::Kind::resource`].
    pub fn forbidden(resource: &str, name: &str, why: &str) -> Self {
        Refusal { code: 403, reason: "Forbidden", message: format!("{resource} {name:?} is forbidden: {why}"), causes: Vec::new() }
    }

    /// 422, as validation says it: `Service "web" is invalid: spec.clusterIP: …`.
    pub fn invalid(kind: &str, name: &str, errors: Errors) -> Self {
        let all: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        let list = if all.len() == 1 { all.concat() } else { format!("[{}]", all.join(", ")) };
        Refusal { code: 422, reason: "Invalid", message: format!("{kind} {name:?} is invalid: {list}"), causes: errors.0 }
    }

    /// 409: `Operation cannot be fulfilled on pods/binding "db-0": <why>`.
    pub fn conflict(resource: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Refusal { code: 409, reason: "Conflict", message, causes: Vec::new() }
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
