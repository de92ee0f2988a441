//! Pod templates: the form in which Go writes them, whether two are the same, their hash.

use serde_json::Value;

/// Label of a Deployment's ReplicaSets and their pods.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";

/// Brings a template into the form in which Go writes it: what `omitempty` leaves out is not there, what Go always writes (`resources` of a
/// container, a divisor of "0", `metadata`) is; `creationTimestamp` never (1.34 and later).
pub(crate) fn as_go_writes(template: &mut Value) {
    let Some(ty) = mainstay_schema::root("apps/v1", "StatefulSet").and_then(|set| set.field("spec")?.field("template")) else { return };
    if let Err(issue) = mainstay_schema::check(ty, template) {
        tracing::warn!(%issue, "a template that the API server let pass does not fit its type");
    }
    mainstay_schema::fill(ty, template);
}

/// Go's `json.Marshal`: sorted keys, no spaces, `<`, `>`, `&` and two line separators escaped.
pub(crate) fn go_json(value: &Value) -> String {
    let text = value.to_string();
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A number's decimal digits in an alphabet without vowels, so that no name reads as a word. Upstream: `rand.SafeEncodeString`.
pub(crate) fn safe_encode(number: u32) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    number.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

/// A template as it is compared: without the hash that a Deployment adds. `object` is a Deployment or a ReplicaSet.
pub(crate) fn comparable(object: &Value) -> Value {
    let mut template = object["spec"]["template"].clone();
    as_go_writes(&mut template);
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH_LABEL);
    }
    template
}

/// The hash of a template, FNV-1a, 32 bits; with the collision count, if there is one, as eight bytes after it.
///
/// Upstream (`ComputeHash`, pkg/controller/controller_utils.go) hashes a dump of the Go structures, which changes with every version that adds a
/// field; nothing but the name follows from it, since templates are compared and not hashes. Ours hashes Go's JSON.
pub(crate) fn hash(template: &Value, collision_count: Option<i32>) -> String {
    let text = go_json(template);
    let count = collision_count.map(|count| u64::from(count.unsigned_abs()).to_le_bytes());
    let bytes = text.bytes().chain(count.into_iter().flatten());
    safe_encode(bytes.fold(0x811c_9dc5_u32, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_go_escapes_is_escaped_before_hashing() {
        assert_eq!(go_json(&json!({"b": "<a&b>", "a": 1})), r#"{"a":1,"b":"\u003ca\u0026b\u003e"}"#);
    }

    #[test]
    fn a_hash_depends_on_the_template_and_on_collisions() {
        let (one, other) = (json!({"a": 1}), json!({"a": 2}));
        assert_ne!(hash(&one, None), hash(&other, None));
        assert_ne!(hash(&one, Some(0)), hash(&one, Some(1)));
        assert!(hash(&one, None).bytes().all(|byte| b"456789bcdf".contains(&byte)), "ten digits make ten letters");
    }
}
