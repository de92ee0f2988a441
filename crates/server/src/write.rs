//! The write pipeline, the same for every kind: decode → one schema walk → defaults → admission → validation → one serialization →
//! the store, which fills in the resourceVersion.

use crate::decode::{self, MediaType};
use crate::handler::Call;
use crate::object::{self, metadata_mut};
use crate::route::Query;
use crate::rows::Row;
use crate::status::Failure;
use crate::view::View;
use crate::{namespaces, verbs};
use mainstay_api::{CauseReason, Errors, meta};
use mainstay_store::{Object, Write, WriteError};
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// How often a write that lost a race is done again on what is there now.
const ATTEMPTS: usize = 32;

/// What becomes of unknown and duplicate fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validation {
    Ignore,
    Warn,
    Strict,
}

/// The options that every write has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) dry_run: bool,
    pub(crate) validation: Validation,
}

impl Options {
    /// `kind` is what the messages name: `CreateOptions`.
    pub(crate) fn parse(query: &Query<'_>, kind: &str) -> Result<Self, Failure> {
        let unsupported = |field: &str, value: &str, supported: &str| {
            let message = format!("Unsupported value: {value:?}: supported values: {supported}");
            Err(Failure::invalid_option(kind, field, CauseReason::NotSupported, message))
        };
        for value in query.all("dryRun") {
            if value != "All" {
                return unsupported("dryRun", value, "\"All\"");
            }
        }
        let validation = match query.get("fieldValidation") {
            None | Some("Warn") => Validation::Warn,
            Some("Strict") => Validation::Strict,
            Some("Ignore") => Validation::Ignore,
            Some(other) => return unsupported("fieldValidation", other, "\"\", \"Ignore\", \"Strict\", \"Warn\""),
        };
        Ok(Self { dry_run: query.all("dryRun").next().is_some(), validation })
    }
}

/// A body that should be an object of this kind: decoded, told apart from other kinds, walked.
pub(crate) fn decode_object(call: &Call<'_>, body: &[u8], validation: Validation, warnings: &mut Vec<String>) -> Result<Value, Failure> {
    let (row, kind) = (call.row, call.row.kind);
    let media_type = MediaType::of(call.headers)?;
    let mut decoded = decode::decode(body, media_type).map_err(|why| unrecognized(kind.kind, &why, body))?;
    check_kind(&mut decoded.value, &row.api_version, kind.kind, kind.version, body)?;
    let unknown = walk(row, &mut decoded.value).map_err(|why| cannot_be_handled(kind.kind, kind.version, &why))?;
    let found = strict_errors(unknown, decoded.duplicates);
    settle(validation, found, warnings).map_err(|why| cannot_be_handled(kind.kind, kind.version, &why))?;
    Ok(decoded.value)
}

/// Types and unknown fields; prunes. `Err`: what does not fit its type.
pub(crate) fn walk(row: &Row, value: &mut Value) -> Result<Vec<String>, String> {
    match row.shape {
        Some(shape) => mainstay_schema::check(shape, value).map(|checked| checked.unknown).map_err(|issue| issue.message),
        None => Ok(Vec::new()),
    }
}

/// `unknown field "spec.x"`, `duplicate field "spec.y"`.
pub(crate) fn strict_errors(unknown: Vec<String>, duplicates: Vec<String>) -> Vec<String> {
    let unknown = unknown.into_iter().map(|path| format!("unknown field {path:?}"));
    unknown.chain(duplicates.into_iter().map(|path| format!("duplicate field {path:?}"))).collect()
}

