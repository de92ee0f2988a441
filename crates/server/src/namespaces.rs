//! The life of namespaces, which bounds the life of what lies in them
//! (upstream: the NamespaceLifecycle admission plugin and the namespace registry).

use crate::rows::Row;
use crate::server::Inner;
use crate::status::Failure;
use mainstay_store::Key;
use serde::Deserialize;
use serde_json::{Value, json};

/// Storage name of namespaces.
const STORAGE: &str = "namespaces";

/// Never deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

#[derive(Deserialize)]
struct Namespace {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "deletionTimestamp")]
    deletion_timestamp: Option<serde::de::IgnoredAny>,
}

/// Refuses to create in a namespace that is not there, or is going.
pub(crate) fn check_create(server: &Inner, row: &Row, namespace: &str, name: &str) -> Result<(), Failure> {
    let key = Key { resource: STORAGE.into(), namespace: "".into(), name: namespace.into() };
    let Some(object) = server.store.get(&key) else {
        return Err(Failure::new(404, "NotFound", format!("namespaces {namespace:?} not found")).about("", STORAGE, namespace));
    };
    let going = serde_json::from_slice::<Namespace>(&object.bytes).is_ok_and(|n| n.metadata.deletion_timestamp.is_some());
    if !going {
        return Ok(());
    }
    let message = format!(
        "{} {name:?} is forbidden: unable to create new content in namespace {namespace} because it is being terminated",
        row.kind.resource()
    );
    Err(Failure::forbidden(message).about(row.kind.group, row.kind.plural, name).with_cause(
        "NamespaceTerminating",
        &format!("namespace {namespace} is being terminated"),
        "metadata.namespace",
    ))
}

/// Refuses to delete what a cluster cannot do without.
pub(crate) fn check_delete(row: &Row, name: &str) -> Result<(), Failure> {
    if row.kind.storage == STORAGE && IMMORTAL.contains(&name) {
        let message = format!("namespaces {name:?} is forbidden: this namespace may not be deleted");
        return Err(Failure::forbidden(message).about("", STORAGE, name));
    }
    Ok(())
}

/// Has a `spec.finalizers` that holds it beside those of its metadata, emptied through `/finalize`.
pub(crate) fn finalizes(row: &Row) -> bool {
    row.kind.storage == STORAGE
}

/// Whether `spec.finalizers` still holds it.
pub(crate) fn held(row: &Row, value: &Value) -> bool {
    finalizes(row) && value.pointer("/spec/finalizers").and_then(Value::as_array).is_some_and(|list| !list.is_empty())
}

/// A namespace that is being deleted says so in its status.
pub(crate) fn mark_terminating(row: &Row, value: &mut Value) {
    if finalizes(row) {
        if !value["status"].is_object() {
            value["status"] = json!({});
        }
        value["status"]["phase"] = "Terminating".into();
    }
}
