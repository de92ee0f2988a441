//! Cells that many kinds share.

use crate::Column;
use crate::time::since;
use crate::value::{Access, Object};
use serde_json::Value;

impl Column {
    /// A column that is always shown.
    pub(crate) const fn new(name: &'static str, kind: &'static str, description: &'static str, cell: fn(&Value, i64) -> Value) -> Column {
        Column { name, kind, format: "", priority: 0, description, cell }
    }

    /// The same, with `-o wide` only.
    pub(crate) const fn wide(self) -> Column {
        Column { priority: 1, ..self }
    }
}

/// `metadata.name`.
pub(crate) const NAME: Column = named(name);

/// A Name column with a cell of its own.
pub(crate) const fn named(cell: fn(&Value, i64) -> Value) -> Column {
    Column { name: "Name", kind: "string", format: "name", priority: 0, description: "Unique among the objects of this kind in its namespace.", cell }
}

/// Time since `metadata.creationTimestamp`.
pub(crate) const AGE: Column = Column::new("Age", "string", "How long ago the object was created.", age);

fn name(object: &Value, _: i64) -> Value {
    object.text("metadata.name").into()
}

fn age(object: &Value, now: i64) -> Value {
    since(object.text("metadata.creationTimestamp"), now).into()
}

/// What stands in a cell that has nothing to show.
pub(crate) const NONE: &str = "<none>";

/// The text, or `<none>`.
pub(crate) fn or_none(text: &str) -> Value {
    if text.is_empty() { NONE.into() } else { text.into() }
}

/// `a=1,b=2`, or `<none>`.
pub(crate) fn labels(map: &Object) -> String {
    if map.is_empty() {
        return NONE.to_owned();
    }
    let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or(""))).collect();
    pairs.join(",")
}

/// `a,b,c + 4 more...`; `empty` when there is nothing.
pub(crate) fn some_of(items: &[String], max: usize, empty: &str) -> String {
    let shown = items[..items.len().min(max)].join(",");
    match () {
        () if items.len() > max => format!("{shown} + {} more...", items.len() - max),
        () if shown.is_empty() => empty.to_owned(),
        () => shown,
    }
}

/// `RWO,ROX`.
pub(crate) fn access_modes(modes: &[Value]) -> String {
    let short = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];
    let letters = ["RWO", "ROX", "RWX", "RWOP"];
    let shown: Vec<&str> = short.iter().zip(letters).filter(|(mode, _)| modes.iter().any(|m| m.as_str() == Some(mode))).map(|(_, l)| l).collect();
    shown.join(",")
}

/// Names (or another field) of a pod template's containers: `a,b`.
pub(crate) fn containers(template_spec: &Value, field: &str) -> String {
    let all: Vec<&str> = template_spec.list("containers").iter().map(|c| c.text(field)).collect();
    all.join(",")
}
