//! A compact, shared picture of every type, which `walk`, `openapi`, `protobuf` and the patches read.

use crate::facts::{self, Line};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::OnceLock;

/// A type in the picture: copyable, 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Type(pub(crate) u32);

/// What a value of the type must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeKind {
    /// JSON object with known fields.
    Struct,
    /// JSON object with free keys and one type of value.
    Map,
    /// JSON array.
    List,
    /// JSON string (also quantities, times, base64 bytes; see `walk`).
    String,
    /// 32- or 64-bit integer.
    Integer,
    /// Any JSON number.
    Number,
    /// true or false.
    Boolean,
    /// IntOrString.
    IntOrString,
    /// Quantity: a string or a number, kept canonical as a string.
    Quantity,
    /// Anything (RawExtension, JSON).
    Any,
}

/// How strategic merge patch treats a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeStrategy {
    /// `x-kubernetes-patch-strategy` has `merge`.
    pub merge: bool,
    /// … has `retainKeys`.
    pub retain_keys: bool,
    /// … has `replace`: even a map is replaced as a whole.
    pub replace: bool,
    /// `x-kubernetes-patch-merge-key`, for lists of objects.
    pub merge_key: Option<&'static str>,
}

/// What server-side apply and OpenAPI say of a list or map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListType {
    /// `atomic`, `set`, `map`, `granular`, or empty.
    pub name: &'static str,
    /// Keys of a `map` list, comma-separated.
    pub keys: &'static str,
}

/// A type's form, more exact than [`TypeKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Struct { first: u32, len: u32, inline_first: u32, inline_len: u32 },
    Map(Type),
    List(Type),
    /// A list that protobuf wraps in a message of its own.
    WrappedList(Type),
    String,
    Bytes,
    Time,
    MicroTime,
    Duration,
    Int32,
    Int64,
    Float,
    Bool,
    IntOrString,
    Quantity,
    Raw,
    FieldsV1,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) shape: Shape,
    /// A struct's name in the table (`core/v1.PodSpec`), Go's name of a named scalar, list or map (`v1.PullPolicy`), or empty.
    pub(crate) name: &'static str,
}

/// A field of a struct, inlined ones lifted into it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) ty: Type,
    /// Protobuf number in the struct's own message; 0 where the field was lifted.
    pub(crate) number: u16,
    pub(crate) pointer: bool,
    /// Go leaves the zero value out.
    pub(crate) omit_empty: bool,
    /// … of a struct too.
    pub(crate) omit_zero: bool,
    /// Index into `Arena::extras`; 0 is "nothing special".
    extra: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Extra {
    merge: MergeStrategy,
    list: ListType,
}

/// All of it. Structs come first, sorted by name.
pub(crate) struct Arena {
    pub(crate) nodes: Vec<Node>,
    pub(crate) structs: usize,
    fields: Vec<Field>,
    /// Inlined messages: protobuf number and type.
    inlines: Vec<(u16, Type)>,
    extras: Vec<Extra>,
}

/// The picture, built when first asked for.
pub(crate) fn arena() -> &'static Arena {
    static ARENA: OnceLock<Arena> = OnceLock::new();
    ARENA.get_or_init(Arena::build)
}

/// API groups and their packages upstream.
const GROUPS: &[(&str, &str)] = &[
    ("", "core"),
    ("admissionregistration.k8s.io", "admissionregistration"),
    ("apps", "apps"),
    ("authentication.k8s.io", "authentication"),
    ("authorization.k8s.io", "authorization"),
    ("autoscaling", "autoscaling"),
    ("batch", "batch"),
    ("certificates.k8s.io", "certificates"),
    ("coordination.k8s.io", "coordination"),
    ("discovery.k8s.io", "discovery"),
    ("events.k8s.io", "events"),
    ("meta.k8s.io", "meta"),
    ("networking.k8s.io", "networking"),
    ("node.k8s.io", "node"),
    ("policy", "policy"),
    ("rbac.authorization.k8s.io", "rbac"),
    ("scheduling.k8s.io", "scheduling"),
    ("storage.k8s.io", "storage"),
];


