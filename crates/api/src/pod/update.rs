//! What may change in a pod.

use crate::Errors;
use serde_json::Value;

pub(crate) fn validate(_new: &Value, _old: &Value, _errors: &mut Errors) {}

pub(crate) fn validate_status(_new: &Value, _old: &Value, _errors: &mut Errors) {}
