use serde_json::Value;

/// Why a patch cannot be applied. `Display` is the message a client sees.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// 400: the patch is not a patch.
    #[error("{0}")]
    Malformed(String),
    /// 422: it is one, but does not fit this object (a JSON patch `test` that fails, a path that is not there).
    #[error("{0}")]
    Unprocessable(String),
    /// 413: past a stated limit.
    #[error("{0}")]
    TooLarge(String),
}

/// What is quoted of a value in a message, at most.
const QUOTE_LIMIT: usize = 1_000;

/// A value as Go's `%v` prints it: `map[name:a ports:[1 2]]`. Cut when long.
pub(crate) fn go_value(value: &Value) -> String {
    let mut text = String::new();
    write_go(value, &mut text);
    if text.len() > QUOTE_LIMIT {
        let end = (0..=QUOTE_LIMIT).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn write_go(value: &Value, text: &mut String) {
    if text.len() > QUOTE_LIMIT {
        return;
    }
    match value {
        Value::Null => text.push_str("<nil>"),
        Value::Bool(set) => text.push_str(if *set { "true" } else { "false" }),
        Value::Number(number) => text.push_str(&number.to_string()),
        Value::String(string) => text.push_str(string),
        Value::Array(list) => {
            text.push('[');
            for (at, item) in list.iter().enumerate() {
                if at > 0 {
                    text.push(' ');
                }
                write_go(item, text);
            }
            text.push(']');
        }
        Value::Object(map) => {
            text.push_str("map[");
            for (at, (key, item)) in map.iter().enumerate() {
                if at > 0 {
                    text.push(' ');
                }
                text.push_str(key);
                text.push(':');
                write_go(item, text);
            }
            text.push(']');
        }
    }
}

/// Go's name of a decoded value's type.
pub(crate) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
