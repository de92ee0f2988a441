//! DELETE of one object or of many (upstream: registry/rest/delete.go and registry/generic/registry/store.go).

use super::list;
use crate::decode::{self, MediaType};
use crate::handler::{Answer, Call};
use crate::object::{self, metadata_mut};
use crate::render;
use crate::route::Query;
use crate::rows::Row;
use crate::status::{self, Failure};
use crate::view::rfc3339;
use crate::{namespaces, write};
use mainstay_api::CauseReason;
use mainstay_store::{Object, Write, WriteError};
use serde_json::Value;
use std::sync::Arc;

/// How often a delete that lost a race is tried again.
const ATTEMPTS: usize = 32;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Upstream: pkg/registry/batch/job/storage/storage.go.
const ORPHAN_WARNING: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

/// Kinds whose DELETE answers with the object that went and not with a Status (upstream: `ReturnDeletedObject`).
const RETURN_OBJECT: [&str; 6] = ["pods", "services", "persistentvolumeclaims", "persistentvolumes", "serviceaccounts", "storage.k8s.io/storageclasses"];

/// What becomes of dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// DeleteOptions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    grace_seconds: Option<i64>,
    propagation: Option<Propagation>,
    uid: Option<String>,
    resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

impl Options {
    /// From the body, or where it is empty from the query.
    fn read(call: &Call<'_>, body: &[u8]) -> Result<Self, Failure> {
        if body.is_empty() {
            return Self::parse(call.query, &Value::Null);
        }
        let decoded = decode::decode(body, MediaType::of(call.headers)?)
            .map_err(|why| Failure::bad_request(format!("the object provided is unrecognized (must be of type DeleteOptions): {why}")))?;
        if !decoded.value.is_object() {
            return Err(Failure::bad_request("the object provided is unrecognized (must be of type DeleteOptions): it is not an object"));
        }
        match decoded.value.get("kind").and_then(Value::as_str) {
            None | Some("" | "DeleteOptions") => Self::parse(call.query, &decoded.value),
            Some(kind) => Err(Failure::bad_request(format!("{kind} cannot be handled as a DeleteOptions: unknown conversion"))),
        }
    }

    /// From decoded DeleteOptions; what they do not say may stand in the query.
    pub(crate) fn parse(query: &Query<'_>, body: &Value) -> Result<Self, Failure> {
        let broken = |field: &str| Failure::bad_request(format!("DeleteOptions in version \"v1\" cannot be handled as a DeleteOptions: json: cannot unmarshal field {field}"));
        let field = |name: &str| body.get(name).filter(|value| !value.is_null());
        let mut options = Self { dry_run: write::Options::parse(query, "DeleteOptions")?.dry_run, ..Self::default() };
        options.grace_seconds = match field("gracePeriodSeconds") {
            Some(value) => Some(value.as_i64().ok_or_else(|| broken("gracePeriodSeconds"))?),
            None => query.get("gracePeriodSeconds").map(|text| text.parse().map_err(|_| broken("gracePeriodSeconds"))).transpose()?,
        };
        let policy = match field("propagationPolicy") {
            Some(value) => Some(value.as_str().ok_or_else(|| broken("propagationPolicy"))?),
            None => query.get("propagationPolicy"),
        };
        let orphan = match field("orphanDependents") {
            Some(value) => Some(value.as_bool().ok_or_else(|| broken("orphanDependents"))?),
            None => query.get("orphanDependents").map(|_| query.flag("orphanDependents")),
        };
        options.propagation = propagation(policy, orphan)?;
        for item in field("dryRun").and_then(Value::as_array).into_iter().flatten() {
            if item != "All" {
                let message = format!("Unsupported value: {item}: supported values: \"All\"");
                return Err(Failure::invalid_option("DeleteOptions", "dryRun", CauseReason::NotSupported, message));
            }
            options.dry_run = true;
        }
        if let Some(preconditions) = field("preconditions") {
            let text = |name: &str| preconditions.get(name).and_then(Value::as_str).map(str::to_owned);
            options.uid = text("uid");
            options.resource_version = text("resourceVersion");
        }
        Ok(options)
    }
}

