//! What a status may say (pkg/apis/batch/validation/validation.go, `validateJobStatus` and `ValidateJobStatusUpdate`): a job that is finished stays so.

use super::is;
use crate::value::Access;
use crate::{CauseReason, Errors, Path};
use serde_json::Value;

fn finished(job: &Value) -> bool {
    is(job, "Complete") || is(job, "Failed")
}

fn contradiction(errors: &mut Errors, detail: &str) {
    errors.push(CauseReason::Invalid, "status.conditions", format!("Invalid value: {detail}"));
}

pub(in super::super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let (status, path) = (new.at("status"), Path::new("status"));
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        errors.non_negative(path.at(field), status.int(field));
    }
    for (one, other) in [("Complete", "Failed"), ("Complete", "FailureTarget"), ("SuccessCriteriaMet", "Failed"), ("SuccessCriteriaMet", "FailureTarget")] {
        if is(new, one) && is(new, other) {
            contradiction(errors, &format!("cannot set {one}=True and {other}=true conditions"));
        }
    }
    for condition in ["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"] {
        if is(old, condition) && !is(new, condition) {
            contradiction(errors, &format!("cannot disable the {condition}=True condition"));
        }
    }
    if !finished(old) && finished(new) {
        newly_finished(new, errors);
    }
    for field in ["failed", "succeeded"] {
        let elastic = field == "succeeded" && new.text("spec.completionMode") == "Indexed";
        if !elastic && status.int(field).unwrap_or(0) < old.at("status").int(field).unwrap_or(0) {
            errors.invalid(path.at(field), &status.int(field).unwrap_or(0).into(), &format!("cannot decrease the {field} counter"));
        }
    }
    if old.has("status.completionTime") && status.at("completionTime") != old.at("status.completionTime") {
        errors.invalid(path.at("completionTime"), status.at("completionTime"), "field is immutable");
    }
}

fn newly_finished(new: &Value, errors: &mut Errors) {
    let (status, path) = (new.at("status"), Path::new("status"));
    if status.int("active").unwrap_or(0) > 0 {
        errors.invalid(path.at("active"), status.at("active"), "active>0 is invalid for finished job");
    }
    if !status.has("startTime") {
        errors.required(path.at("startTime"), "startTime is required for finished job");
    }
    let uncounted = status.at("uncountedTerminatedPods");
    if !uncounted.list("succeeded").is_empty() || !uncounted.list("failed").is_empty() {
        errors.invalid(path.at("uncountedTerminatedPods"), uncounted, "uncountedTerminatedPods needs to be empty for finished job");
    }
    if is(new, "Complete") && !status.has("completionTime") {
        errors.required(path.at("completionTime"), "completionTime is required for Complete jobs");
    }
    if !is(new, "Complete") && status.has("completionTime") {
        errors.invalid(path.at("completionTime"), status.at("completionTime"), "cannot set completionTime when there is no Complete=True condition");
    }
}
