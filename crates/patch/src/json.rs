use crate::Error;
use crate::error::go_value;
use json_patch::PatchOperation;
use serde_json::Value;

/// Upstream's `maxJSONPatchOperations`.
const OPERATION_LIMIT: usize = 10_000;

/// Deeper than any object is; keeps copies of an object into itself from growing past what a recursive walk can bear.
const DEPTH_LIMIT: usize = 256;

/// What all copies and moves together may carry, as a multiple of the object's limit. Upstream: `AccumulatedCopySizeLimit`.
const CARRY_FACTOR: usize = 10;

/// RFC 6902, at most 10,000 operations, the result never larger than `limit_bytes` serialized (checked while applying).
/// The object is left unchanged when there is an error.
///
/// # Errors
/// `Malformed`: not a list of operations. `Unprocessable`: an operation does not apply. `TooLarge`: past one of the limits.
pub fn json(object: &mut Value, patch: &Value, limit_bytes: usize) -> Result<(), Error> {
    let Value::Array(list) = patch else {
        return Err(Error::Malformed(format!("json: cannot unmarshal {} into Go value of type jsonpatch.Patch", json_type(patch))));
    };
    if list.len() > OPERATION_LIMIT {
        return Err(Error::TooLarge(format!("The allowed maximum operations in a JSON patch is {OPERATION_LIMIT}, got {}", list.len())));
    }
    let mut budget = Budget { size: measure(object).bytes, carried: 0, limit: limit_bytes };
    let mut result = object.clone();
    for raw in list {
        let operation: PatchOperation = serde_json::from_value(raw.clone()).map_err(|e| Error::Malformed(format!("invalid JSON patch operation {}: {e}", go_value(raw))))?;
        budget.spend(&result, &operation)?;
        let text = refusal(&result, &operation);
        json_patch::patch_unsafe(&mut result, std::slice::from_ref(&operation)).map_err(|_| Error::Unprocessable(text))?;
    }
    *object = result;
    Ok(())
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What is said if this operation does not apply; upstream's words (evanphx/json-patch v4).
fn refusal(object: &Value, operation: &PatchOperation) -> String {
    let missing = |what: &str, path: &str| {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        if object.pointer(parent).is_some() {
            format!("{what} operation does not apply: doc is missing key: {path}: missing value")
        } else {
            format!("{what} operation does not apply: doc is missing path: {path}: missing value")
        }
    };
    match operation {
        PatchOperation::Add(o) => missing("add", o.path.as_str()),
        PatchOperation::Remove(o) => missing("remove", o.path.as_str()),
        PatchOperation::Replace(o) => missing("replace", o.path.as_str()),
        PatchOperation::Move(o) => missing("move", o.from.as_str()),
        PatchOperation::Copy(o) => missing("copy", o.from.as_str()),
        PatchOperation::Test(o) => format!("testing value {} failed", o.path.as_str()),
    }
}

/// Keeps size, depth and work bounded while operations are applied.
struct Budget {
    /// Never less than the serialized size of the object.
    size: usize,
    carried: usize,
    limit: usize,
}

impl Budget {
    fn spend(&mut self, object: &Value, operation: &PatchOperation) -> Result<(), Error> {
        let at = |path: &str| object.pointer(path).map(measure).unwrap_or_default();
        let (path, added, removed) = match operation {
            PatchOperation::Add(o) => (o.path.as_str(), measure(&o.value), Measure::default()),
            PatchOperation::Replace(o) => (o.path.as_str(), measure(&o.value), at(o.path.as_str())),
            PatchOperation::Remove(o) => (o.path.as_str(), Measure::default(), at(o.path.as_str())),
            PatchOperation::Copy(o) => (o.path.as_str(), self.carry(at(o.from.as_str()))?, Measure::default()),
            PatchOperation::Move(o) => {
                let moved = self.carry(at(o.from.as_str()))?;
                (o.path.as_str(), moved, moved)
            }
            PatchOperation::Test(_) => return Ok(()),
        };
        if path.matches('/').count() + added.depth > DEPTH_LIMIT {
            return Err(Error::TooLarge(format!("the patch would nest the object deeper than {DEPTH_LIMIT}")));
        }
        // A key, its quotes, a colon and a comma come with the value.
        let key = path.rsplit('/').next().map_or(0, str::len) + 4;
        self.size = self.size.saturating_sub(removed.bytes) + added.bytes + if added.bytes > 0 { key } else { 0 };
        if self.size > self.limit {
            return Err(Error::TooLarge(format!("the patch would make the object larger than {} bytes", self.limit)));
        }
        Ok(())
    }

    fn carry(&mut self, what: Measure) -> Result<Measure, Error> {
        self.carried += what.bytes;
        if self.carried > self.limit.saturating_mul(CARRY_FACTOR) {
            return Err(Error::TooLarge(format!("the copies of the patch carry more than {} bytes", self.limit.saturating_mul(CARRY_FACTOR))));
        }
        Ok(what)
    }
}

#[derive(Clone, Copy, Default)]
struct Measure {
    bytes: usize,
    depth: usize,
}

/// Serialized size (a little less where text needs escapes) and depth.
fn measure(value: &Value) -> Measure {
    match value {
        Value::Null | Value::Bool(true) => Measure { bytes: 4, depth: 0 },
        Value::Bool(false) => Measure { bytes: 5, depth: 0 },
        Value::Number(number) => Measure { bytes: number.to_string().len(), depth: 0 },
        Value::String(text) => Measure { bytes: text.len() + 2, depth: 0 },
        Value::Array(list) => {
            let inside = list.iter().map(measure).fold(Measure::default(), |sum, one| Measure { bytes: sum.bytes + one.bytes + 1, depth: sum.depth.max(one.depth) });
            Measure { bytes: inside.bytes + 2, depth: inside.depth + 1 }
        }
        Value::Object(map) => {
            let inside = map.iter().map(|(k, v)| (k.len(), measure(v))).fold(Measure::default(), |sum, (key, one)| Measure { bytes: sum.bytes + key + 4 + one.bytes, depth: sum.depth.max(one.depth) });
            Measure { bytes: inside.bytes + 2, depth: inside.depth + 1 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as value;

    const LIMIT: usize = 3 << 20;

    fn apply(live: Value, patch: Value) -> Result<Value, Error> {
        let mut object = live;
        json(&mut object, &patch, LIMIT)?;
        Ok(object)
    }

    #[test]
    fn operations_apply_in_order() {
        for (live, patch, expected) in [
            (value!({"a": 1}), value!([{"op": "add", "path": "/b", "value": 2}, {"op": "remove", "path": "/a"}]), value!({"b": 2})),
            (value!({"l": [1, 3]}), value!([{"op": "add", "path": "/l/1", "value": 2}, {"op": "add", "path": "/l/-", "value": 4}]), value!({"l": [1, 2, 3, 4]})),
            (value!({"a": {"x/y": 1}}), value!([{"op": "replace", "path": "/a/x~1y", "value": 2}]), value!({"a": {"x/y": 2}})),
            (value!({"a": 1}), value!([{"op": "test", "path": "/a", "value": 1}, {"op": "copy", "from": "/a", "path": "/b"}, {"op": "move", "from": "/b", "path": "/c"}]), value!({"a": 1, "c": 1})),
        ] {
            assert_eq!(apply(live, patch.clone()), Ok(expected), "{patch}");
        }
    }

    #[test]
    fn what_does_not_apply_is_unprocessable_and_changes_nothing() {
        for (patch, expected) in [
            (value!([{"op": "add", "path": "/z", "value": 1}, {"op": "test", "path": "/a", "value": 2}]), "testing value /a failed"),
            (value!([{"op": "remove", "path": "/x"}]), "remove operation does not apply: doc is missing key: /x: missing value"),
            (value!([{"op": "replace", "path": "/x/y", "value": 1}]), "replace operation does not apply: doc is missing path: /x/y: missing value"),
            (value!([{"op": "add", "path": "/x/y", "value": 1}]), "add operation does not apply: doc is missing path: /x/y: missing value"),
        ] {
            let mut object = value!({"a": 1});
            assert_eq!(json(&mut object, &patch, LIMIT), Err(Error::Unprocessable(expected.to_owned())));
            assert_eq!(object, value!({"a": 1}));
        }
    }

    #[test]
    fn what_is_not_a_patch_is_malformed() {
        for patch in [value!({}), value!("x"), value!([1]), value!([{"op": "dance", "path": "/a"}]), value!([{"op": "add", "value": 1}]), value!([{"op": "add", "path": "a", "value": 1}])] {
            assert!(matches!(apply(value!({}), patch.clone()), Err(Error::Malformed(_))), "{patch}");
        }
    }

    #[test]
    fn bombs_stop_at_a_limit() {
        let doubling: Vec<Value> = (0..40).map(|i| value!({"op": "copy", "from": "", "path": format!("/a{i}")})).collect();
        let deepening: Vec<Value> = (0..40).map(|_| value!({"op": "copy", "from": "", "path": "/a"})).collect();
        let adding: Vec<Value> = (0..9_000).map(|i| value!({"op": "add", "path": format!("/k{i}"), "value": "x".repeat(400)})).collect();
        let moving: Vec<Value> = (0..9_999).map(|i| if i % 2 == 0 { value!({"op": "move", "from": "/big", "path": "/gib"}) } else { value!({"op": "move", "from": "/gib", "path": "/big"}) }).collect();
        let many: Vec<Value> = (0..10_001).map(|_| value!({"op": "test", "path": "/a", "value": {}})).collect();
        for (name, patch) in [("doubling", doubling), ("deepening", deepening), ("adding", adding), ("moving", moving), ("many", many)] {
            let live = value!({"a": {}, "text": "x".repeat(1000), "big": vec![0; 20_000]});
            assert!(matches!(apply(live, Value::Array(patch)), Err(Error::TooLarge(_))), "{name}");
        }
    }

    #[test]
    fn removing_makes_room_again() {
        let mut patch = Vec::new();
        for _ in 0..100 {
            patch.push(value!({"op": "add", "path": "/a", "value": "x".repeat(100_000)}));
            patch.push(value!({"op": "remove", "path": "/a"}));
        }
        assert_eq!(apply(value!({}), Value::Array(patch)), Ok(value!({})));
    }
}