fn propagation(policy: Option<&str>, orphan: Option<bool>) -> Result<Option<Propagation>, Failure> {
    let policy = match policy {
        None | Some("") => None,
        Some("Orphan") => Some(Propagation::Orphan),
        Some("Background") => Some(Propagation::Background),
        Some("Foreground") => Some(Propagation::Foreground),
        Some(other) => {
            let message = format!("Unsupported value: {other:?}: supported values: \"Background\", \"Foreground\", \"Orphan\"");
            return Err(Failure::invalid_option("DeleteOptions", "propagationPolicy", CauseReason::NotSupported, message));
        }
    };
    match (policy, orphan) {
        (Some(_), Some(_)) => {
            let message = "Invalid value: orphanDependents and deletionPropagation cannot be both set".to_owned();
            Err(Failure::invalid_option("DeleteOptions", "propagationPolicy", CauseReason::Invalid, message))
        }
        (None, Some(true)) => Ok(Some(Propagation::Orphan)),
        (None, Some(false)) => Ok(Some(Propagation::Background)),
        (policy, None) => Ok(policy),
    }
}

/// What a delete came to.
pub(crate) enum Removed {
    /// It is gone; its last state.
    Gone(Arc<Object>),
    /// It is marked, and something else will let it go.
    Marked(Arc<Object>),
    /// What would have been.
    Dry(Value, bool),
}

/// Deletes one object.
pub(crate) async fn delete(call: &Call<'_>, body: &[u8]) -> Answer {
    let options = Options::read(call, body)?;
    let warnings: Vec<String> = (call.row.kind.orphans && options.propagation.is_none()).then(|| ORPHAN_WARNING.to_owned()).into_iter().collect();
    let removed = remove(call, call.namespace.unwrap_or(""), call.name, &options).await?;
    match removed {
        Removed::Marked(object) => render::stored(call, 200, &object, &warnings),
        Removed::Gone(object) if RETURN_OBJECT.contains(&call.row.kind.storage) => render::stored(call, 200, &object, &warnings),
        Removed::Gone(object) => render::plain(call, 200, &status::success(call.row.kind, call.name, &object.meta.uid), &warnings),
        Removed::Dry(value, gone) if !gone || RETURN_OBJECT.contains(&call.row.kind.storage) => render::value(call, 200, value, &warnings),
        Removed::Dry(value, _) => render::plain(call, 200, &status::success(call.row.kind, call.name, object::meta_text(&value, "uid")), &warnings),
    }
}

/// Deletes all that a selector matches; answers with them.
pub(crate) async fn delete_collection(call: &Call<'_>, body: &[u8]) -> Answer {
    let options = Options::read(call, body)?;
    let found = list::find(call).await?;
    for object in &found.items {
        match remove(call, &object.key.namespace, &object.key.name, &options).await {
            Ok(_) => {}
            // Somebody else was faster: that is what was wanted.
            Err(failure) if failure.code() == 404 => {}
            Err(failure) => return Err(failure),
        }
    }
    list::of_items(call, found.items)
}

/// What the rules make of a delete.
enum Plan {
    /// Remove it now; this is its last state.
    Remove(Value),
    /// Keep it, so marked.
    Mark(Value),
    /// It is already on its way, and this request changes nothing.
    Nothing,
}

/// Deletes one object by name.
pub(crate) async fn remove(call: &Call<'_>, namespace: &str, name: &str, options: &Options) -> Result<Removed, Failure> {
    let (row, kind) = (call.row, call.row.kind);
    namespaces::check_delete(row, name)?;
    let key = object::key(row, namespace, name);
    for attempt in 1.. {
        let stored = call.server.store.get(&key).ok_or_else(|| Failure::not_found(kind, name))?;
        let current = object::read(row, &stored)?;
        check_preconditions(row, name, &current, options)?;
        let (value, gone) = match plan(row, &current, options, jiff::Timestamp::now()) {
            Plan::Nothing => return Ok(Removed::Marked(stored)),
            Plan::Mark(value) if value == current => return Ok(Removed::Marked(stored)),
            Plan::Mark(value) => (value, false),
            Plan::Remove(value) => (value, true),
        };
        if options.dry_run {
            return Ok(Removed::Dry(object::dry(row, value, Some(stored.revision)), gone));
        }
        let (draft, meta) = object::draft(row, value);
        let write = match gone {
            true => Write::Delete { key: key.clone(), expected: stored.revision, draft },
            false => Write::Update { key: key.clone(), expected: stored.revision, draft, meta },
        };
        match call.server.store.write(write).await {
            Ok(object) if gone => return Ok(Removed::Gone(object)),
            Ok(object) => return Ok(Removed::Marked(object)),
            Err(WriteError::Conflict(_)) if attempt < ATTEMPTS => {}
            Err(error) => return Err(Failure::from_write(error, kind, name)),
        }
    }
    unreachable!("the loop returns at the last attempt")
}