/// The type of a whole object, by `apiVersion` and `kind`. Request bodies of `meta/v1` (`DeleteOptions`, `Status`, …) are known in
/// every group-version, as upstream registers them.
pub fn root(api_version: &str, kind: &str) -> Option<Type> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let arena = arena();
    let package = GROUPS.iter().find(|(g, _)| *g == group).map(|(_, p)| *p);
    let own = package.and_then(|package| arena.find(package, version, kind));
    let ty = own.or_else(|| matches!(kind, "DeleteOptions" | "Status" | "ListOptions" | "PatchOptions" | "UpdateOptions" | "CreateOptions" | "GetOptions").then(|| arena.find("meta", "v1", kind)).flatten())?;
    // Every kind embeds TypeMeta; what does not is a part of one.
    arena.field(ty, "apiVersion").filter(|f| f.number == 0)?;
    Some(ty)
}

impl Arena {
    fn build() -> Self {
        let table: Vec<(&'static str, Vec<Line>)> = facts::structs().collect();
        let mut builder = Builder {
            arena: Self {
                nodes: table.iter().map(|(name, _)| Node { shape: Shape::Raw, name }).collect(),
                structs: table.len(),
                fields: Vec::with_capacity(2600),
                inlines: Vec::new(),
                extras: vec![Extra::default()],
            },
            by_text: table.iter().enumerate().map(|(i, (name, _))| (*name, Type(i as u32))).collect(),
            table: &table,
        };
        for index in 0..table.len() {
            builder.add_struct(index);
        }
        let mut arena = builder.arena;
        arena.nodes.shrink_to_fit();
        arena.fields.shrink_to_fit();
        arena
    }

    pub(crate) fn node(&self, ty: Type) -> Node {
        self.nodes[ty.0 as usize]
    }

    /// Fields of a struct, sorted by JSON name; empty for anything else.
    pub(crate) fn fields(&self, ty: Type) -> &[Field] {
        match self.node(ty).shape {
            Shape::Struct { first, len, .. } => &self.fields[first as usize..(first + len) as usize],
            _ => &[],
        }
    }

    pub(crate) fn inlines(&self, ty: Type) -> &[(u16, Type)] {
        match self.node(ty).shape {
            Shape::Struct { inline_first, inline_len, .. } => &self.inlines[inline_first as usize..(inline_first + inline_len) as usize],
            _ => &[],
        }
    }

    pub(crate) fn field(&self, ty: Type, name: &str) -> Option<&Field> {
        let fields = self.fields(ty);
        fields.binary_search_by(|f| f.name.cmp(name)).ok().map(|i| &fields[i])
    }

    pub(crate) fn merge_strategy(&self, field: &Field) -> MergeStrategy {
        self.extras[field.extra as usize].merge
    }

    pub(crate) fn list_type(&self, field: &Field) -> ListType {
        self.extras[field.extra as usize].list
    }

    fn find(&self, package: &str, version: &str, kind: &str) -> Option<Type> {
        let name = format!("{package}/{version}.{kind}");
        let found = self.nodes[..self.structs].binary_search_by(|n| n.name.cmp(name.as_str())).ok()?;
        Some(Type(found as u32))
    }

    /// What Go's `omitempty` leaves out: the zero value of anything but a pointer or a struct. An `IntOrString` of 0 or "" counts as left
    /// out too: upstream's defaults do not tell it from an absent one.
    pub(crate) fn left_out(&self, field: &Field, value: &Value) -> bool {
        if !field.omit_empty || matches!(self.node(field.ty).shape, Shape::Struct { .. } | Shape::Raw | Shape::FieldsV1 | Shape::Quantity) {
            return false;
        }
        match value {
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ if field.pointer => false,
            Value::String(text) => text.is_empty(),
            Value::Bool(set) => !set,
            Value::Number(number) => number.as_i64() == Some(0),
            Value::Null => true,
        }
    }

    /// What Go leaves in place of a null inside a list or map.
    pub(crate) fn zero(&self, ty: Type) -> Value {
        match self.node(ty).shape {
            Shape::Struct { .. } => Value::Object(Map::new()),
            Shape::Int32 | Shape::Int64 | Shape::Float | Shape::IntOrString => Value::from(0),
            Shape::Bool => Value::Bool(false),
            Shape::Quantity => Value::from("0"),
            Shape::String | Shape::Bytes => Value::from(""),
            _ => Value::Null,
        }
    }

    /// Go's `reflect.Type.String()`, as it stands in decoding errors.
    pub(crate) fn go_name(&self, ty: Type) -> String {
        let node = self.node(ty);
        match node.shape {
            Shape::Struct { .. } => node.name.rsplit('/').next().unwrap_or(node.name).to_owned(),
            _ if !node.name.is_empty() => node.name.to_owned(),
            Shape::Map(item) => format!("map[string]{}", self.go_name(item)),
            Shape::List(item) | Shape::WrappedList(item) => format!("[]{}", self.go_name(item)),
            Shape::Bytes => "[]uint8".to_owned(),
            Shape::Int64 => "int64".to_owned(),
            Shape::Int32 | Shape::IntOrString => "int32".to_owned(),
            Shape::Float => "float64".to_owned(),
            Shape::Bool => "bool".to_owned(),
            Shape::Raw | Shape::FieldsV1 => "runtime.RawExtension".to_owned(),
            Shape::String | Shape::Time | Shape::MicroTime | Shape::Duration | Shape::Quantity => "string".to_owned(),
        }
    }
}

struct Builder<'a> {
    arena: Arena,
    by_text: HashMap<&'static str, Type>,
    table: &'a [(&'static str, Vec<Line>)],
}

