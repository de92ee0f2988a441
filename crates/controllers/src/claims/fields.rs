//! Short words for fields of claims, volumes and classes.

use super::quantity;
use mainstay_client::k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec};
use mainstay_client::k8s_openapi::api::storage::v1::StorageClass;
use mainstay_client::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(super) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
pub(super) const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
pub(super) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
pub(super) const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
pub(super) const BETA_STORAGE_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
pub(super) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
pub(super) const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
pub(super) const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";
pub(super) const DEFAULT_CLASS: [&str; 2] = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

pub(super) fn namespace(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().unwrap_or_default()
}

pub(super) fn uid(metadata: &ObjectMeta) -> &str {
    metadata.uid.as_deref().unwrap_or_default()
}

pub(super) fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

pub(super) fn has_finalizer(metadata: &ObjectMeta, name: &str) -> bool {
    metadata.finalizers.as_ref().is_some_and(|finalizers| finalizers.iter().any(|finalizer| finalizer == name))
}

/// The finalizers without one.
pub(super) fn finalizers_without(metadata: &ObjectMeta, name: &str) -> Vec<String> {
    metadata.finalizers.iter().flatten().filter(|finalizer| *finalizer != name).cloned().collect()
}

pub(super) fn claim_spec(claim: &PersistentVolumeClaim) -> Option<&PersistentVolumeClaimSpec> {
    claim.spec.as_ref()
}

/// The volume that a claim names, or empty.
pub(super) fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim_spec(claim).and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

/// A claim's class; `None` is different from the empty class.
pub(super) fn claim_class(claim: &PersistentVolumeClaim) -> Option<&str> {
    annotation(&claim.metadata, BETA_CLASS).or_else(|| claim_spec(claim)?.storage_class_name.as_deref())
}

pub(super) fn volume_class(volume: &PersistentVolume) -> &str {
    annotation(&volume.metadata, BETA_CLASS).or_else(|| volume.spec.as_ref()?.storage_class_name.as_deref()).unwrap_or_default()
}

/// The size asked for, as it was written.
pub(super) fn requested(claim: &PersistentVolumeClaim) -> Option<&str> {
    Some(claim_spec(claim)?.resources.as_ref()?.requests.as_ref()?.get("storage")?.0.as_str())
}

pub(super) fn requested_bytes(claim: &PersistentVolumeClaim) -> u128 {
    requested(claim).and_then(quantity::bytes).unwrap_or(0)
}

pub(super) fn capacity(volume: &PersistentVolume) -> Option<&str> {
    Some(volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?.0.as_str())
}

pub(super) fn capacity_bytes(volume: &PersistentVolume) -> u128 {
    capacity(volume).and_then(quantity::bytes).unwrap_or(0)
}

pub(super) fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// Whether the volume's reference names this claim; a reference without uid was written by hand.
pub(super) fn refers_to(reference: &ObjectReference, claim: &PersistentVolumeClaim) -> bool {
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && reference.uid.as_deref().is_none_or(|uid| uid.is_empty() || Some(uid) == claim.metadata.uid.as_deref())
}

pub(super) fn volume_phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub(super) fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub(super) fn reclaim_policy(volume: &PersistentVolume) -> &str {
    volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain")
}

/// `Filesystem` unless said otherwise.
pub(super) fn mode(text: Option<&String>) -> &str {
    text.map_or("Filesystem", String::as_str)
}

pub(super) fn waits_for_consumer(class: Option<&StorageClass>) -> bool {
    class.and_then(|class| class.volume_binding_mode.as_deref()) == Some("WaitForFirstConsumer")
}

pub(super) fn is_default(class: &StorageClass) -> bool {
    DEFAULT_CLASS.iter().any(|key| annotation(&class.metadata, key) == Some("true"))
}