/// Warns, ignores, or refuses with the whole text.
pub(crate) fn settle(validation: Validation, found: Vec<String>, warnings: &mut Vec<String>) -> Result<(), String> {
    match validation {
        Validation::Strict if !found.is_empty() => Err(format!("strict decoding error: {}", found.join(", "))),
        Validation::Warn => {
            warnings.extend(found);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn cannot_be_handled(kind: &str, version: &str, why: &str) -> Failure {
    Failure::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
}

/// A body that is no object at all, with its first bytes (apiserver pkg/endpoints/handlers/rest.go, `transformDecodeError`).
fn unrecognized(kind: &str, why: &str, body: &[u8]) -> Failure {
    let start: String = match body {
        [] => "<empty>".to_owned(),
        _ => body.iter().take(30).map(|byte| format!("{byte:02x}")).collect::<String>() + if body.len() > 30 { " ..." } else { "" },
    };
    Failure::bad_request(format!("the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {why} ({start})"))
}

/// `apiVersion` and `kind` must be the URL's, or are filled in from it.
pub(crate) fn check_kind(value: &mut Value, api_version: &str, kind: &str, version: &str, body: &[u8]) -> Result<(), Failure> {
    let shape = match value {
        Value::Object(_) => None,
        Value::Null => Some("null"),
        Value::Array(_) => Some("array"),
        Value::String(_) => Some("string"),
        Value::Number(_) => Some("number"),
        Value::Bool(_) => Some("bool"),
    };
    if let Some(shape) = shape {
        return Err(unrecognized(kind, &format!("json: cannot unmarshal {shape} into Go value of type struct {{ APIVersion string; Kind string }}"), body));
    }
    let said = |field: &str| match value.get(field) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(unrecognized(kind, &format!("json: cannot unmarshal field {field} into Go struct field of type string"), body)),
    };
    let (said_version, said_kind) = (said("apiVersion")?, said("kind")?);
    if !said_version.is_empty() && said_version != api_version {
        return Err(Failure::bad_request(format!("the API version in the data ({said_version}) does not match the expected API version ({api_version})")));
    }
    if !said_kind.is_empty() && said_kind != kind {
        let why = format!("converting ({said_kind}) to ({kind}): unknown conversion");
        return Err(Failure::bad_request(format!("{said_kind} in version {version:?} cannot be handled as a {kind}: {why}")));
    }
    object::name_kind(value, api_version, kind);
    Ok(())
}

/// The namespace of the body must be the URL's, or is filled in from it.
pub(crate) fn check_namespace(call: &Call<'_>, value: &mut Value) -> Result<(), Failure> {
    let said = object::meta_text(value, "namespace");
    match call.namespace {
        Some(namespace) if said.is_empty() => {
            let namespace = namespace.to_owned();
            metadata_mut(value).insert("namespace".into(), namespace.into());
            Ok(())
        }
        Some(namespace) if said == namespace => Ok(()),
        None if said.is_empty() => Ok(()),
        _ => Err(Failure::bad_request("the namespace of the provided object does not match the namespace sent on the request")),
    }
}

/// Waits for this row's turn, where writes of its kind go one at a time.
pub(crate) async fn turn(row: &Row) -> Option<OwnedMutexGuard<()>> {
    match &row.turn {
        Some(turn) => Some(turn.clone().lock_owned().await),
        None => None,
    }
}

/// 422 if there is anything.
pub(crate) fn reject(row: &Row, name: &str, errors: &Errors) -> Result<(), Failure> {
    if errors.0.is_empty() { Ok(()) } else { Err(Failure::invalid(row.kind.group, row.kind.kind, name, errors)) }
}

/// Which part of an object a write may touch, and by which rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but status.
    Whole,
    /// `status`, labels, annotations and finalizers.
    Status,
    /// A subresource's hook, which is its own rule (`binding`, `finalize`).
    Hook,
}

/// How a modification ended.
pub(crate) enum Outcome {
    /// Written, or already so.
    Stored(Arc<Object>),
    /// Not written: a dry run.
    Dry(Value),
}

/// Reads, proposes, checks, writes; again on what is there now when another write came between. `propose` gets the current state.
pub(crate) async fn modify(
    call: &Call<'_>,
    part: Part,
    options: Options,
    warnings: &mut Vec<String>,
    mut propose: impl FnMut(&Value, &mut Vec<String>) -> Result<Value, Failure>,
) -> Result<Outcome, Failure> {
    let (server, row, kind) = (call.server, call.row, call.row.kind);
    let key = object::key(row, call.namespace.unwrap_or(""), call.name);
    let _turn = turn(row).await;
    for attempt in 1.. {
        let stored = server.store.get(&key).ok_or_else(|| Failure::not_found(kind, call.name))?;
        let mut current = object::read(row, &stored)?;
        // One that an earlier version wrote must not look changed.
        object::complete(row, &mut current);
        let mut said = Vec::new();
        let mut proposed = propose(&current, &mut said)?;
        check_preconditions(call, &current, &proposed, stored.revision)?;
        match part {
            Part::Whole => prepare_whole(call, &mut proposed, &current)?,
            Part::Status => prepare_status(call, &mut proposed, &current)?,
            Part::Hook => object::complete(row, &mut proposed),
        }
        *warnings = said;
        if part == Part::Whole {
            warnings.extend((kind.warnings)(&proposed));
        }
        if proposed == current {
            return Ok(Outcome::Stored(stored));
        }
        if options.dry_run {
            return Ok(Outcome::Dry(object::dry(row, proposed, Some(stored.revision))));
        }
        let remove = removable(row, &proposed, &current);
        let (draft, meta) = object::draft(row, proposed);
        let write = match remove {
            true => Write::Delete { key: key.clone(), expected: stored.revision, draft },
            false => Write::Update { key: key.clone(), expected: stored.revision, draft, meta },
        };
        match server.store.write(write).await {
            Ok(object) => return Ok(Outcome::Stored(object)),
            Err(WriteError::Conflict(_)) if attempt < ATTEMPTS => {}
            Err(error) => return Err(Failure::from_write(error, kind, call.name)),
        }
    }
    unreachable!("the loop returns at the last attempt")
}

/// A resourceVersion or uid in the proposal must be the current one. Without a resourceVersion the write is unconditional.
fn check_preconditions(call: &Call<'_>, current: &Value, proposed: &Value, revision: u64) -> Result<(), Failure> {
    let (wanted, actual) = (object::meta_text(proposed, "uid"), object::meta_text(current, "uid"));
    if !wanted.is_empty() && wanted != actual {
        let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {actual}");
        return Err(Failure::conflict(call.row.kind, call.name, &why));
    }
    match object::meta_text(proposed, "resourceVersion") {
        "" | "0" => Ok(()),
        text => match text.parse::<u64>() {
            Ok(wanted) if wanted == revision => Ok(()),
            Ok(_) => Err(Failure::stale(call.row.kind, call.name)),
            Err(_) => Err(verbs::invalid_resource_version(text)),
        },
    }
}

/// An update of all but status.
fn prepare_whole(call: &Call<'_>, proposed: &mut Value, current: &Value) -> Result<(), Failure> {
    let (row, kind) = (call.row, call.row.kind);
    keep_metadata(proposed, current);
    if kind.status {
        keep(proposed, current, "status");
    }
    (kind.default)(proposed);
    (kind.prepare_update)(proposed, current);
    (kind.admit)(proposed, Some(current), &View(call.server)).map_err(|refusal| Failure::from_refusal(refusal, kind, call.name))?;
    object::complete(row, proposed);
    let generation = object::metadata(current).get("generation").and_then(Value::as_i64);
    let metadata = metadata_mut(proposed);
    match generation {
        Some(generation) if kind.generation => metadata.insert("generation".into(), generation.into()),
        _ => metadata.remove("generation"),
    };
    if kind.generation && wish_changed(proposed, current) {
        metadata_mut(proposed).insert("generation".into(), (generation.unwrap_or(0) + 1).into());
    }
    let mut errors = Errors::default();
    meta::validate_object_meta(proposed, kind, &mut errors);
    meta::validate_object_meta_update(proposed, current, &mut errors);
    (kind.validate)(proposed, &mut errors);
    (kind.validate_update)(proposed, current, &mut errors);
    reject(row, call.name, &errors)
}

/// Anything but metadata and status differs.
fn wish_changed(new: &Value, old: &Value) -> bool {
    let (Value::Object(new), Value::Object(old)) = (new, old) else { return new != old };
    let wish = |key: &&String| !matches!(key.as_str(), "metadata" | "status");
    new.keys().chain(old.keys()).filter(wish).any(|key| new.get(key) != old.get(key))
}

/// An update of status: everything else is the current object's.
fn prepare_status(call: &Call<'_>, proposed: &mut Value, current: &Value) -> Result<(), Failure> {
    let kind = call.row.kind;
    let mut next = current.clone();
    next["status"] = proposed["status"].take();
    for field in ["labels", "annotations", "finalizers"] {
        let said = object::metadata(proposed).get(field).cloned();
        let metadata = metadata_mut(&mut next);
        match said {
            Some(value) => metadata.insert(field.into(), value),
            None => metadata.remove(field),
        };
    }
    if next["status"].is_null() {
        next["status"] = serde_json::json!({});
    }
    *proposed = next;
    (kind.default)(proposed);
    (kind.prepare_status)(proposed, current);
    object::complete(call.row, proposed);
    let mut errors = Errors::default();
    meta::validate_object_meta(proposed, kind, &mut errors);
    meta::validate_object_meta_update(proposed, current, &mut errors);
    (kind.validate_status)(proposed, current, &mut errors);
    reject(call.row, call.name, &errors)
}

/// What a client may leave out but not change is filled in; what is the server's is restored.
fn keep_metadata(proposed: &mut Value, current: &Value) {
    let current = object::metadata(current);
    let metadata = metadata_mut(proposed);
    for field in ["name", "namespace", "uid", "creationTimestamp", "generateName"] {
        if let Some(value) = current.get(field)
            && metadata.get(field).is_none_or(|own| own.is_null() || own == "")
        {
            metadata.insert(field.into(), value.clone());
        }
    }
    // Once an object is being deleted nothing takes that back.
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        match current.get(field) {
            Some(value) => metadata.insert(field.into(), value.clone()),
            None if metadata.get(field).is_some_and(Value::is_null) => metadata.remove(field),
            None => None,
        };
    }
    for field in ["managedFields", "selfLink"] {
        metadata.remove(field);
    }
    match current.get("resourceVersion") {
        Some(value) => metadata.insert("resourceVersion".into(), value.clone()),
        None => metadata.remove("resourceVersion"),
    };
    metadata.retain(|_, value| !value.is_null());
}

fn keep(proposed: &mut Value, current: &Value, field: &str) {
    if let Value::Object(map) = proposed {
        match current.get(field) {
            Some(value) => map.insert(field.to_owned(), value.clone()),
            None => map.remove(field),
        };
    }
}

/// An update that takes away the last thing that held a deleted object removes it (registry/store.go, `ShouldDeleteDuringUpdate`).
fn removable(row: &Row, next: &Value, current: &Value) -> bool {
    let graceless = object::metadata(current).get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0) == 0;
    object::metadata(current).get("deletionTimestamp").is_some()
        && graceless
        && object::meta_list(next, "finalizers").is_empty()
        && !namespaces::held(row, next)
}