impl Builder<'_> {
    fn add_struct(&mut self, index: usize) {
        let inline_first = self.arena.inlines.len();
        for line in &self.table[index].1 {
            if line.json.is_empty() {
                let ty = self.type_of(line.ty);
                self.arena.inlines.push((line.number, ty));
            }
        }
        let inline_len = self.arena.inlines.len() - inline_first;
        let mut fields = Vec::new();
        self.lift(index, false, &mut fields);
        fields.sort_unstable_by_key(|f| f.name);
        let first = self.arena.fields.len();
        self.arena.fields.append(&mut fields);
        self.arena.nodes[index].shape = Shape::Struct {
            first: first as u32,
            len: (self.arena.fields.len() - first) as u32,
            inline_first: inline_first as u32,
            inline_len: inline_len as u32,
        };
    }

    /// The fields of a struct and of what it inlines.
    fn lift(&mut self, index: usize, lifted: bool, into: &mut Vec<Field>) {
        let table = self.table;
        for line in &table[index].1 {
            let ty = self.type_of(line.ty);
            if line.json.is_empty() {
                self.lift(ty.0 as usize, true, into);
                continue;
            }
            into.push(Field {
                name: line.json,
                ty,
                number: if lifted { 0 } else { line.number },
                pointer: line.flags.contains('p'),
                omit_empty: line.flags.contains(['o', 'z']),
                omit_zero: line.flags.contains('z'),
                extra: self.extra(line),
            });
        }
    }

    fn extra(&mut self, line: &Line) -> u16 {
        let extra = Extra {
            merge: MergeStrategy {
                merge: line.strategy.split(',').any(|s| s == "merge"),
                retain_keys: line.strategy.contains("retainKeys"),
                replace: line.strategy.split(',').any(|s| s == "replace"),
                merge_key: (!line.merge_key.is_empty()).then_some(line.merge_key),
            },
            list: ListType { name: line.list_type, keys: line.list_keys },
        };
        let extras = &mut self.arena.extras;
        let at = extras.iter().position(|e| *e == extra).unwrap_or_else(|| {
            extras.push(extra);
            extras.len() - 1
        });
        at as u16
    }

    fn type_of(&mut self, text: &'static str) -> Type {
        if let Some(ty) = self.by_text.get(text) {
            return *ty;
        }
        let (body, name) = text.split_once('@').or_else(|| (!text.starts_with(['[', '{', '('])).then(|| text.split_once('=')).flatten()).unwrap_or((text, ""));
        let shape = if let Some(item) = body.strip_prefix("[]") {
            Shape::List(self.type_of(item))
        } else if body.starts_with("{}()") {
            // The name belongs to the inner, wrapped list.
            Shape::Map(self.type_of(&text[2..]))
        } else if let Some(item) = body.strip_prefix("{}") {
            Shape::Map(self.type_of(item))
        } else if let Some(item) = body.strip_prefix("()") {
            Shape::WrappedList(self.type_of(item))
        } else {
            scalar(body)
        };
        let name = if body.starts_with("{}()") { "" } else { name };
        let ty = Type(self.arena.nodes.len() as u32);
        self.arena.nodes.push(Node { shape, name });
        self.by_text.insert(text, ty);
        ty
    }
}

