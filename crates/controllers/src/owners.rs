//! Who owns what: references, adoption, release. Upstream: pkg/controller/controller_ref_manager.go.

use crate::runner::Name;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use mainstay_client::{Cluster, Error, Resource};
use serde_json::{Value, json};

/// Why nothing was adopted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The API said no.
    #[error(transparent)]
    Api(#[from] Error),
    /// The owner is no more; another has its name.
    #[error("original {kind} {name} is gone: got uid {found}, wanted {wanted}")]
    Gone { kind: &'static str, name: Name, found: String, wanted: String },
    /// The owner is being deleted.
    #[error("{kind} {name} is being deleted")]
    Deleting { kind: &'static str, name: Name },
}

/// `metadata.name`, or nothing.
pub(crate) fn name_of(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

/// `metadata.uid`, or nothing.
pub(crate) fn uid_of(metadata: &ObjectMeta) -> &str {
    metadata.uid.as_deref().unwrap_or_default()
}

/// The owner that manages an object.
pub(crate) fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// The name of the manager of an object, if it is of this kind.
pub(crate) fn manager<K: Resource>(metadata: &ObjectMeta) -> Option<Name> {
    let group = |version: &str| version.rsplit_once('/').map_or("", |(group, _)| group).to_owned();
    let owner = controller_of(metadata).filter(|owner| owner.kind == K::KIND && group(&owner.api_version) == group(K::API_VERSION))?;
    Some(Name::new(metadata.namespace.as_deref().unwrap_or_default(), &owner.name))
}

/// A reference that makes an object the manager.
pub(crate) fn owner_ref<K: Resource>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: name_of(owner.metadata()).to_owned(),
        uid: uid_of(owner.metadata()).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Whether an object is an owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Belongs {
    Yes,
    No,
    /// An orphan that it should take.
    Adopt,
    /// One of its own that it should let go.
    Release,
}

/// Upstream: `ClaimObject`. `matches`: the owner's selector, and what else it asks for, is met.
pub(crate) fn belongs(owner: &ObjectMeta, object: &ObjectMeta, matches: bool) -> Belongs {
    let deleting = owner.deletion_timestamp.is_some();
    match controller_of(object) {
        Some(reference) if reference.uid == uid_of(owner) => match matches {
            true => Belongs::Yes,
            false if deleting => Belongs::No,
            false => Belongs::Release,
        },
        Some(_) => Belongs::No,
        None if deleting || object.deletion_timestamp.is_some() || !matches => Belongs::No,
        None => Belongs::Adopt,
    }
}

/// The owners of an object without this one.
pub(crate) fn without(metadata: &ObjectMeta, owner: &ObjectMeta) -> Vec<OwnerReference> {
    metadata.owner_references.iter().flatten().filter(|reference| reference.uid != uid_of(owner)).cloned().collect()
}

/// The owners of an object and this one as its manager.
pub(crate) fn with<K: Resource>(metadata: &ObjectMeta, owner: &K) -> Vec<OwnerReference> {
    let mut owners = without(metadata, owner.metadata());
    owners.push(owner_ref(owner));
    owners
}

/// Owners as JSON, for a merge patch: `null` when there are none.
pub(crate) fn owner_values(owners: &[OwnerReference]) -> Value {
    let value = |owner: &OwnerReference| {
        json!({ "apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid,
            "controller": owner.controller, "blockOwnerDeletion": owner.block_owner_deletion })
    };
    let mut values: Vec<Value> = owners.iter().map(value).collect();
    for map in values.iter_mut().filter_map(Value::as_object_mut) {
        map.retain(|_, field| !field.is_null());
    }
    if values.is_empty() { Value::Null } else { values.into() }
}

/// A merge patch that gives exactly this state of an object other owners.
pub(crate) fn owners_patch(metadata: &ObjectMeta, owners: &[OwnerReference]) -> Value {
    json!({ "metadata": { "uid": metadata.uid, "resourceVersion": metadata.resource_version, "ownerReferences": owner_values(owners) } })
}

/// Patches an object. `None` when it went away meanwhile.
pub(crate) async fn patch_if_there<K: Resource>(cluster: &Cluster, metadata: &ObjectMeta, patch: &Value) -> Result<Option<K>, Error> {
    match cluster.merge_patch::<K>(metadata.namespace.as_deref().unwrap_or_default(), name_of(metadata), None, patch).await {
        Ok(written) => Ok(Some(written)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the owner from the API, not from a cache that may be behind, before it adopts: one that was deleted with `--cascade=orphan` and
/// created again must not be given its predecessor's orphans by mistake.
pub(crate) async fn confirm<K: Resource>(cluster: &Cluster, owner: &K) -> Result<(), Failure> {
    let name = Name::of(owner);
    let live: K = cluster.get(&name.namespace, &name.name).await?;
    let (found, wanted) = (uid_of(live.metadata()).to_owned(), uid_of(owner.metadata()).to_owned());
    if found != wanted {
        return Err(Failure::Gone { kind: K::KIND, name, found, wanted });
    }
    if live.metadata().deletion_timestamp.is_some() {
        return Err(Failure::Deleting { kind: K::KIND, name });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(controller: Option<&str>, deleting: bool) -> ObjectMeta {
        let owner = |uid: &str| OwnerReference { uid: uid.to_owned(), controller: Some(true), ..OwnerReference::default() };
        let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
        ObjectMeta { uid: Some("me".into()), owner_references: controller.map(|uid| vec![owner(uid)]), deletion_timestamp: deleting.then_some(at), ..ObjectMeta::default() }
    }

    #[test]
    fn an_owner_takes_matching_orphans_and_lets_go_of_what_matches_no_more() {
        for (owner_deleting, controller, object_deleting, matches, expected) in [
            (false, Some("me"), false, true, Belongs::Yes),
            (false, Some("me"), true, true, Belongs::Yes),
            (false, Some("me"), false, false, Belongs::Release),
            (true, Some("me"), false, false, Belongs::No),
            (false, Some("other"), false, true, Belongs::No),
            (false, None, false, true, Belongs::Adopt),
            (false, None, true, true, Belongs::No),
            (false, None, false, false, Belongs::No),
            (true, None, false, true, Belongs::No),
        ] {
            let found = belongs(&metadata(None, owner_deleting), &metadata(controller, object_deleting), matches);
            assert_eq!(found, expected, "{owner_deleting} {controller:?} {object_deleting} {matches}");
        }
    }
}
