//! One walk over an incoming object: types checked, unknown fields found and pruned, the rest written as Go would write it.

use crate::types::{Arena, Node, Shape, arena};
use crate::{Type, quantity, times};
use serde_json::{Map, Value};

/// Objects nested deeper than this are refused. The types themselves nest 20 deep; only free-form fields can go further.
const DEPTH_LIMIT: usize = 1_000;

/// Upstream reports at most this many strict decoding errors (sigs.k8s.io/json).
const UNKNOWN_LIMIT: usize = 100;

/// What the walk found, beyond a value that is now clean.
#[derive(Debug, Default)]
pub struct Checked {
    /// Paths of unknown fields, as upstream writes them: `spec.template.spec.containers[0].imagee`. They have been pruned. At most 100.
    pub unknown: Vec<String>,
}

/// A value that cannot be read as its type. The message is the one a client expects of a 400:
/// `json: cannot unmarshal string into Go struct field StatefulSetSpec.spec.replicas of type int32`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct Issue {
    /// The whole message.
    pub message: String,
    /// The field's path.
    pub path: String,
}

/// Checks and cleans in place, so that the value becomes what Go's decoder and encoder would have made of it: unknown fields and nulls
/// go, as do zero values of fields that `omitempty` leaves out; quantities, times and base64 take their canonical text.
pub fn check(ty: Type, value: &mut Value) -> Result<Checked, Issue> {
    let mut walk = Walk { arena: arena(), unknown: Vec::new() };
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    walk.value(ty, value, &Frame { parent: None, step: Step::Root, depth: 0 })?;
    Ok(Checked { unknown: walk.unknown })
}

struct Walk {
    arena: &'static Arena,
    unknown: Vec<String>,
}

/// Where the walk stands: a list of steps on the stack, written out only for a message.
struct Frame<'a> {
    parent: Option<&'a Frame<'a>>,
    step: Step<'a>,
    depth: usize,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field { owner: Type, name: &'a str },
    Key(&'a str),
    Index(usize),
}

impl<'a> Frame<'a> {
    fn then(&'a self, step: Step<'a>) -> Frame<'a> {
        Frame { parent: Some(self), step, depth: self.depth + 1 }
    }

    fn steps(&self) -> Vec<Step<'_>> {
        let mut steps = vec![self.step];
        let mut at = self.parent;
        while let Some(frame) = at {
            steps.push(frame.step);
            at = frame.parent;
        }
        steps.reverse();
        steps
    }

    /// `spec.containers[0].env[1].value`
    fn path(&self) -> String {
        let mut path = String::new();
        for step in self.steps() {
            match step {
                Step::Root => {}
                Step::Field { name, .. } | Step::Key(name) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(name);
                }
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }

    /// `Go struct field EnvVar.spec.containers.env.value`, without indexes and keys, or `Go value` at the root.
    fn go_place(&self, arena: &Arena) -> String {
        let (mut owner, mut fields) = (None, Vec::new());
        for step in self.steps() {
            if let Step::Field { owner: of, name } = step {
                owner = Some(of);
                fields.push(name);
            }
        }
        let Some(owner) = owner else { return "Go value".to_owned() };
        let name = arena.node(owner).name;
        format!("Go struct field {}.{}", name.rsplit('.').next().unwrap_or(name), fields.join("."))
    }
}

impl Walk {
    fn value(&mut self, ty: Type, value: &mut Value, at: &Frame<'_>) -> Result<(), Issue> {
        if at.depth > DEPTH_LIMIT {
            return Err(Issue { message: "exceeded max depth".to_owned(), path: String::new() });
        }
        let node = self.arena.node(ty);
        match node.shape {
            Shape::Struct { .. } => match value {
                Value::Object(map) => self.object(ty, map, at),
                other => Err(self.mismatch(ty, other, at)),
            },
            Shape::Map(item) => match value {
                Value::Object(map) => self.map(item, map, at),
                other => Err(self.mismatch(ty, other, at)),
            },
            Shape::List(item) | Shape::WrappedList(item) => match value {
                Value::Array(list) => self.list(item, list, at),
                other => Err(self.mismatch(ty, other, at)),
            },
            Shape::Raw | Shape::FieldsV1 => Ok(()),
            _ => self.scalar(ty, node, value, at),
        }
    }