fn scalar(name: &str) -> Shape {
    match name {
        "bytes" => Shape::Bytes,
        "time" => Shape::Time,
        "microtime" => Shape::MicroTime,
        "duration" => Shape::Duration,
        "int32" => Shape::Int32,
        "int64" => Shape::Int64,
        "float64" => Shape::Float,
        "bool" => Shape::Bool,
        "intorstring" => Shape::IntOrString,
        "quantity" => Shape::Quantity,
        "raw" => Shape::Raw,
        "fields" => Shape::FieldsV1,
        _ => Shape::String,
    }
}

impl Type {
    /// What a value must be.
    pub fn kind(self) -> TypeKind {
        match arena().node(self).shape {
            Shape::Struct { .. } => TypeKind::Struct,
            Shape::Map(_) => TypeKind::Map,
            Shape::List(_) | Shape::WrappedList(_) => TypeKind::List,
            Shape::String | Shape::Bytes | Shape::Time | Shape::MicroTime | Shape::Duration => TypeKind::String,
            Shape::Int32 | Shape::Int64 => TypeKind::Integer,
            Shape::Float => TypeKind::Number,
            Shape::Bool => TypeKind::Boolean,
            Shape::IntOrString => TypeKind::IntOrString,
            Shape::Quantity => TypeKind::Quantity,
            Shape::Raw | Shape::FieldsV1 => TypeKind::Any,
        }
    }

    /// The type of a struct's field, or of any value of a map.
    pub fn field(self, name: &str) -> Option<Type> {
        let arena = arena();
        match arena.node(self).shape {
            Shape::Map(value) => Some(value),
            _ => arena.field(self, name).map(|f| f.ty),
        }
    }

    /// The type of a list's items.
    pub fn items(self) -> Option<Type> {
        match arena().node(self).shape {
            Shape::List(item) | Shape::WrappedList(item) => Some(item),
            _ => None,
        }
    }

    /// How a strategic merge patch treats the named field of this struct.
    pub fn merge_strategy(self, field: &str) -> MergeStrategy {
        let arena = arena();
        arena.field(self, field).map(|f| arena.merge_strategy(f)).unwrap_or_default()
    }

    /// List type and list map keys of the named field of this struct.
    pub fn list_type(self, field: &str) -> ListType {
        let arena = arena();
        arena.field(self, field).map(|f| arena.list_type(f)).unwrap_or_default()
    }

    /// Go's name: `v1.PodSpec`, `[]v1.Container`, `int32`.
    pub fn go_name(self) -> String {
        arena().go_name(self)
    }
}
