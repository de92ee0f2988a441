//! `paths`: the operations of each kind, with the parameters that clients look for.

use super::schemas::{component_name, gvk};
use super::{GroupVersion, Operation};
use serde_json::{Map, Value, json};

const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// The kind a subresource takes where it is not its parent's.
pub(super) fn body_of(subresource: &str) -> Option<(&'static str, &'static str, &'static str)> {
    match subresource {
        "binding" => Some(("", "v1", "Binding")),
        "eviction" => Some(("policy", "v1", "Eviction")),
        "scale" => Some(("autoscaling", "v1", "Scale")),
        "token" => Some(("authentication.k8s.io", "v1", "TokenRequest")),
        _ => None,
    }
}

/// A group, a version and a kind.
type Gvk<'a> = (&'a str, &'a str, &'a str);

pub(super) struct Paths<'a> {
    gv: &'a GroupVersion<'a>,
    paths: Map<String, Value>,
}

impl<'a> Paths<'a> {
    pub(super) fn new(gv: &'a GroupVersion<'a>) -> Self {
        Self { gv, paths: Map::new() }
    }

    pub(super) fn into_value(self) -> Value {
        Value::Object(self.paths)
    }

    /// All paths of one kind.
    pub(super) fn add(&mut self, operation: &Operation) {
        let gv = self.gv;
        let prefix = if gv.group.is_empty() { format!("/api/{}", gv.version) } else { format!("/apis/{}/{}", gv.group, gv.version) };
        let kind = (gv.group, gv.version, operation.kind);
        let collection = if operation.namespaced { format!("{prefix}/namespaces/{{namespace}}/{}", operation.plural) } else { format!("{prefix}/{}", operation.plural) };
        if operation.namespaced {
            self.path(&format!("{prefix}/{}", operation.plural), &[], vec![("get", list(kind))]);
        }
        let namespace: &[&str] = if operation.namespaced { &["namespace"] } else { &[] };
        self.path(&collection, namespace, vec![("get", list(kind)), ("post", write("post", kind)), ("delete", delete("deletecollection", kind))]);
        let item = format!("{collection}/{{name}}");
        let named: Vec<&str> = namespace.iter().copied().chain(["name"]).collect();
        self.path(&item, &named, vec![("get", read(kind)), ("put", write("put", kind)), ("patch", patch(kind)), ("delete", delete("delete", kind))]);
        for subresource in operation.subresources {
            let operations = match *subresource {
                "status" | "scale" | "resize" | "ephemeralcontainers" => {
                    let of = body_of(subresource).unwrap_or(kind);
                    vec![("get", read(of)), ("put", write("put", of)), ("patch", patch(of))]
                }
                "log" => vec![("get", connect("get", kind))],
                _ => match body_of(subresource) {
                    Some(body) => vec![("post", write("post", body))],
                    None => vec![("get", connect("connect", kind)), ("post", connect("connect", kind))],
                },
            };
            self.path(&format!("{item}/{subresource}"), &named, operations);
        }
    }

    fn path(&mut self, path: &str, parameters: &[&str], operations: Vec<(&str, Value)>) {
        let mut value: Map<String, Value> = operations.into_iter().map(|(method, operation)| (method.to_owned(), operation)).collect();
        let mut all: Vec<Value> = parameters.iter().map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}})).collect();
        all.push(query("pretty", "string"));
        value.insert("parameters".to_owned(), Value::Array(all));
        self.paths.insert(path.to_owned(), Value::Object(value));
    }
}

fn query(name: &str, ty: &str) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": ty, "uniqueItems": true}})
}

fn queries(names: &[(&str, &str)]) -> Value {
    names.iter().map(|(name, ty)| query(name, ty)).collect()
}

fn schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn schema_of((group, version, kind): Gvk<'_>, suffix: &str) -> Value {
    component_name(group, version, kind).map_or_else(|| json!({"type": "object"}), |name| schema(&format!("{name}{suffix}")))
}

fn operation(action: &str, kind: Gvk<'_>, parameters: Value, body: Option<Value>, answer: Value) -> Value {
    let mut operation = json!({
        "tags": [tag(kind.0, kind.1)],
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": answer}}}, "401": {"description": "Unauthorized"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk(kind.0, kind.1, kind.2),
    });
    if let Some(body) = body {
        operation["requestBody"] = body;
    }
    operation
}

/// `apps_v1`, `core_v1`, `rbacAuthorization_v1`.
fn tag(group: &str, version: &str) -> String {
    let group = group.strip_suffix(".k8s.io").unwrap_or(group);
    let mut words = group.split('.');
    let mut name = words.next().filter(|w| !w.is_empty()).unwrap_or("core").to_owned();
    for word in words {
        let mut letters = word.chars();
        name.extend(letters.next().map(|c| c.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    format!("{name}_{version}")
}

fn list(kind: Gvk<'_>) -> Value {
    let parameters = queries(&[
        ("allowWatchBookmarks", "boolean"),
        ("continue", "string"),
        ("fieldSelector", "string"),
        ("labelSelector", "string"),
        ("limit", "integer"),
        ("resourceVersion", "string"),
        ("resourceVersionMatch", "string"),
        ("sendInitialEvents", "boolean"),
        ("timeoutSeconds", "integer"),
        ("watch", "boolean"),
    ]);
    operation("list", kind, parameters, None, schema_of(kind, "List"))
}

fn read(kind: Gvk<'_>) -> Value {
    operation("get", kind, json!([]), None, schema_of(kind, ""))
}

fn connect(action: &str, kind: Gvk<'_>) -> Value {
    operation(action, kind, json!([]), None, json!({"type": "string"}))
}

fn write(action: &str, kind: Gvk<'_>) -> Value {
    let body = json!({"required": true, "content": {"*/*": {"schema": schema_of(kind, "")}}});
    operation(action, kind, queries(&[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")]), Some(body), schema_of(kind, ""))
}

fn patch(kind: Gvk<'_>) -> Value {
    let content: Map<String, Value> = ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"]
        .iter()
        .map(|media| ((*media).to_owned(), json!({"schema": schema(PATCH)})))
        .collect();
    let parameters = queries(&[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")]);
    operation("patch", kind, parameters, Some(json!({"required": true, "content": content})), schema_of(kind, ""))
}

fn delete(action: &str, kind: Gvk<'_>) -> Value {
    let mut names = vec![("dryRun", "string"), ("gracePeriodSeconds", "integer"), ("orphanDependents", "boolean"), ("propagationPolicy", "string")];
    if action == "deletecollection" {
        names.extend([("continue", "string"), ("fieldSelector", "string"), ("labelSelector", "string"), ("limit", "integer"), ("resourceVersion", "string"), ("resourceVersionMatch", "string"), ("timeoutSeconds", "integer")]);
    }
    let body = json!({"content": {"*/*": {"schema": schema(DELETE_OPTIONS)}}});
    operation(action, kind, queries(&names), Some(body), schema(STATUS))
}
