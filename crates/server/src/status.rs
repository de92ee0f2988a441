//! Errors as clients see them: a `Status` with upstream's reasons and messages
//! (staging/src/k8s.io/apimachinery/pkg/api/errors/errors.go).

use crate::body::{self, Body};
use http::{HeaderValue, Response, StatusCode, header};
use mainstay_api::{Cause, CauseReason, Errors, Kind, Refusal};
use mainstay_store::{Expired, WriteError};
use serde_json::{Map, Value, json};

/// Why a request was not done. Boxed: the good path should not pay for it.
#[derive(Debug)]
pub(crate) struct Failure(Box<Parts>);

#[derive(Debug)]
struct Parts {
    code: u16,
    reason: &'static str,
    message: String,
    details: Map<String, Value>,
    /// A token that continues an expired list inconsistently.
    continue_token: Option<String>,
    /// `404 page not found`, for what is no path at all.
    plain: bool,
}

impl Failure {
    /// Any Status.
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Parts { code, reason, message: message.into(), details: Map::new(), continue_token: None, plain: false }))
    }

    /// 404 in plain text, as for a group or resource that is not served.
    pub(crate) fn no_such_path() -> Self {
        let mut failure = Self::new(404, "NotFound", "404 page not found\n");
        failure.0.plain = true;
        failure
    }

    /// 400.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403 in words of the caller.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", message)
    }

    /// 404 of one object.
    pub(crate) fn not_found(kind: &Kind, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} {name:?} not found", kind.resource())).about(kind.group, kind.plural, name)
    }

    /// 405.
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    /// 406.
    pub(crate) fn not_acceptable() -> Self {
        Self::new(406, "NotAcceptable", "only the following media types are accepted: application/json, application/yaml, application/json;stream=watch")
    }

    /// 409 of a name that is taken.
    pub(crate) fn already_exists(kind: &Kind, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} {name:?} already exists", kind.resource())).about(kind.group, kind.plural, name)
    }

    /// 409 of a stale write.
    pub(crate) fn stale(kind: &Kind, name: &str) -> Self {
        Self::conflict(kind, name, "the object has been modified; please apply your changes to the latest version and try again")
    }

    /// 409 in other words.
    pub(crate) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        Self::new(409, "Conflict", format!("Operation cannot be fulfilled on {} {name:?}: {why}", kind.resource())).about(kind.group, kind.plural, name)
    }

    /// 410 of a watch or an exact list.
    pub(crate) fn expired(expired: Expired) -> Self {
        Self::new(410, "Expired", expired.to_string())
    }

    /// 410 of a page, with a token that goes on at the newest revision.
    pub(crate) fn page_expired(continue_token: String) -> Self {
        let mut failure = Self::new(
            410,
            "Expired",
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the \
             continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with \
             the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the \
             first chunk was returned and now may show up in the list.",
        );
        failure.0.continue_token = Some(continue_token);
        failure
    }

    /// 413, with the limit.
    pub(crate) fn too_large(limit_bytes: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit_bytes}"))
    }

    /// 415, with what would be accepted.
    pub(crate) fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 422 with causes: `StatefulSet.apps "web" is invalid: [a, b]`.
    pub(crate) fn invalid(group: &str, kind: &str, name: &str, errors: &Errors) -> Self {
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let list: Vec<String> = errors.0.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let list = if list.len() == 1 { list.concat() } else { format!("[{}]", list.join(", ")) };
        let message = format!("{qualified} {name:?} is invalid: {list}");
        Self::new(422, "Invalid", message.trim_start().to_owned()).about(group, kind, name).with_causes(&errors.0)
    }

    /// 422 of a request's options: `CreateOptions.meta.k8s.io "" is invalid: …`.
    pub(crate) fn invalid_option(options: &str, field: &str, reason: CauseReason, message: String) -> Self {
        let mut errors = Errors::default();
        errors.push(reason, field, message);
        Self::invalid("meta.k8s.io", options, "", &errors)
    }

    /// 422 of a patch whose result cannot be read: upstream names neither kind nor object.
    pub(crate) fn invalid_patch(patch: &str, why: &str) -> Self {
        let mut errors = Errors::default();
        errors.push(CauseReason::Invalid, "patch", format!("Invalid value: {patch:?}: {why}"));
        Self::invalid("", "", "", &errors)
    }

    /// 500.
    pub(crate) fn internal(message: impl std::fmt::Display) -> Self {
        let mut failure = Self::new(500, "InternalError", format!("Internal error occurred: {message}"));
        failure.0.details.insert("causes".into(), json!([{"message": message.to_string()}]));
        failure
    }

    /// 504: a body that does not come.
    pub(crate) fn timeout() -> Self {
        Self::new(504, "Timeout", "Timeout: request did not complete within the allotted timeout")
    }

    /// 504: a revision that is not there yet.
    pub(crate) fn too_large_resource_version(requested: u64, current: u64) -> Self {
        let mut failure = Self::new(504, "Timeout", format!("Timeout: Too large resource version: {requested}, current: {current}")).retry_after(1);
        failure.0.details.insert("causes".into(), json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]));
        failure
    }

    /// 429: too many requests in flight.
    pub(crate) fn too_many_requests() -> Self {
        Self::new(429, "TooManyRequests", "too many requests, please try again later").retry_after(1)
    }

    /// What a write that changed nothing means to the client.
    pub(crate) fn from_write(error: WriteError, kind: &Kind, name: &str) -> Self {
        match error {
            WriteError::Exists(_) => Self::already_exists(kind, name),
            WriteError::NotFound => Self::not_found(kind, name),
            WriteError::Conflict(_) => Self::stale(kind, name),
            WriteError::TooLarge { size, limit } => {
                Self::new(413, "RequestEntityTooLarge", format!("{} {name:?} is too large: {size} bytes, limit is {limit}", kind.resource()))
            }
            WriteError::Full => Self::new(507, "InternalError", WriteError::Full.to_string()),
            WriteError::Closed => Self::new(503, "ServiceUnavailable", "the server is shutting down").retry_after(1),
        }
    }

    /// What admission or a subresource's hook said.
    pub(crate) fn from_refusal(refusal: Refusal, kind: &Kind, name: &str) -> Self {
        let named = if refusal.reason == "Invalid" { kind.kind } else { kind.plural };
        Self::new(refusal.code, refusal.reason, refusal.message).about(kind.group, named, name).with_causes(&refusal.causes)
    }

    /// Adds `details.retryAfterSeconds` and the header.
    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.0.details.insert("retryAfterSeconds".into(), seconds.into());
        self
    }

    /// Adds one cause.
    pub(crate) fn with_cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        self.0.details.insert("causes".into(), json!([{"reason": reason, "message": message, "field": field}]));
        self
    }

    /// Names the object in `details`.
    pub(crate) fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        for (key, value) in [("group", group), ("kind", kind), ("name", name)] {
            if !value.is_empty() {
                self.0.details.insert(key.into(), value.into());
            }
        }
        self
    }

    fn with_causes(mut self, causes: &[Cause]) -> Self {
        if !causes.is_empty() {
            let causes = causes.iter().map(|c| json!({"reason": reason_text(c.reason), "message": c.message, "field": c.field})).collect();
            self.0.details.insert("causes".into(), Value::Array(causes));
        }
        self
    }

    /// The HTTP status.
    pub(crate) fn code(&self) -> u16 {
        self.0.code
    }

    /// The message.
    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// The Status object, as it also stands in a watch's ERROR event.
    pub(crate) fn status(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(token) = &self.0.continue_token {
            metadata.insert("continue".into(), token.as_str().into());
        }
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": self.0.message, "reason": self.0.reason, "code": self.0.code,
        });
        // Some clients index into `details` of these without looking whether it is there.
        if !self.0.details.is_empty() || matches!(self.0.code, 405 | 422) {
            status["details"] = Value::Object(self.0.details.clone());
        }
        status
    }

    /// The answer.
    pub(crate) fn into_response(self) -> Response<Body> {
        let (media_type, bytes) = if self.0.plain {
            ("text/plain; charset=utf-8", self.0.message.clone().into_bytes())
        } else {
            ("application/json", self.status().to_string().into_bytes())
        };
        let mut response = Response::new(body::full(bytes));
        *response.status_mut() = StatusCode::from_u16(self.0.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        if let Some(seconds) = self.0.details.get("retryAfterSeconds").and_then(Value::as_u64) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.0.code == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// `details.causes[].reason`.
fn reason_text(reason: CauseReason) -> &'static str {
    match reason {
        CauseReason::Required => "FieldValueRequired",
        CauseReason::Invalid => "FieldValueInvalid",
        CauseReason::NotSupported => "FieldValueNotSupported",
        CauseReason::Forbidden => "FieldValueForbidden",
        CauseReason::Duplicate => "FieldValueDuplicate",
        CauseReason::NotFound => "FieldValueNotFound",
        CauseReason::TooLong => "FieldValueTooLong",
        CauseReason::TooMany => "FieldValueTooMany",
        CauseReason::TypeInvalid => "FieldValueTypeInvalid",
    }
}

/// `Status` of a deed done: what DELETE of most kinds and `binding` answer.
pub(crate) fn success(kind: &Kind, name: &str, uid: &str) -> Value {
    let mut details = Map::new();
    for (key, value) in [("name", name), ("group", kind.group), ("kind", kind.plural), ("uid", uid)] {
        if !value.is_empty() {
            details.insert(key.into(), value.into());
        }
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
