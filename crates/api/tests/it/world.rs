//! A small cluster for hooks that look at other objects, and the order in which the server calls a row.

use mainstay_api::{Admission, Errors, Kind, Refusal, Settings, kinds, meta};
use serde_json::{Value, json};
use std::net::Ipv4Addr;

pub struct World {
    pub objects: Vec<(String, Value)>,
    settings: Settings,
}

impl World {
    /// A namespace with its service account.
    pub fn new() -> World {
        let settings = Settings { service_range: (Ipv4Addr::new(10, 96, 0, 0), 24), node_ports: (30000, 30010), domain: "cluster.local".to_owned() };
        let mut world = World { objects: Vec::new(), settings };
        world.add("serviceaccounts", json!({"metadata": {"name": "default", "namespace": "default"}}));
        world
    }

    pub fn add(&mut self, storage: &str, object: Value) {
        self.objects.push((storage.to_owned(), object));
    }
}

impl Admission for World {
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.list(resource, Some(namespace)).into_iter().find(|o| o["metadata"]["name"] == name)
    }

    fn list(&self, resource: &str, namespace: Option<&str>) -> Vec<Value> {
        let inside = |o: &Value| namespace.is_none_or(|n| n.is_empty() || o["metadata"]["namespace"] == n);
        self.objects.iter().filter(|(storage, o)| storage == resource && inside(o)).map(|(_, o)| o.clone()).collect()
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn now(&self) -> String {
        "2026-01-31T12:00:00Z".to_owned()
    }
}

pub fn parse(yaml: &str) -> (Value, &'static Kind) {
    let mut object: Value = serde_saphyr::from_str(yaml).expect("the test's manifest is YAML");
    let text = |v: &Value| v.as_str().expect("a string").to_owned();
    let kind = kinds::by_kind(&text(&object["apiVersion"]), &text(&object["kind"])).expect("a kind that is served");
    if kind.scope == mainstay_api::Scope::Namespaced && object["metadata"]["namespace"].is_null() {
        object["metadata"]["namespace"] = "default".into();
    }
    walk(&mut object, kind);
    (object, kind)
}

/// The schema's walk, as the server does it before any hook.
fn walk(object: &mut Value, kind: &Kind) {
    let shape = mainstay_schema::root(&kind.api_version(), kind.kind).expect("a known shape");
    let checked = mainstay_schema::check(shape, object).expect("well-typed");
    assert_eq!(checked.unknown, Vec::<String>::new());
}

fn finish(kind: &Kind, object: Value, errors: Errors) -> Result<Value, Refusal> {
    if errors.0.is_empty() {
        return Ok(object);
    }
    Err(Refusal::invalid(kind.kind, object["metadata"]["name"].as_str().unwrap_or(""), errors))
}

/// What a create stores, or says.
pub fn create(yaml: &str, world: &World) -> Result<Value, Refusal> {
    let (mut object, kind) = parse(yaml);
    (kind.default)(&mut object);
    (kind.prepare_create)(&mut object, world);
    (kind.admit)(&mut object, None, world)?;
    let mut errors = Errors::default();
    meta::validate_object_meta(&object, kind, &mut errors);
    (kind.validate)(&object, &mut errors);
    finish(kind, object, errors)
}

/// What an update of `old` stores, or says.
pub fn update(old: &Value, mut object: Value, world: &World) -> Result<Value, Refusal> {
    let text = |v: &Value| v.as_str().expect("a string").to_owned();
    let kind = kinds::by_kind(&text(&object["apiVersion"]), &text(&object["kind"])).expect("a kind that is served");
    walk(&mut object, kind);
    if kind.status {
        object["status"] = old["status"].clone();
    }
    (kind.default)(&mut object);
    (kind.prepare_update)(&mut object, old);
    (kind.admit)(&mut object, Some(old), world)?;
    let mut errors = Errors::default();
    meta::validate_object_meta_update(&object, old, &mut errors);
    (kind.validate)(&object, &mut errors);
    (kind.validate_update)(&object, old, &mut errors);
    finish(kind, object, errors)
}
