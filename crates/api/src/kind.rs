//! The shape of a row.

use crate::names::Rule;
use crate::{Errors, Refusal};
use serde_json::Value;
use std::net::Ipv4Addr;

/// Where objects of a kind live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In a namespace.
    Namespaced,
    /// In none.
    Cluster,
}

/// The paths of the `scale` subresource.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// JSON pointer of the wish: `/spec/replicas`.
    pub replicas: &'static str,
    /// JSON pointer of the label selector: `/spec/selector`.
    pub selector: &'static str,
    /// JSON pointer of the count: `/status/replicas`.
    pub current: &'static str,
}

/// A field that `fieldSelector` may name, besides `metadata.name` and `metadata.namespace`.
#[derive(Clone, Copy)]
pub struct Field {
    /// `spec.nodeName`.
    pub name: &'static str,
    /// Its value as text; empty when unset.
    pub value: fn(&Value) -> String,
}

/// A printer column. The server renders a Table from these; `Name` is written out like any other.
#[derive(Clone, Copy)]
pub struct Column {
    /// `Ready`.
    pub name: &'static str,
    /// `string`, `integer`, `date`, …
    pub kind: &'static str,
    /// `name` for the Name column, else empty.
    pub format: &'static str,
    /// 0: always; 1: `-o wide` only.
    pub priority: u8,
    /// What `kubectl explain` would say.
    pub description: &'static str,
    /// The cell; `now` is seconds since the epoch, for ages.
    pub cell: fn(&Value, now: i64) -> Value,
}

/// Applies the body of a subresource to its parent: (parent, body).
pub type Post = fn(&mut Value, &Value) -> Result<(), Refusal>;

/// From one served form of an object to another, in place.
pub type Convert = fn(&mut Value);

/// A subresource whose POST changes the parent (`pods/binding`). What streams (`log`, `exec`) or has its own storage (`status`,
/// `scale`) is the server's.
#[derive(Clone, Copy)]
pub struct Subresource {
    /// `binding`.
    pub name: &'static str,
    /// Kind of the body, for discovery: (`""`, `v1`, `Binding`).
    pub body: (&'static str, &'static str, &'static str),
    /// Verbs for discovery.
    pub verbs: &'static [&'static str],
    /// Applies the body to the parent. `None`: the server has its own code for it.
    pub post: Option<Post>,
}

/// What defaults and admission need to know of this installation.
#[derive(Clone, Debug)]
pub struct Settings {
    /// First address and prefix length of the service range.
    pub service_range: (Ipv4Addr, u8),
    /// Node ports, inclusive.
    pub node_ports: (u16, u16),
    /// `cluster.local`.
    pub domain: String,
}

/// What admission may look at: the newest committed objects. `resource` is the storage name (`pods`, `apps/statefulsets`).
pub trait Admission {
    /// One object.
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value>;
    /// All objects of a resource, of one namespace or of all.
    fn list(&self, resource: &str, namespace: Option<&str>) -> Vec<Value>;
    /// This installation.
    fn settings(&self) -> &Settings;
    /// Now, as RFC 3339 in whole seconds: `2026-01-31T12:00:00Z`.
    fn now(&self) -> String;
}

