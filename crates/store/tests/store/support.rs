//! Short words for what the tests say often.

use mainstay_store::{Draft, Key, Meta, Object, Options, Range, Store, Write, WriteError};
use std::sync::Arc;

pub fn key(text: &str) -> Key {
    let parts: Vec<&str> = text.split(' ').collect();
    let [resource, namespace, name] = parts[..] else { panic!("resource namespace name: {text:?}") };
    // A dash stands for no namespace.
    Key { resource: resource.into(), namespace: namespace.trim_matches('-').into(), name: name.into() }
}

pub fn range(resource: &str, namespace: Option<&str>) -> Range {
    Range { resource: resource.into(), namespace: namespace.map(Into::into) }
}

/// `{"v":<value>,"resourceVersion":"<revision>"}`
pub fn draft(value: impl std::fmt::Display) -> Draft {
    Draft { head: format!(r#"{{"v":{value},"resourceVersion":""#).into_bytes(), tail: br#""}"#.to_vec() }
}

/// The value of [`draft`], after checking that the revision stands in its place.
pub fn value(object: &Object) -> String {
    let text = std::str::from_utf8(&object.bytes).unwrap();
    let (value, revision) = text.strip_prefix(r#"{"v":"#).unwrap().split_once(r#","resourceVersion":""#).unwrap();
    assert_eq!(revision.strip_suffix(r#""}"#).unwrap(), object.revision.to_string());
    value.to_string()
}

pub fn meta(uid: &str) -> Meta {
    Meta { uid: uid.into(), labels: vec![("app".into(), "web".into())], fields: vec!["f".into()], owners: vec!["owner-1".into()] }
}

pub async fn create(store: &Store, at: &str, v: impl std::fmt::Display) -> Result<Arc<Object>, WriteError> {
    store.write(Write::Create { key: key(at), draft: draft(v), meta: meta("u") }).await
}

pub async fn update(store: &Store, at: &str, expected: u64, v: impl std::fmt::Display) -> Result<Arc<Object>, WriteError> {
    store.write(Write::Update { key: key(at), expected, draft: draft(v), meta: meta("u") }).await
}

pub async fn delete(store: &Store, at: &str, expected: u64, v: impl std::fmt::Display) -> Result<Arc<Object>, WriteError> {
    store.write(Write::Delete { key: key(at), expected, draft: draft(v) }).await
}

pub fn small_window(window_events: usize) -> Options {
    Options { window_events, ..Options::default() }
}

/// `name=value@revision`, in order.
pub fn show<'a>(objects: impl IntoIterator<Item = &'a Arc<Object>>) -> String {
    objects.into_iter().map(|object| format!("{}={}@{}", object.key.name, value(object), object.revision)).collect::<Vec<_>>().join(" ")
}
