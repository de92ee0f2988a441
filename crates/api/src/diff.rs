//! What differs between two values, for a person to read in an error.

use serde_json::Value;

/// Lines past this are counted, not shown.
const MAX_LINES: usize = 20;

/// `- path: old` and `+ path: new` lines.
pub(crate) fn lines(old: &Value, new: &Value) -> String {
    let mut all = Vec::new();
    walk(old, new, String::new(), &mut all);
    let more = all.len().saturating_sub(MAX_LINES);
    all.truncate(MAX_LINES);
    if more > 0 {
        all.push(format!("  … and {more} more lines"));
    }
    all.join("\n")
}

fn walk(old: &Value, new: &Value, path: String, all: &mut Vec<String>) {
    if crate::value::same(old, new) {
        return;
    }
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), below, all);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                walk(x, y, format!("{path}[{i}]"), all);
            }
        }
        _ => {
            if !old.is_null() {
                all.push(format!("- {path}: {old}"));
            }
            if !new.is_null() {
                all.push(format!("+ {path}: {new}"));
            }
        }
    }
}