/// A row of the table of kinds. Adding a kind is adding a row.
///
/// Order on create: `default`, `prepare_create`, `admit`, `validate`. On update: `default`, `prepare_update`, `admit`, `validate`,
/// `validate_update`. On `/status`: `default`, `prepare_status`, `validate_status`. The server itself does what is the same for all: metadata, generation
/// (bumped when anything outside `metadata` and `status` differs, where `generation` is set), `status` kept apart where `status` is set,
/// uid, timestamps, finalizers, name rules, immutable metadata, namespace existence and termination.
pub struct Kind {
    /// Empty for core.
    pub group: &'static str,
    /// `v1`.
    pub version: &'static str,
    /// `StatefulSet`.
    pub kind: &'static str,
    /// `statefulsets`.
    pub plural: &'static str,
    /// `statefulset`.
    pub singular: &'static str,
    /// `sts`.
    pub short: &'static [&'static str],
    /// `all`.
    pub categories: &'static [&'static str],
    /// Namespaced or not.
    pub scope: Scope,
    /// Storage name: `apps/statefulsets`. Two rows that serve the same objects (both Event groups) share it.
    pub storage: &'static str,
    /// Stored form → this row's form, and back. `None`: the same form (apiVersion and kind are set by the server).
    pub convert: Option<(Convert, Convert)>,
    /// Has `/status`.
    pub status: bool,
    /// Keeps `metadata.generation`.
    pub generation: bool,
    /// Has `/scale`.
    pub scale: Option<Scale>,
    /// Other subresources.
    pub subresources: &'static [Subresource],
    /// The rule for `metadata.name`.
    pub name_rule: Rule,
    /// Fills what the user left out.
    pub default: fn(&mut Value),
    /// Create: clears what users may not set, sets what the kind always has (finalizers, `status.phase`).
    pub prepare_create: fn(&mut Value, &dyn Admission),
    /// Update: restores what an update may not touch, given the old object.
    pub prepare_update: fn(&mut Value, &Value),
    /// `/status` update: what else of the old object to keep (the server has already kept all but `status` and some metadata).
    pub prepare_status: fn(&mut Value, &Value),
    /// Looks at other objects: defaults that need them (a Service's address, a Pod's token volume, a claim's class), and refusals. The old object on update.
    pub admit: fn(&mut Value, Option<&Value>, &dyn Admission) -> Result<(), Refusal>,
    /// Everything about one object.
    pub validate: fn(&Value, &mut Errors),
    /// What may change: (new, old).
    pub validate_update: fn(&Value, &Value, &mut Errors),
    /// `/status`: (new, old).
    pub validate_status: fn(&Value, &Value, &mut Errors),
    /// `Warning: 299` texts.
    pub warnings: fn(&Value) -> Vec<String>,
    /// A `Warning: 299` text for every request on this kind, reads too.
    pub deprecation: Option<&'static str>,
    /// Selectable fields.
    pub fields: &'static [Field],
    /// Printer columns, Name first.
    pub columns: &'static [Column],
    /// Seconds of grace a DELETE gives this object when the request names none or some (`None`: it is removed at once, as for a pod that
    /// no node has). Kinds that are always removed at once return `None`.
    pub grace: fn(&Value, requested: Option<i64>) -> Option<i64>,
    /// A DELETE that says nothing of dependents leaves them behind (`batch/v1`; upstream: `DefaultGarbageCollectionPolicy`).
    pub orphans: bool,
    /// Verbs in discovery and allowed by the server, if not all.
    pub verbs: &'static [&'static str],
    /// `admit` allocates something that no two objects may share (a Service's address): the server must run `admit` and the commit
    /// of one such write before `admit` of the next, over all objects of this storage.
    pub serialized: bool,
}

impl Kind {
    /// A namespaced kind without anything special; rows spread it and name what differs.
    pub const BASE: Kind = Kind {
        group: "",
        version: "v1",
        kind: "",
        plural: "",
        singular: "",
        short: &[],
        categories: &[],
        scope: Scope::Namespaced,
        storage: "",
        convert: None,
        status: false,
        generation: false,
        scale: None,
        subresources: &[],
        name_rule: crate::names::dns_subdomain,
        default: |_| {},
        prepare_create: |_, _| {},
        prepare_update: |_, _| {},
        prepare_status: |_, _| {},
        admit: |_, _, _| Ok(()),
        validate: |_, _| {},
        validate_update: |_, _, _| {},
        validate_status: |_, _, _| {},
        warnings: |_| Vec::new(),
        deprecation: None,
        fields: &[],
        columns: &[crate::columns::NAME, crate::columns::AGE],
        grace: |_, _| None,
        orphans: false,
        verbs: ALL_VERBS,
        serialized: false,
    };

    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `statefulsets.apps`, `pods`: how messages name the resource.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}

/// The verbs of an ordinary kind.
pub const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
