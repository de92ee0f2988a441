//! A request's body to one `Value`, whatever it was written in; duplicate keys are noticed on the way.

use crate::status::Failure;
use http::{HeaderMap, header};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::RefCell;
use std::fmt;

/// Nested objects and lists in a body; 10,000 upstream. Built-in kinds need less than 30, and every walk over a value is recursive: 10,000
/// frames do not fit a worker's stack. Just below serde_json's own bound of 128.
const DEPTH_LIMIT: usize = 120;

/// Duplicate keys that are reported; the rest of a hostile body is only counted as bad.
const DUPLICATES_LIMIT: usize = 100;

/// Content types of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MediaType {
    Json,
    Yaml,
    Protobuf,
}

impl MediaType {
    /// Without a Content-Type it is JSON: `kubectl scale --current-replicas` sends none.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        match essence(headers).as_deref() {
            None | Some("" | "application/json" | "*/*") => Ok(Self::Json),
            Some("application/yaml") => Ok(Self::Yaml),
            Some("application/vnd.kubernetes.protobuf") => Ok(Self::Protobuf),
            Some(_) => Err(Failure::unsupported_media_type("application/json, application/yaml, application/vnd.kubernetes.protobuf")),
        }
    }
}

/// The Content-Type without parameters, in lower case.
pub(crate) fn essence(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().unwrap_or("?");
    Some(value.split(';').next().unwrap_or("").trim().to_ascii_lowercase())
}

/// A decoded body.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// What it says; of a duplicate key the last value.
    pub(crate) value: Value,
    /// Paths of duplicate keys: `spec.replicas`.
    pub(crate) duplicates: Vec<String>,
}

/// Why a body is not a value; the message without a prefix.
pub(crate) type Broken = String;

/// Decodes a whole body.
pub(crate) fn decode(body: &[u8], media_type: MediaType) -> Result<Decoded, Broken> {
    match media_type {
        MediaType::Json => json(body),
        MediaType::Yaml => yaml(body),
        MediaType::Protobuf => match mainstay_schema::decode_protobuf(body) {
            Ok(value) => Ok(Decoded { value, duplicates: Vec::new() }),
            Err(error) => Err(error.to_string()),
        },
    }
}

/// Decodes JSON.
pub(crate) fn json(body: &[u8]) -> Result<Decoded, Broken> {
    let found = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = Tree { path: &Path::Root, found: &found, depth: 0 }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| {
            let text = error.to_string();
            if text.starts_with("recursion limit") { "exceeded max depth".to_owned() } else { text }
        })?;
    Ok(Decoded { value, duplicates: found.into_inner() })
}

/// Decodes one YAML document within bounds on depth, nodes and aliases.
fn yaml(body: &[u8]) -> Result<Decoded, Broken> {
    let text = std::str::from_utf8(body).map_err(|_| "yaml: invalid UTF-8".to_owned())?;
    let mut budget = serde_saphyr::Budget::default();
    budget.max_depth = DEPTH_LIMIT;
    budget.flow_nesting_limit = DEPTH_LIMIT;
    budget.max_documents = 1;
    budget.max_aliases = 1_000;
    budget.max_recorded_anchor_events = 100_000;
    let mut options = serde_saphyr::Options::default();
    options.budget = Some(budget);
    options.alias_limits.max_total_replayed_events = 100_000;
    options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::PassThrough;
    options.with_snippet = false;
    let found = RefCell::new(Vec::new());
    let seed = Tree { path: &Path::Root, found: &found, depth: 0 };
    let value = serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| seed.deserialize(deserializer));
    let value = value.map_err(|error| yaml_words(&error.to_string()))?;
    Ok(Decoded { value, duplicates: found.into_inner() })
}

