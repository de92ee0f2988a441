//! What a service may say.

use crate::Errors;
use serde_json::Value;

pub(in super::super) fn validate(_service: &Value, _errors: &mut Errors) {}

pub(in super::super) fn validate_update(_new: &Value, _old: &Value, _errors: &mut Errors) {}
