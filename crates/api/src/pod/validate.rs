//! What a pod may say (pkg/apis/core/validation/validation.go).

use crate::Errors;
use serde_json::Value;

pub(crate) fn pod(_pod: &Value, _errors: &mut Errors) {}
