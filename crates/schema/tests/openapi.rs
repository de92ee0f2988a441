//! What kubectl looks for in a document.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use mainstay_schema::{GroupVersion, Operation, document};
use serde_json::{Value, json};

fn apps() -> Value {
    let kinds = [
        Operation { kind: "StatefulSet", plural: "statefulsets", namespaced: true, subresources: &["status", "scale"] },
        Operation { kind: "ControllerRevision", plural: "controllerrevisions", namespaced: true, subresources: &[] },
    ];
    serde_json::from_slice(&document(&GroupVersion { group: "apps", version: "v1", kinds: &kinds })).unwrap()
}

#[test]
fn patch_declares_what_leaves_validation_to_the_server() {
    let document = apps();
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"], json!({"group": "apps", "version": "v1", "kind": "StatefulSet"}));
    let names: Vec<&str> = patch["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    let scale = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}/scale"]["put"];
    assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Scale");
}

#[test]
fn schemas_carry_kinds_merge_keys_and_list_types() {
    let document = apps();
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["io.k8s.api.apps.v1.StatefulSet"]["x-kubernetes-group-version-kind"], json!([{"group": "apps", "version": "v1", "kind": "StatefulSet"}]));
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(containers["items"], json!({"allOf": [{"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"}]}));
    assert_eq!(schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["volumes"]["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert_eq!(schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["nodeSelector"]["x-kubernetes-map-type"], "atomic");
    assert_eq!(schemas["io.k8s.apimachinery.pkg.api.resource.Quantity"]["oneOf"], json!([{"type": "string"}, {"type": "number"}]));
    assert_eq!(schemas["io.k8s.api.apps.v1.StatefulSet"]["required"], Value::Null, "upstream requires metadata of no kind");
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(value: &Value, schemas: &Value, count: &mut usize) {
        match value {
            Value::Object(map) => {
                if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                    let name = reference.strip_prefix("#/components/schemas/").unwrap();
                    assert!(schemas.get(name).is_some(), "{name}");
                    *count += 1;
                }
                map.values().for_each(|v| walk(v, schemas, count));
            }
            Value::Array(list) => list.iter().for_each(|v| walk(v, schemas, count)),
            _ => {}
        }
    }
    let document = apps();
    let mut count = 0;
    walk(&document, &document["components"]["schemas"], &mut count);
    assert!(count > 200, "{count} references");
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    assert_eq!(apps(), apps());
}
