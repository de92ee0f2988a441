//! Between `Value`s and what the store keeps.

use crate::rows::Row;
use crate::status::Failure;
use mainstay_store::{Draft, Key, Meta, Object};
use serde_json::{Map, Value};
use std::sync::Arc;

/// `metadata`, or null.
pub(crate) fn metadata(value: &Value) -> &Value {
    value.get("metadata").unwrap_or(&Value::Null)
}

/// A string in `metadata`; empty when unset.
pub(crate) fn meta_text<'a>(value: &'a Value, field: &str) -> &'a str {
    metadata(value).get(field).and_then(Value::as_str).unwrap_or("")
}

/// `metadata`, made where it is missing.
pub(crate) fn metadata_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let slot = &mut value["metadata"];
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    match slot {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// Strings of a list in `metadata`: finalizers.
pub(crate) fn meta_list<'a>(value: &'a Value, field: &str) -> Vec<&'a str> {
    metadata(value).get(field).and_then(Value::as_array).map(|items| items.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// The stored object as a value, in the row's form.
pub(crate) fn read(row: &Row, object: &Object) -> Result<Value, Failure> {
    let mut value: Value = serde_json::from_slice(&object.bytes)
        .map_err(|error| Failure::internal(format!("stored {} {}/{}: {error}", object.key.resource, object.key.namespace, object.key.name)))?;
    if let Some((to_row, _)) = row.kind.convert {
        to_row(&mut value);
        name_kind(&mut value, &row.api_version, row.kind.kind);
        complete(row, &mut value);
    }
    Ok(value)
}

/// The row's form to the stored one.
fn to_stored(row: &Row, value: &mut Value) {
    if let Some((_, from_row)) = row.kind.convert {
        from_row(value);
        if let Some(shape) = row.stored_shape {
            mainstay_schema::fill(shape, value);
        }
    }
    name_kind(value, &row.stored_api_version, row.stored.kind);
}

/// Adds what Go's encoder would write of what is not set, so that readers, and hashes of what they read, find upstream's bytes.
pub(crate) fn complete(row: &Row, value: &mut Value) {
    if let Some(shape) = row.shape {
        mainstay_schema::fill(shape, value);
    }
}

/// Sets `apiVersion` and `kind`.
pub(crate) fn name_kind(value: &mut Value, api_version: &str, kind: &str) {
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
}

/// Serializes once, with a hole for the resourceVersion, and extracts the index entry.
pub(crate) fn draft(row: &Row, mut value: Value) -> (Draft, Meta) {
    to_stored(row, &mut value);
    metadata_mut(&mut value).insert("resourceVersion".into(), Value::Null);
    let meta = meta(row, &value);
    let mut head = Vec::with_capacity(1024);
    let mut tail = None;
    if let Value::Object(fields) = &value {
        open(&mut head);
        for (key, field) in fields {
            let out = tail.as_mut().unwrap_or(&mut head);
            write_key(out, key);
            match field {
                Value::Object(metadata) if key == "metadata" => tail = Some(write_metadata(&mut head, metadata)),
                _ => write(out, field),
            }
            tail.as_mut().unwrap_or(&mut head).push(b',');
        }
    }
    let mut tail = tail.unwrap_or_default();
    close(&mut tail);
    (Draft { head, tail }, meta)
}

/// Writes metadata up to the hole into `head`, and returns what follows.
fn write_metadata(head: &mut Vec<u8>, metadata: &Map<String, Value>) -> Vec<u8> {
    let mut tail: Option<Vec<u8>> = None;
    open(head);
    for (key, field) in metadata {
        let out = tail.as_mut().unwrap_or(head);
        write_key(out, key);
        if key == "resourceVersion" {
            out.push(b'"');
            tail = Some(b"\",".to_vec());
        } else {
            write(out, field);
            out.push(b',');
        }
    }
    let mut tail = tail.unwrap_or_default();
    close(&mut tail);
    tail
}

fn open(out: &mut Vec<u8>) {
    out.push(b'{');
}

/// Replaces the comma after the last member.
fn close(out: &mut Vec<u8>) {
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.push(b'}');
}

fn write_key(out: &mut Vec<u8>, key: &str) {
    write(out, &key);
    out.push(b':');
}

/// Appends JSON.
pub(crate) fn write<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("writing JSON with string keys to memory cannot fail");
}

/// The index entry of a value in stored form.
fn meta(row: &Row, value: &Value) -> Meta {
    let metadata = metadata(value);
    let labels = metadata.get("labels").and_then(Value::as_object);
    let owners = metadata.get("ownerReferences").and_then(Value::as_array);
    Meta {
        uid: meta_text(value, "uid").into(),
        labels: labels.into_iter().flatten().map(|(key, value)| (Arc::from(key.as_str()), Arc::from(value.as_str().unwrap_or("")))).collect(),
        fields: row.stored.fields.iter().map(|field| (field.value)(value).into()).collect(),
        owners: owners.into_iter().flatten().filter_map(|owner| owner.get("uid")?.as_str()).map(Arc::from).collect(),
    }
}

/// Names an object of a row.
pub(crate) fn key(row: &Row, namespace: &str, name: &str) -> Key {
    Key { resource: row.resource.clone(), namespace: if row.namespaced() { namespace.into() } else { "".into() }, name: name.into() }
}

/// What a draft will read as without a revision: the answer to a dry run.
pub(crate) fn dry(row: &Row, mut value: Value, resource_version: Option<u64>) -> Value {
    name_kind(&mut value, &row.api_version, row.kind.kind);
    let metadata = metadata_mut(&mut value);
    match resource_version {
        Some(revision) => metadata.insert("resourceVersion".into(), revision.to_string().into()),
        None => metadata.remove("resourceVersion"),
    };
    value
}

/// A patch may not make another kind of an object.
pub(crate) fn name_kind_unless_changed(value: &Value, api_version: &str, kind: &str) -> Result<(), Failure> {
    let same = |field: &str, wanted: &str| value.get(field).and_then(Value::as_str) == Some(wanted);
    match (same("apiVersion", api_version), same("kind", kind)) {
        (true, true) => Ok(()),
        (false, _) => Err(Failure::bad_request(format!("the patch changes apiVersion, which must stay {api_version}"))),
        (_, false) => Err(Failure::bad_request(format!("the patch changes kind, which must stay {kind}"))),
    }
}

/// Sets what a JSON pointer names; what is missing on the way is made.
pub(crate) fn set_pointer(value: &mut Value, pointer: &str, new: Value) {
    let mut here = value;
    for part in pointer.split('/').skip(1) {
        if !here.is_object() {
            *here = Value::Object(Map::new());
        }
        here = &mut here[part];
    }
    *here = new;
}