/// Upstream's words where a bound was passed. The library wraps its errors in where they were found, so their text is what tells them apart.
fn yaml_words(text: &str) -> String {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match () {
        () if says(&["RecordedAnchor", "Aliases", "AliasAnchorRatio", "alias expansion", "alias replay"]) => "yaml: document contains excessive aliasing".to_owned(),
        () if says(&["Depth", "depth", "nest", "recursion"]) => "yaml: exceeded max depth".to_owned(),
        () => format!("yaml: {text}"),
    }
}

/// Where the walk is, as links on the stack: costs nothing until a duplicate is found.
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Key(Path::Root, key) => f.write_str(key),
            Path::Key(parent, key) => write!(f, "{parent}.{key}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Builds a `Value`, collecting duplicate keys.
#[derive(Clone, Copy)]
struct Tree<'a> {
    path: &'a Path<'a>,
    found: &'a RefCell<Vec<String>>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Tree<'_> {
    fn deeper<E: de::Error>(&self) -> Result<usize, E> {
        if self.depth >= DEPTH_LIMIT { Err(E::custom("exceeded max depth")) } else { Ok(self.depth + 1) }
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Tree { path: &Path::Index(self.path, list.len()), found: self.found, depth })? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let path = Path::Key(self.path, &key);
            let value = entries.next_value_seed(Tree { path: &path, found: self.found, depth })?;
            if map.contains_key(&key) && self.found.borrow().len() < DUPLICATES_LIMIT {
                let place = path.to_string();
                self.found.borrow_mut().push(place);
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(body: &str, media_type: MediaType) -> String {
        match decode(body.as_bytes(), media_type) {
            Ok(decoded) => format!("{} {:?}", decoded.value, decoded.duplicates),
            Err(why) => format!("error: {why}"),
        }
    }

    #[test]
    fn duplicate_keys_are_found_and_the_last_one_stands() {
        for media_type in [MediaType::Json, MediaType::Yaml] {
            let body = r#"{"spec": {"a": 1, "l": [{"x": 1, "x": 2}], "a": 2}, "b": null}"#;
            assert_eq!(show(body, media_type), r#"{"b":null,"spec":{"a":2,"l":[{"x":2}]}} ["spec.l[0].x", "spec.a"]"#);
        }
    }

    #[test]
    fn yaml_reads_as_json_does() {
        let body = "apiVersion: v1\nkind: Pod\nlist:\n- 1\n- 1.5\n- \"1\"\n- true\n- null\n- ~\ntext: |\n  a\n  b\n";
        assert_eq!(show(body, MediaType::Yaml), r#"{"apiVersion":"v1","kind":"Pod","list":[1,1.5,"1",true,null,null],"text":"a\nb\n"} []"#);
    }

    #[test]
    fn what_is_broken_deep_or_huge_is_said_so() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        let bomb = {
            let mut text = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
            for (next, last) in ('b'..='i').zip('a'..) {
                text += &format!("{next}: &{next} [*{last},*{last},*{last},*{last},*{last},*{last},*{last},*{last},*{last},*{last}]\n");
            }
            text
        };
        let block: String = (0..5000).map(|n| format!("{}a:\n", " ".repeat(n % 1000))).collect();
        let table = [
            (MediaType::Json, deep(11_000), "exceeded max depth"),
            (MediaType::Json, "{\"a\":1}x".to_owned(), "trailing characters"),
            (MediaType::Json, String::new(), "EOF"),
            (MediaType::Json, "{\"a\":1e400}".to_owned(), "number out of range"),
            (MediaType::Yaml, deep(11_000), "exceeded max depth"),
            (MediaType::Yaml, bomb, "excessive aliasing"),
            (MediaType::Yaml, block, "yaml: "),
        ];
        for (media_type, body, expected) in table {
            let start = std::time::Instant::now();
            let shown = show(&body, media_type);
            assert!(shown.starts_with("error: ") && shown.contains(expected), "{expected}: {}", &shown[..shown.len().min(300)]);
            assert!(start.elapsed().as_secs() < 2, "{expected} took {:?}", start.elapsed());
        }
    }
}
