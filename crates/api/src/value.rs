//! Reading and filling `serde_json::Value` by dotted path (`spec.template.metadata`). A path that leads nowhere reads as
//! null, empty or zero, as an unset field does in Go; keys that hold dots themselves are read with `get`.

use serde_json::{Map, Value};
use std::sync::LazyLock;

static NULL: Value = Value::Null;
static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

pub(crate) type Object = Map<String, Value>;

pub(crate) trait Access {
    /// The value, or null.
    fn at(&self, path: &str) -> &Value;
    /// The string, or "".
    fn text(&self, path: &str) -> &str {
        self.at(path).as_str().unwrap_or("")
    }
    /// The integer.
    fn int(&self, path: &str) -> Option<i64> {
        self.at(path).as_i64()
    }
    /// Set, and true.
    fn flag(&self, path: &str) -> bool {
        self.at(path).as_bool().unwrap_or(false)
    }
    /// The items, or none.
    fn list(&self, path: &str) -> &[Value] {
        self.at(path).as_array().map_or(&[], Vec::as_slice)
    }
    /// The entries, or none.
    fn object(&self, path: &str) -> &Object {
        self.at(path).as_object().unwrap_or(&EMPTY)
    }
    /// Whether there is anything but null.
    fn has(&self, path: &str) -> bool {
        !self.at(path).is_null()
    }
}

impl Access for Value {
    fn at(&self, path: &str) -> &Value {
        if path.is_empty() {
            return self;
        }
        path.split('.').try_fold(self, |value, key| value.get(key)).unwrap_or(&NULL)
    }
}

/// The value at a path, if it is there.
pub(crate) fn find_mut<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(value, |value, key| value.get_mut(key))
}

/// The object at a path; what is missing on the way is made.
pub(crate) fn dig<'a>(value: &'a mut Value, path: &str) -> &'a mut Value {
    let mut here = value;
    for key in path.split('.') {
        if !here.is_object() {
            *here = Value::Object(Map::new());
        }
        here = &mut here[key];
    }
    if here.is_null() {
        *here = Value::Object(Map::new());
    }
    here
}

/// Sets a field that is not set.
pub(crate) fn fill(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Value::Object(map) = object
        && map.get(key).is_none_or(Value::is_null)
    {
        map.insert(key.to_owned(), value.into());
    }
}

/// Sets a string that is not set or empty: an empty string is Go's unset.
pub(crate) fn fill_text(object: &mut Value, key: &str, value: &str) {
    if object.text(key).is_empty() {
        put(object, key, value);
    }
}

/// Sets a number that is not set or zero.
pub(crate) fn fill_number(object: &mut Value, key: &str, value: i64) {
    if object.int(key).unwrap_or(0) == 0 {
        put(object, key, value);
    }
}

/// Sets a field.
pub(crate) fn put(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Value::Object(map) = object {
        map.insert(key.to_owned(), value.into());
    }
}

/// Sets a field when there is something to set, else removes it.
pub(crate) fn put_or_remove(object: &mut Value, key: &str, value: Option<Value>) {
    if let Value::Object(map) = object {
        match value {
            Some(value) if !value.is_null() => drop(map.insert(key.to_owned(), value)),
            _ => drop(map.remove(key)),
        }
    }
}

/// Takes a field out.
pub(crate) fn take(object: &mut Value, key: &str) -> Option<Value> {
    object.as_object_mut().and_then(|map| map.remove(key)).filter(|v| !v.is_null())
}

/// The items of a list at a path; none when it is not there.
pub(crate) fn items_mut<'a>(value: &'a mut Value, path: &str) -> std::slice::IterMut<'a, Value> {
    match find_mut(value, path) {
        Some(Value::Array(items)) => items.iter_mut(),
        _ => Default::default(),
    }
}

/// An object without anything in it, or nothing at all.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Equal as Go's semantic equality sees it: unset, null, `{}`, `[]` and "" are one.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    if is_empty(a) && is_empty(b) {
        return true;
    }
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let covered = |from: &Object, to: &Object| from.iter().all(|(k, v)| same(v, to.get(k).unwrap_or(&NULL)));
            covered(x, y) && covered(y, x)
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(p, q)| same(p, q)),
        _ => a == b,
    }
}
