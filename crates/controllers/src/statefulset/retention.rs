//! `persistentVolumeClaimRetentionPolicy`: who owns a claim, so that the garbage collector deletes it when the policy says so.
//!
//! | whenScaled | whenDeleted | owner of a claim |
//! |---|---|---|
//! | Retain | Retain | nobody |
//! | Retain | Delete | the set |
//! | Delete | Retain | nobody while its ordinal is in range, then the pod |
//! | Delete | Delete | the set while its ordinal is in range, then the pod |
//!
//! Upstream: `isClaimOwnerUpToDate`, `updateClaimOwnerRefForSetAndPod`, `hasStaleOwnerRef` (stateful_set_utils.go, 1.36).

use super::identity::{name_of, owner_ref, uid_of};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// What is to be done with a claim's owners.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing: they are as they should be, or another of the same name is still being collected.
    Leave,
    /// These are to be the owners.
    Set(Vec<OwnerReference>),
    /// Another controller manages the claim: the policy does not apply. `Some`: our own references go.
    Foreign(Option<Vec<OwnerReference>>),
}

fn deletes(set: &StatefulSet) -> (bool, bool) {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let is_delete = |choice: Option<&String>| choice.is_some_and(|choice| choice == "Delete");
    (is_delete(policy.and_then(|policy| policy.when_scaled.as_ref())), is_delete(policy.and_then(|policy| policy.when_deleted.as_ref())))
}

fn group(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

/// Names this object by name and kind, whatever the uid.
fn names(owner: &OwnerReference, kind: &str, of_group: &str, metadata: &ObjectMeta) -> bool {
    owner.kind == kind && group(&owner.api_version) == of_group && owner.name == name_of(metadata)
}

fn is_stale(owner: &OwnerReference, set: &StatefulSet, pod: Option<&Pod>) -> bool {
    (names(owner, "StatefulSet", "apps", &set.metadata) && owner.uid != uid_of(&set.metadata))
        || pod.is_some_and(|pod| names(owner, "Pod", "", &pod.metadata) && owner.uid != uid_of(&pod.metadata))
}

/// The owners a claim of this pod should have; `condemned`: the pod's ordinal is out of range.
pub(crate) fn owners(set: &StatefulSet, pod: Option<&Pod>, condemned: bool, claim: &PersistentVolumeClaim) -> Verdict {
    let have = claim.metadata.owner_references.clone().unwrap_or_default();
    let is_set = |owner: &OwnerReference| owner.uid == uid_of(&set.metadata);
    let is_pod = |owner: &OwnerReference| pod.is_some_and(|pod| owner.uid == uid_of(&pod.metadata));
    let others: Vec<OwnerReference> = have.iter().filter(|owner| !is_set(owner) && !is_pod(owner)).cloned().collect();
    if have.iter().any(|owner| is_stale(owner, set, pod)) {
        return Verdict::Leave;
    }
    if others.iter().any(|owner| owner.controller == Some(true)) {
        return Verdict::Foreign((others != have).then_some(others));
    }
    let (when_scaled, when_deleted) = deletes(set);
    let mut want = others;
    let mut add = |wanted: OwnerReference| {
        // Kept where it stands, so that a reference that is right is no reason to write.
        let kept = have.iter().find(|owner| owner.uid == wanted.uid && owner.controller == Some(true)).cloned();
        want.push(kept.unwrap_or(wanted));
    };
    match (when_scaled && condemned, pod) {
        (true, Some(pod)) => add(owner_ref(pod)),
        (true, None) => {}
        (false, _) if when_deleted => add(owner_ref(set)),
        (false, _) => {}
    }
    let same = want.len() == have.len() && want.iter().all(|owner| have.contains(owner));
    if same { Verdict::Leave } else { Verdict::Set(want) }
}

/// Whether a claim still belongs to an earlier pod of this name and is about to be collected: no pod may be started on it.
pub(crate) fn belongs_to_earlier_pod(set: &StatefulSet, pod: &str, claim: &PersistentVolumeClaim) -> bool {
    deletes(set).0 && claim.metadata.owner_references.iter().flatten().any(|owner| owner.kind == "Pod" && group(&owner.api_version).is_empty() && owner.name == pod)
}