    /// Fields and keys are both sorted: one pass over the two.
    fn object(&mut self, ty: Type, map: &mut Map<String, Value>, at: &Frame<'_>) -> Result<(), Issue> {
        let mut fields = self.arena.fields(ty);
        let mut gone: Vec<String> = Vec::new();
        for (key, value) in map.iter_mut() {
            while fields.first().is_some_and(|f| f.name < key.as_str()) {
                fields = &fields[1..];
            }
            let keep = match fields.first().filter(|f| f.name == key.as_str()) {
                Some(_) if value.is_null() => false,
                Some(field) => {
                    self.value(field.ty, value, &at.then(Step::Field { owner: ty, name: field.name }))?;
                    !self.arena.left_out(field, value)
                }
                None => {
                    if self.unknown.len() < UNKNOWN_LIMIT {
                        self.unknown.push(at.then(Step::Key(key)).path());
                    }
                    false
                }
            };
            if !keep {
                gone.push(key.clone());
            }
        }
        for key in gone {
            map.remove(&key);
        }
        Ok(())
    }

    fn map(&mut self, item: Type, map: &mut Map<String, Value>, at: &Frame<'_>) -> Result<(), Issue> {
        for (key, value) in map.iter_mut() {
            if value.is_null() {
                *value = self.arena.zero(item);
            } else {
                self.value(item, value, &at.then(Step::Key(key)))?;
            }
        }
        Ok(())
    }

    fn list(&mut self, item: Type, list: &mut [Value], at: &Frame<'_>) -> Result<(), Issue> {
        for (index, value) in list.iter_mut().enumerate() {
            if value.is_null() {
                *value = self.arena.zero(item);
            } else {
                self.value(item, value, &at.then(Step::Index(index)))?;
            }
        }
        Ok(())
    }

    fn scalar(&mut self, ty: Type, node: Node, value: &mut Value, at: &Frame<'_>) -> Result<(), Issue> {
        let fits = match node.shape {
            Shape::Bool => value.is_boolean(),
            Shape::Int64 => value.is_i64(),
            Shape::Int32 => is_int32(value),
            Shape::IntOrString => value.is_string() || is_int32(value),
            Shape::Float => value.is_number(),
            Shape::Quantity => return self.quantity(value, at),
            _ => value.is_string(),
        };
        if !fits {
            return Err(self.mismatch(ty, value, at));
        }
        let Value::String(text) = value else { return Ok(()) };
        let changed = match node.shape {
            Shape::Bytes => base64(text),
            Shape::Time if !text.is_empty() => times::canonical(text, false),
            Shape::MicroTime if !text.is_empty() => times::canonical(text, true),
            _ => Ok(None),
        };
        match changed {
            Ok(None) => Ok(()),
            Ok(Some(new)) => {
                *text = new;
                Ok(())
            }
            Err(message) => Err(Issue { message, path: at.path() }),
        }
    }

    fn quantity(&mut self, value: &mut Value, at: &Frame<'_>) -> Result<(), Issue> {
        let fail = |message: &str| Issue { message: message.to_owned(), path: at.path() };
        let written = match value {
            Value::String(text) => quantity::canonical(text).map_err(fail)?,
            Value::Number(number) => {
                let text = number.to_string();
                Some(quantity::canonical(&text).map_err(fail)?.unwrap_or(text))
            }
            _ => return Err(fail(quantity::FORMAT)),
        };
        if let Some(text) = written {
            *value = Value::String(text);
        }
        Ok(())
    }

    fn mismatch(&self, ty: Type, value: &Value, at: &Frame<'_>) -> Issue {
        let wanted = self.arena.node(ty).shape;
        let what = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            // Go repeats a number that does not fit, but not one where something else was wanted.
            Value::Number(number) if matches!(wanted, Shape::Int32 | Shape::Int64 | Shape::IntOrString) => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        Issue { message: format!("json: cannot unmarshal {what} into {} of type {}", at.go_place(self.arena), self.arena.go_name(ty)), path: at.path() }
    }
}

fn is_int32(value: &Value) -> bool {
    value.as_i64().is_some_and(|n| i32::try_from(n).is_ok())
}

/// Go's standard encoding: padded; line breaks are skipped, and gone when written again.
fn base64(text: &str) -> Result<Option<String>, String> {
    let illegal = |at: usize| Err(format!("illegal base64 data at input byte {at}"));
    let (mut symbols, mut padding, mut breaks) = (0_usize, 0_usize, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\r' | b'\n' => breaks = true,
            b'=' if padding == 0 && symbols % 4 < 2 => return illegal(at),
            b'=' if padding > 0 && (symbols + padding) % 4 == 0 => return illegal(at),
            b'=' => padding += 1,
            _ if padding > 0 => return illegal(at),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => symbols += 1,
            _ => return illegal(at),
        }
    }
    if (symbols + padding) % 4 != 0 {
        return illegal(text.len());
    }
    Ok(breaks.then(|| text.replace(['\r', '\n'], "")))
}
