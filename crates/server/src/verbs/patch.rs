//! PATCH: JSON, merge and strategic merge. Server-side apply is refused in words.

use crate::decode;
use crate::handler::{Answer, Call};
use crate::object;
use crate::rows::Row;
use crate::status::Failure;
use crate::verbs::update::{answer, check_name};
use crate::write::{self, Options, Part, Validation};
use mainstay_api::CauseReason;
use mainstay_patch::Error as PatchError;
use mainstay_schema::Type;
use serde_json::Value;

const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json";

/// What sort of patch a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Json,
    Merge,
    Strategic,
}

/// A patch, read once and applied as often as it takes.
pub(crate) struct Patch {
    sort: Sort,
    value: Value,
    text: String,
    limit_bytes: usize,
    validation: Validation,
    duplicates: Vec<String>,
}

/// Patches an object.
pub(crate) async fn patch(call: &Call<'_>, body: &[u8]) -> Answer {
    patch_part(call, body, Part::Whole).await
}

/// The same of a part.
pub(crate) async fn patch_part(call: &Call<'_>, body: &[u8], part: Part) -> Answer {
    let options = Options::parse(call.query, "PatchOptions")?;
    let patch = Patch::read(call, body, options.validation)?;
    let mut warnings = Vec::new();
    let outcome = write::modify(call, part, options, &mut warnings, |current, warnings| {
        let patched = patch.apply(current, call.row, warnings)?;
        check_name(call, &patched)?;
        let mut patched = patched;
        write::check_namespace(call, &mut patched)?;
        Ok(patched)
    })
    .await?;
    answer(call, outcome, &warnings)
}

impl Patch {
    /// Reads the body by its Content-Type.
    pub(crate) fn read(call: &Call<'_>, body: &[u8], validation: Validation) -> Result<Self, Failure> {
        let sort = match decode::essence(call.headers).as_deref() {
            Some("application/json-patch+json") => Sort::Json,
            Some("application/merge-patch+json") => Sort::Merge,
            Some("application/strategic-merge-patch+json") => Sort::Strategic,
            Some("application/apply-patch+yaml" | "application/apply-patch+cbor") => return Err(no_apply(call)),
            _ => return Err(Failure::unsupported_media_type(ACCEPTED)),
        };
        let decoded = decode::json(body).map_err(|why| Failure::bad_request(format!("error decoding patch: {why}")))?;
        if sort != Sort::Json && !decoded.value.is_object() {
            return Err(Failure::bad_request("error decoding patch: json: the patch is not an object"));
        }
        let text = String::from_utf8_lossy(&body[..body.len().min(1024)]).into_owned();
        let limit_bytes = call.server.config.body_limit_bytes;
        // In a JSON patch a path stands for a place; equal keys of its operations' values are found by the walk of the result alone.
        let duplicates = if sort == Sort::Json { Vec::new() } else { decoded.duplicates };
        Ok(Self { sort, value: decoded.value, text, limit_bytes, validation, duplicates })
    }

    /// The object that the patch makes of the current one, walked.
    pub(crate) fn apply(&self, current: &Value, row: &Row, warnings: &mut Vec<String>) -> Result<Value, Failure> {
        let mut patched = self.apply_raw(current, row.shape)?;
        object::name_kind_unless_changed(&patched, &row.api_version, row.kind.kind)?;
        let unknown = write::walk(row, &mut patched).map_err(|why| Failure::invalid_patch(&self.text, &why))?;
        let found = write::strict_errors(unknown, self.duplicates.clone());
        write::settle(self.validation, found, warnings).map_err(|why| Failure::invalid_patch(&self.text, &why))?;
        Ok(patched)
    }

    /// The same, of an object that is no row's: a Scale.
    pub(crate) fn apply_raw(&self, current: &Value, shape: Option<Type>) -> Result<Value, Failure> {
        let mut patched = current.clone();
        let result = match (self.sort, shape) {
            (Sort::Json, _) => mainstay_patch::json(&mut patched, &self.value, self.limit_bytes),
            (Sort::Merge, _) => mainstay_patch::merge(&mut patched, &self.value),
            (Sort::Strategic, Some(shape)) => mainstay_patch::strategic(&mut patched, &self.value, shape),
            (Sort::Strategic, None) => return Err(Failure::unsupported_media_type("application/json-patch+json, application/merge-patch+json")),
        };
        match result {
            Ok(()) if patched.is_object() => Ok(patched),
            Ok(()) => Err(Failure::invalid_patch(&self.text, "the result is not an object")),
            Err(PatchError::Malformed(message)) => Err(Failure::bad_request(message)),
            Err(PatchError::Unprocessable(message)) => Err(Failure::new(422, "Invalid", message)),
            Err(PatchError::TooLarge(message)) => Err(Failure::new(413, "RequestEntityTooLarge", message)),
        }
    }
}

/// Server-side apply comes later.
fn no_apply(call: &Call<'_>) -> Failure {
    if call.query.get("fieldManager").is_none() {
        let message = "Required value: is required for apply patch".to_owned();
        return Failure::invalid_option("PatchOptions", "fieldManager", CauseReason::Required, message);
    }
    Failure::new(
        415,
        "UnsupportedMediaType",
        format!("server-side apply is not supported yet; use client-side apply (kubectl apply without --server-side), or one of: {ACCEPTED}"),
    )
}
