//! Kinds of upstream's that are not served, but that clients list without asking whether they are: of each there are none.
//!
//! `kubectl cluster-info dump` stops at the first of these lists that is refused. They are in no discovery document, so that a manifest of
//! such a kind is refused with `no matches for kind` and not taken and forgotten.

use crate::handler::{Answer, json};
use crate::route::Path;
use crate::server::Inner;

/// Group, version, plural and kind; a row of the table of kinds goes before.
const KINDS: [(&str, &str, &str, &str); 4] = [
    ("", "v1", "replicationcontrollers", "ReplicationController"),
    ("apps", "v1", "daemonsets", "DaemonSet"),
    ("apps", "v1", "deployments", "Deployment"),
    ("apps", "v1", "replicasets", "ReplicaSet"),
];

/// The empty list of a path, if it is one of these.
pub(crate) fn list(server: &Inner, path: &Path<'_>) -> Option<Answer> {
    let (_, _, _, kind) = KINDS.iter().find(|(group, version, plural, _)| (*group, *version, *plural) == (path.group, path.version, path.resource))?;
    let api_version = if path.group.is_empty() { path.version.to_owned() } else { format!("{}/{}", path.group, path.version) };
    let list = serde_json::json!({"kind": format!("{kind}List"), "apiVersion": api_version, "metadata": {"resourceVersion": server.store.revision().to_string()}, "items": []});
    Some(Ok(json(200, list.to_string())))
}
