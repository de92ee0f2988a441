//! Decoding protobuf request bodies (`k8s\0` + `runtime.Unknown`). Answers are always JSON.

use crate::types::{Arena, Field, Shape, arena};
use crate::{Type, root, times, wire};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};
use wire::{Payload, Reader};

/// Upstream: apimachinery, pkg/runtime/serializer/protobuf/protobuf.go.
const MAGIC: &[u8] = b"k8s\0";

/// The types nest some 20 deep; more can only be a wrapped object inside a wrapped object.
const DEPTH_LIMIT: usize = 64;

/// Why a body is not what it says it is.
#[derive(Debug, thiserror::Error)]
pub enum ProtobufError {
    /// The four magic bytes are missing.
    #[error("the body does not begin with the protobuf magic number")]
    Magic,
    /// A kind whose field numbers are not known.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    Unknown {
        /// As sent.
        api_version: String,
        /// As sent.
        kind: String,
    },
    /// Broken bytes.
    #[error("protobuf: {0}")]
    Malformed(String),
}

impl From<wire::Broken> for ProtobufError {
    fn from(broken: wire::Broken) -> Self {
        Self::Malformed(broken.0.to_owned())
    }
}

type Result<T> = std::result::Result<T, ProtobufError>;

/// Decodes to the JSON form, `apiVersion` and `kind` included, default-valued fields omitted as Go's JSON would (`omitempty`).
pub fn decode(body: &[u8]) -> Result<Value> {
    Decoder { arena: arena() }.envelope(body, 0)
}

struct Decoder {
    arena: &'static Arena,
}

impl Decoder {
    /// `runtime.Unknown`: 1 typeMeta {1 apiVersion, 2 kind}, 2 raw, 3 contentEncoding, 4 contentType.
    fn envelope(&self, body: &[u8], depth: usize) -> Result<Value> {
        let body = body.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?;
        let (mut api_version, mut kind, mut raw, mut content_type) = (String::new(), String::new(), &[][..], String::new());
        let mut reader = Reader::new(body);
        while let Some((number, payload)) = reader.next()? {
            match number {
                1 => {
                    let mut inner = Reader::new(payload.bytes()?);
                    while let Some((number, payload)) = inner.next()? {
                        match number {
                            1 => api_version = text(payload)?,
                            2 => kind = text(payload)?,
                            _ => {}
                        }
                    }
                }
                2 => raw = payload.bytes()?,
                4 => content_type = text(payload)?,
                _ => {}
            }
        }
        if content_type == "application/json" {
            return serde_json::from_slice(raw).map_err(|e| ProtobufError::Malformed(e.to_string()));
        }
        let Some(ty) = root(&api_version, &kind) else { return Err(ProtobufError::Unknown { api_version, kind }) };
        let mut object = Map::new();
        self.message(ty, raw, &mut object, depth)?;
        object.insert("apiVersion".to_owned(), Value::String(api_version));
        object.insert("kind".to_owned(), Value::String(kind));
        Ok(Value::Object(object))
    }

    fn message(&self, ty: Type, bytes: &[u8], object: &mut Map<String, Value>, depth: usize) -> Result<()> {
        if depth > DEPTH_LIMIT {
            return Err(ProtobufError::Malformed("exceeded max depth".to_owned()));
        }
        let mut reader = Reader::new(bytes);
        while let Some((number, payload)) = reader.next()? {
            // Numbers start at 1; 0 marks fields that the message does not have.
            if number == 0 {
                return Err(ProtobufError::Malformed("field number 0".to_owned()));
            }
            if let Some(field) = self.arena.fields(ty).iter().find(|f| u64::from(f.number) == number) {
                self.field(field, payload, object, depth)?;
            } else if let Some((_, inline)) = self.arena.inlines(ty).iter().find(|(n, _)| u64::from(*n) == number) {
                self.message(*inline, payload.bytes()?, object, depth + 1)?;
            }
        }
        for field in self.arena.fields(ty) {
            if object.get(field.name).is_some_and(|v| v.is_null() || self.arena.left_out(field, v)) {
                object.remove(field.name);
            }
        }
        Ok(())
    }

