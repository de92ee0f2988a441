//! `components.schemas`: what `k8s-openapi` says, put into the form that upstream publishes, with merge keys and list types.

use super::kinds::{self, Described};
use super::{GroupVersion, paths};
use crate::Type;
use crate::types::{Field, Shape, arena};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

const PREFIX: &str = "#/components/schemas/";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// A generator that names things as upstream does.
fn generator() -> SchemaGenerator {
    let mut settings = SchemaSettings::openapi3();
    settings.meta_schema = None;
    settings.transforms.clear();
    settings.into_generator()
}

/// Schemas of all kinds of the group-version, of their lists, and of everything these need.
pub(super) fn components(gv: &GroupVersion<'_>) -> Value {
    let mut generator = generator();
    let mut roots: Vec<&Described> = gv.kinds.iter().filter_map(|o| kinds::find(gv.group, gv.version, o.kind)).collect();
    let bodies = gv.kinds.iter().flat_map(|o| o.subresources.iter().filter_map(|s| paths::body_of(s)));
    for body in bodies.filter_map(|(group, version, kind)| kinds::find(group, version, kind)) {
        if !roots.iter().any(|r| std::ptr::eq(*r, body)) {
            roots.push(body);
        }
    }
    let names: Vec<String> = roots.iter().map(|r| referenced(&(r.describe)(&mut generator).to_value())).collect();
    generator.subschema_for::<meta::Status>();
    generator.subschema_for::<meta::DeleteOptions>();
    generator.subschema_for::<meta::Patch>();
    generator.subschema_for::<meta::ListMeta>();
    let mut schemas = generator.take_definitions(false);
    for (name, schema) in &mut schemas {
        publish(name, schema);
    }
    for (root, name) in roots.iter().zip(&names) {
        let own = root.group == gv.group && root.version == gv.version;
        if own && gv.kinds.iter().any(|o| o.kind == root.kind) {
            schemas.insert(format!("{name}List"), list(root, name));
        }
        if let Some(Value::Object(schema)) = schemas.get_mut(name) {
            schema.insert("x-kubernetes-group-version-kind".to_owned(), json!([gvk(root.group, root.version, root.kind)]));
        }
    }
    for kind in ["Status", "DeleteOptions"] {
        if let Some(Value::Object(schema)) = schemas.get_mut(&format!("{META}{kind}")) {
            schema.insert("x-kubernetes-group-version-kind".to_owned(), json!([gvk("", "v1", kind), gvk(gv.group, gv.version, kind)]));
        }
    }
    Value::Object(schemas)
}

/// The name a component has, by the reference to it.
pub(super) fn component_name(group: &str, version: &str, kind: &str) -> Option<String> {
    let described = kinds::find(group, version, kind)?;
    // Describing a kind is the only way to ask its name without naming its type again.
    let package = if group.is_empty() { "core" } else { group.split('.').next().unwrap_or(group) };
    Some(format!("io.k8s.api.{package}.{}.{}", described.version, described.kind))
}

pub(super) fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn referenced(reference: &Value) -> String {
    reference["$ref"].as_str().and_then(|r| r.strip_prefix(PREFIX)).unwrap_or_default().to_owned()
}

fn list(root: &Described, name: &str) -> Value {
    json!({
        "type": "object",
        "description": format!("{}List is a list of {} objects.", root.kind, root.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"allOf": [{"$ref": format!("{PREFIX}{META}ListMeta")}], "default": {}},
            "items": {"type": "array", "items": {"allOf": [{"$ref": format!("{PREFIX}{name}")}], "default": {}}},
        },
        "x-kubernetes-group-version-kind": [gvk(root.group, root.version, &format!("{}List", root.kind))],
    })
}

/// Puts one schema into upstream's form.
fn publish(name: &str, schema: &mut Value) {
    let Value::Object(schema) = schema else { return };
    // `k8s-openapi` requires `metadata` of every kind; upstream of none.
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|r| r != "metadata");
        if required.is_empty() {
            schema.remove("required");
        }
    }
    if matches!(name.rsplit('.').next(), Some("Quantity" | "IntOrString")) {
        schema.remove("x-kubernetes-int-or-string");
        let format = if name.ends_with("IntOrString") { "int-or-string" } else { "" };
        if format.is_empty() {
            schema.insert("oneOf".to_owned(), json!([{"type": "string"}, {"type": "number"}]));
        } else {
            schema.insert("format".to_owned(), json!(format));
            schema.insert("oneOf".to_owned(), json!([{"type": "integer"}, {"type": "string"}]));
        }
    }
    let ty = struct_type(name);
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    for (field, property) in properties {
        wrap_references(property);
        if let (Some(field), Value::Object(property)) = (ty.and_then(|t| arena().field(t, field)), property) {
            annotate(field, property);
        }
    }
}