fn check_preconditions(row: &Row, name: &str, current: &Value, options: &Options) -> Result<(), Failure> {
    for (field, what, happened, wanted) in
        [("uid", "UID", "deleted and then recreated", &options.uid), ("resourceVersion", "ResourceVersion", "modified", &options.resource_version)]
    {
        let actual = object::meta_text(current, field);
        if let Some(wanted) = wanted.as_deref().filter(|wanted| !wanted.is_empty() && *wanted != actual) {
            let why = format!("the {what} in the precondition ({wanted}) does not match the {what} in record ({actual}). The object might have been {happened}");
            return Err(Failure::conflict(row.kind, name, &why));
        }
    }
    Ok(())
}

/// Whether this ends, or only marks, an object.
fn plan(row: &Row, current: &Value, options: &Options, now: jiff::Timestamp) -> Plan {
    let mut next = current.clone();
    let deleting = object::metadata(current).get("deletionTimestamp").and_then(Value::as_str);
    let grace_now = object::metadata(current).get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    let graceful = match deleting {
        Some(_) if grace_now == 0 => None,
        Some(time) => match options.grace_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds }) {
            // Only a shorter time may be asked for, counted from the first request.
            Some(seconds) if seconds < grace_now => {
                let moved = time.parse::<jiff::Timestamp>().ok().and_then(|time| time.checked_sub(jiff::SignedDuration::from_secs(grace_now - seconds)).ok());
                mark(&mut next, moved.unwrap_or(now), seconds);
                Some(seconds)
            }
            _ => return Plan::Nothing,
        },
        None => (row.kind.grace)(current, options.grace_seconds).inspect(|seconds| {
            let end = now.checked_add(jiff::SignedDuration::from_secs(*seconds)).unwrap_or(now);
            mark(&mut next, end, *seconds);
            bump_generation(&mut next);
        }),
    };
    set_propagation(&mut next, options.propagation.or_else(|| unasked(row, current)));
    let held = !object::meta_list(&next, "finalizers").is_empty() || namespaces::held(row, &next);
    match graceful {
        Some(seconds) if seconds > 0 || held => Plan::Mark(next),
        None if held => {
            if deleting.is_none() {
                mark(&mut next, now, 0);
                bump_generation(&mut next);
                namespaces::mark_terminating(row, &mut next);
            }
            Plan::Mark(next)
        }
        _ => Plan::Remove(next),
    }
}

fn mark(value: &mut Value, time: jiff::Timestamp, seconds: i64) {
    let metadata = metadata_mut(value);
    metadata.insert("deletionTimestamp".into(), rfc3339(time).into());
    metadata.insert("deletionGracePeriodSeconds".into(), seconds.into());
}

fn bump_generation(value: &mut Value) {
    if let Some(generation) = object::metadata(value).get("generation").and_then(Value::as_i64).filter(|n| *n > 0) {
        metadata_mut(value).insert("generation".into(), (generation + 1).into());
    }
}

/// What becomes of dependents that a request does not speak of, where a finalizer does not say it either.
fn unasked(row: &Row, current: &Value) -> Option<Propagation> {
    let said = object::meta_list(current, "finalizers").iter().any(|name| matches!(*name, ORPHAN | FOREGROUND));
    (row.kind.orphans && !said).then_some(Propagation::Orphan)
}

/// The garbage collector reads the policy from two finalizers; without a policy those that are there stay.
fn set_propagation(value: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let mut finalizers: Vec<String> =
        object::meta_list(value, "finalizers").into_iter().filter(|name| !matches!(*name, ORPHAN | FOREGROUND)).map(str::to_owned).collect();
    match propagation {
        Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
        Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
        Propagation::Background => {}
    }
    let metadata = metadata_mut(value);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), finalizers.into());
    }
}