    /// A list or map grows with every occurrence, a message merges, anything else is replaced.
    fn field(&self, field: &Field, payload: Payload<'_>, object: &mut Map<String, Value>, depth: usize) -> Result<()> {
        let slot = object.entry(field.name).or_insert(Value::Null);
        match self.arena.node(field.ty).shape {
            Shape::List(item) => {
                if slot.is_null() {
                    *slot = Value::Array(Vec::new());
                }
                let Value::Array(list) = slot else { return Ok(()) };
                match (self.arena.node(item).shape, payload) {
                    (Shape::Int32 | Shape::Int64 | Shape::Bool, Payload::Bytes(packed)) => {
                        let mut reader = Reader::new(packed);
                        while !reader.is_empty() {
                            list.push(self.value(item, Payload::Varint(reader.varint()?), depth + 1)?);
                        }
                    }
                    _ => list.push(self.value(item, payload, depth + 1)?),
                }
            }
            Shape::Map(item) => {
                if slot.is_null() {
                    *slot = Value::Object(Map::new());
                }
                let (key, value) = self.entry(item, payload.bytes()?, depth)?;
                if let Value::Object(map) = slot {
                    map.insert(key, value);
                }
            }
            Shape::Struct { .. } => {
                if slot.is_null() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(inner) = slot {
                    self.message(field.ty, payload.bytes()?, inner, depth + 1)?;
                }
            }
            _ => *slot = self.value(field.ty, payload, depth + 1)?,
        }
        Ok(())
    }

    /// A map's entry: 1 key, 2 value; what is missing is zero.
    fn entry(&self, item: Type, bytes: &[u8], depth: usize) -> Result<(String, Value)> {
        let (mut key, mut value) = (String::new(), None);
        let mut reader = Reader::new(bytes);
        while let Some((number, payload)) = reader.next()? {
            match number {
                1 => key = text(payload)?,
                2 => value = Some(self.value(item, payload, depth + 1)?),
                _ => {}
            }
        }
        Ok((key, value.unwrap_or_else(|| self.arena.zero(item))))
    }

    fn value(&self, ty: Type, payload: Payload<'_>, depth: usize) -> Result<Value> {
        Ok(match self.arena.node(ty).shape {
            Shape::Struct { .. } => {
                let mut object = Map::new();
                self.message(ty, payload.bytes()?, &mut object, depth)?;
                Value::Object(object)
            }
            Shape::WrappedList(item) | Shape::List(item) => {
                let mut list = Vec::new();
                let mut reader = Reader::new(payload.bytes()?);
                while let Some((number, payload)) = reader.next()? {
                    if number == 1 {
                        list.push(self.value(item, payload, depth + 1)?);
                    }
                }
                Value::Array(list)
            }
            Shape::Map(_) => return Err(ProtobufError::Malformed("a map inside a map".to_owned())),
            Shape::String => Value::String(text(payload)?),
            Shape::Bytes => Value::String(STANDARD.encode(payload.bytes()?)),
            Shape::Int32 => Value::from(payload.varint()? as i32),
            Shape::Int64 => Value::from(payload.varint()? as i64),
            Shape::Bool => Value::from(payload.varint()? != 0),
            Shape::Float => Value::from(payload.double()?),
            shape => self.special(shape, payload.bytes()?, depth)?,
        })
    }

    /// Types whose JSON is not the form of their message.
    fn special(&self, shape: Shape, bytes: &[u8], depth: usize) -> Result<Value> {
        let (mut first, mut second, mut content) = (0_i64, 0_i64, &[][..]);
        let mut reader = Reader::new(bytes);
        while let Some((number, payload)) = reader.next()? {
            match (number, payload) {
                (1, Payload::Varint(n)) => first = n as i64,
                (2, Payload::Varint(n)) => second = n as i64,
                (1 | 3, Payload::Bytes(bytes)) => content = bytes,
                _ => {}
            }
        }
        Ok(match shape {
            // An empty message is Go's zero time, which is null in JSON.
            Shape::Time | Shape::MicroTime if bytes.is_empty() => Value::Null,
            Shape::Time | Shape::MicroTime => {
                let micro = shape == Shape::MicroTime;
                let time = Timestamp::new(first, if micro { second as i32 } else { 0 }).map_err(|e| ProtobufError::Malformed(e.to_string()))?;
                Value::String(times::print(time, micro))
            }
            Shape::IntOrString if first == 0 => Value::from(second as i32),
            Shape::IntOrString => Value::String(utf8(content)?),
            Shape::Quantity if content.is_empty() => Value::from("0"),
            Shape::Quantity => Value::String(utf8(content)?),
            Shape::Raw if content.starts_with(MAGIC) => self.envelope(content, depth + 1)?,
            Shape::Raw | Shape::FieldsV1 if content.is_empty() => Value::Null,
            Shape::Raw | Shape::FieldsV1 => serde_json::from_slice(content).map_err(|e| ProtobufError::Malformed(e.to_string()))?,
            _ => Value::String(format!("{}ns", first)),
        })
    }
}

fn text(payload: Payload<'_>) -> Result<String> {
    utf8(payload.bytes()?)
}

fn utf8(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtobufError::Malformed("a string is not UTF-8".to_owned()))
}