/// The type in the table that a component describes.
pub(super) fn struct_type(name: &str) -> Option<Type> {
    let rest = name.strip_prefix("io.k8s.api.").or_else(|| name.strip_prefix("io.k8s.apimachinery.pkg.apis."))?;
    let (package, rest) = rest.split_once('.')?;
    let wanted = format!("{package}/{rest}");
    let arena = arena();
    let found = arena.nodes[..arena.structs].binary_search_by(|n| n.name.cmp(wanted.as_str())).ok()?;
    Some(Type(found as u32))
}

/// In OpenAPI 3.0 a reference must stand alone, so what stands beside one moves outside of an `allOf`.
fn wrap_references(property: &mut Value) {
    let Value::Object(map) = property else { return };
    if let Some(reference) = map.remove("$ref") {
        map.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(inner) {
            wrap_references(inner);
        }
    }
}

fn annotate(field: &Field, property: &mut Map<String, Value>) {
    let merge = arena().merge_strategy(field);
    let strategies: Vec<&str> = [(merge.merge, "merge"), (merge.retain_keys, "retainKeys"), (merge.replace, "replace")].iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    if !strategies.is_empty() {
        property.insert("x-kubernetes-patch-strategy".to_owned(), json!(strategies.join(",")));
    }
    if let Some(key) = merge.merge_key {
        property.insert("x-kubernetes-patch-merge-key".to_owned(), json!(key));
    }
    let list = arena().list_type(field);
    if !list.name.is_empty() {
        let is_list = matches!(arena().node(field.ty).shape, Shape::List(_) | Shape::WrappedList(_));
        property.insert(if is_list { "x-kubernetes-list-type" } else { "x-kubernetes-map-type" }.to_owned(), json!(list.name));
    }
    if !list.keys.is_empty() {
        property.insert("x-kubernetes-list-map-keys".to_owned(), list.keys.split(',').collect());
    }
    if !field.pointer && matches!(arena().node(field.ty).shape, Shape::Struct { .. }) {
        property.insert("default".to_owned(), json!({}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Arena;

    /// Structure from `k8s-openapi` and the table of facts are two sources of one truth.
    #[test]
    fn the_table_and_the_schemas_agree_on_every_field() {
        let mut generator = generator();
        for kind in kinds::KINDS {
            let reference = referenced(&(kind.describe)(&mut generator).to_value());
            assert_eq!(Some(reference), component_name(kind.group, kind.version, kind.kind));
        }
        let definitions = generator.take_definitions(false);
        let (mut structs, mut fields) = (0, 0);
        for (name, schema) in &definitions {
            let Some(properties) = schema.get("properties").and_then(Value::as_object) else { continue };
            let ty = struct_type(name).unwrap_or_else(|| panic!("{name} is not in the table"));
            structs += 1;
            let ours: Vec<&str> = arena().fields(ty).iter().map(|f| f.name).collect();
            let theirs: Vec<&str> = properties.keys().map(String::as_str).collect();
            assert_eq!(ours, theirs, "{name}");
            for field in arena().fields(ty) {
                let expected = form(arena(), field.ty);
                let got = written(&properties[field.name]);
                assert!(expected == got || expected == "any", "{name}.{}: {expected} in the table, {got} in the schema", field.name);
                fields += 1;
            }
        }
        assert!(structs > 300 && fields > 1500, "{structs} structs, {fields} fields");
    }

    fn form(arena: &Arena, ty: Type) -> String {
        match arena.node(ty).shape {
            Shape::Struct { .. } => format!("ref {}", arena.node(ty).name.rsplit('.').next().unwrap_or_default()),
            Shape::Map(item) => format!("map of {}", form(arena, item)),
            Shape::List(item) | Shape::WrappedList(item) => format!("list of {}", form(arena, item)),
            Shape::String | Shape::Duration => "string".to_owned(),
            Shape::Bytes => "string byte".to_owned(),
            Shape::Time => "ref Time".to_owned(),
            Shape::MicroTime => "ref MicroTime".to_owned(),
            Shape::Int32 => "integer int32".to_owned(),
            Shape::Int64 => "integer int64".to_owned(),
            Shape::Float => "number double".to_owned(),
            Shape::Bool => "boolean".to_owned(),
            Shape::IntOrString => "ref IntOrString".to_owned(),
            Shape::Quantity => "ref Quantity".to_owned(),
            Shape::Raw => "any".to_owned(),
            Shape::FieldsV1 => "ref FieldsV1".to_owned(),
        }
    }

    fn written(schema: &Value) -> String {
        if let Some(reference) = schema["$ref"].as_str() {
            return format!("ref {}", reference.rsplit('.').next().unwrap_or_default());
        }
        match (schema["type"].as_str(), schema["format"].as_str()) {
            (Some("array"), _) => format!("list of {}", written(&schema["items"])),
            (Some("object"), _) => format!("map of {}", written(&schema["additionalProperties"])),
            (Some(ty), Some(format)) => format!("{ty} {format}"),
            (Some(ty), None) => ty.to_owned(),
            (None, _) => "?".to_owned(),
        }
    }
}
