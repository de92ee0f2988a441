//! Events: one store, served as core `v1` (which is how it is stored) and as `events.k8s.io/v1`.

use crate::columns::NAME;
use crate::time::since;
use crate::value::{Access, put_or_remove, take};
use crate::{Column, Errors, Field, Kind};
use serde_json::Value;

/// (core, events.k8s.io) names of the same field.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

pub(crate) const EVENT: Kind = Kind {
    group: "events.k8s.io",
    kind: "Event",
    plural: "events",
    singular: "event",
    short: &["ev"],
    storage: "events",
    convert: Some((from_core, to_core)),
    validate,
    fields: FIELDS,
    columns: COLUMNS,
    ..Kind::BASE
};

fn from_core(event: &mut Value) {
    for (core, new) in RENAMED {
        let value = take(event, core);
        put_or_remove(event, new, value);
    }
}

fn to_core(event: &mut Value) {
    for (core, new) in RENAMED {
        let value = take(event, new);
        put_or_remove(event, core, value);
    }
}

/// A field by its core name, in an event of either form.
fn field<'a>(event: &'a Value, core: &str) -> &'a Value {
    match RENAMED.iter().find(|(name, _)| *name == core) {
        Some((_, new)) if !event.has(core) => event.at(new),
        _ => event.at(core),
    }
}

fn involved(event: &Value, name: &str) -> String {
    field(event, "involvedObject").text(name).to_owned()
}

pub(crate) const FIELDS: &[Field] = &[
    Field { name: "involvedObject.kind", value: |e| involved(e, "kind") },
    Field { name: "involvedObject.namespace", value: |e| involved(e, "namespace") },
    Field { name: "involvedObject.name", value: |e| involved(e, "name") },
    Field { name: "involvedObject.uid", value: |e| involved(e, "uid") },
    Field { name: "involvedObject.apiVersion", value: |e| involved(e, "apiVersion") },
    Field { name: "involvedObject.resourceVersion", value: |e| involved(e, "resourceVersion") },
    Field { name: "involvedObject.fieldPath", value: |e| involved(e, "fieldPath") },
    Field { name: "regarding.kind", value: |e| involved(e, "kind") },
    Field { name: "regarding.namespace", value: |e| involved(e, "namespace") },
    Field { name: "regarding.name", value: |e| involved(e, "name") },
    Field { name: "regarding.uid", value: |e| involved(e, "uid") },
    Field { name: "reason", value: |e| e.text("reason").to_owned() },
    Field { name: "reportingComponent", value: |e| component(e).to_owned() },
    Field { name: "source", value: |e| component(e).to_owned() },
    Field { name: "type", value: |e| e.text("type").to_owned() },
];

fn component(event: &Value) -> &str {
    match field(event, "source").text("component") {
        "" => field(event, "reportingComponent").text(""),
        component => component,
    }
}

pub(crate) const COLUMNS: &[Column] = &[
    Column::new("Last Seen", "string", "How long ago it was last seen.", |e, now| last_seen(e, now).into()),
    Column::new("Type", "string", "Normal or Warning.", |e, _| e.text("type").into()),
    Column::new("Reason", "string", "Why it was written, in one word.", |e, _| e.text("reason").into()),
    Column::new("Object", "string", "What it is about.", |e, _| object(e).into()),
    Column::new("Subobject", "string", "Which part of it.", |e, _| field(e, "involvedObject").text("fieldPath").into()).wide(),
    Column::new("Source", "string", "Who wrote it.", |e, _| source(e).into()).wide(),
    Column::new("Message", "string", "What happened.", |e, _| field(e, "message").text("").trim().into()),
    Column::new("First Seen", "string", "How long ago it was first seen.", |e, now| first_seen(e, now).into()).wide(),
    Column::new("Count", "string", "How often it was seen.", |e, _| count(e).into()).wide(),
    Column { priority: 1, ..NAME },
];

fn first_seen(event: &Value, now: i64) -> String {
    match field(event, "firstTimestamp").text("") {
        "" => since(event.text("eventTime"), now),
        time => since(time, now),
    }
}

fn last_seen(event: &Value, now: i64) -> String {
    match (event.text("series.lastObservedTime"), field(event, "lastTimestamp").text("")) {
        ("", "") => first_seen(event, now),
        ("", time) | (time, _) => since(time, now),
    }
}

fn count(event: &Value) -> i64 {
    let plain = field(event, "count").as_i64().filter(|n| *n != 0).unwrap_or(1);
    event.int("series.count").unwrap_or(plain)
}

fn object(event: &Value) -> String {
    let object = field(event, "involvedObject");
    let kind = object.text("kind").to_lowercase();
    match object.text("name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

/// `component, host`.
fn source(event: &Value) -> String {
    let (component, own) = (component(event), field(event, "source").text("host"));
    let host = if own.is_empty() { event.text("reportingInstance") } else { own };
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}

pub(crate) fn validate_core(event: &Value, errors: &mut Errors) {
    let (own, about) = (event.text("metadata.namespace"), event.text("involvedObject.namespace"));
    let fits = if about.is_empty() { own == "default" || own == "kube-system" } else { own == about };
    if !fits {
        errors.invalid_text("involvedObject.namespace", about, "does not match event.namespace");
    }
}

/// The newer form is stricter about what must be said.
fn validate(event: &Value, errors: &mut Errors) {
    if !event.has("eventTime") && !event.has("deprecatedFirstTimestamp") {
        errors.required("eventTime", "");
    }
    if event.has("eventTime") {
        for name in ["reportingController", "reportingInstance", "action", "reason"] {
            if event.text(name).is_empty() {
                errors.required(name, "");
            }
        }
        errors.one_of("type", event.text("type"), &["Normal", "Warning"]);
        if event.text("note").len() > 1024 {
            errors.invalid_text("note", "", "can have at most 1024 characters");
        }
    }
    let (own, about) = (event.text("metadata.namespace"), event.text("regarding.namespace"));
    let fits = if about.is_empty() { own == "default" || own == "kube-system" } else { own == about };
    if !fits {
        errors.invalid_text("involvedObject.namespace", about, "does not match event.namespace");
    }
}
