//! The difference between two states, as a merge patch.

use mainstay_client::Resource;
use serde_json::{Map, Value, json};

/// What to merge into `old` so that it becomes `new`; `None` when nothing is to be done.
pub(crate) fn difference(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let Value::Object(wanted) = new else { return Some(new.clone()) };
    let empty = Map::new();
    // What is no object is replaced by the object, whole.
    let had = old.as_object().unwrap_or(&empty);
    let mut patch = Map::new();
    for (key, value) in wanted {
        match had.get(key) {
            Some(before) => drop(difference(before, value).map(|change| patch.insert(key.clone(), change))),
            None => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    for key in had.keys().filter(|key| !wanted.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}

/// A patch of the status of exactly this object, never of an earlier or later one of its name.
pub(crate) fn status_patch<K: Resource>(old: &K, new: &K) -> Option<Value> {
    let change = difference(&old.to_value()["status"], &new.to_value()["status"])?;
    Some(json!({ "metadata": { "uid": old.metadata().uid }, "status": change }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_says_only_what_changes() {
        for (old, new, expected) in [
            (json!({"a": 1}), json!({"a": 1}), None),
            (json!({"a": 1, "b": 2}), json!({"a": 1}), Some(json!({"b": null}))),
            (json!({"a": {"x": [1], "y": 2}}), json!({"a": {"y": 2}}), Some(json!({"a": {"x": null}}))),
            (json!({"l": [1, 2]}), json!({"l": [2]}), Some(json!({"l": [2]}))),
            (Value::Null, json!({"a": 1}), Some(json!({"a": 1}))),
        ] {
            assert_eq!(difference(&old, &new), expected, "{old} → {new}");
        }
    }
}
