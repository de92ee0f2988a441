//! Names, labels and claims of an ordinal.

pub(crate) use crate::owners::{controller_of, name_of, owner_ref, uid_of};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Label: the pod's own name.
pub(crate) const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// Label: the ordinal.
pub(crate) const POD_INDEX: &str = "apps.kubernetes.io/pod-index";
/// Label: the name of the ControllerRevision.
pub(crate) const REVISION: &str = "controller-revision-hash";

/// `web-12` → (`web`, 12). A name that the controller would not write itself (`web-012`) has no ordinal.
pub(crate) fn parent_and_ordinal(pod: &str) -> Option<(&str, i32)> {
    let (parent, digits) = pod.rsplit_once('-')?;
    let canonical = digits == "0" || (!digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()));
    let ordinal = digits.parse().ok().filter(|_| canonical)?;
    Some((parent, ordinal))
}

/// The ordinal of a pod of this set.
pub(crate) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, ordinal) = parent_and_ordinal(name_of(&pod.metadata))?;
    (parent == name_of(&set.metadata)).then_some(ordinal)
}

/// `spec.ordinals.start`.
pub(crate) fn start(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.ordinals.as_ref()).and_then(|ordinals| ordinals.start).unwrap_or(0)
}

/// `spec.replicas`.
pub(crate) fn replicas(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The name of the pod with this ordinal.
pub(crate) fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", name_of(&set.metadata))
}

/// The claim templates.
pub(crate) fn claim_templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default()
}

/// `<template>-<set>-<ordinal>`.
pub(crate) fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", name_of(&template.metadata), name_of(&set.metadata))
}

/// The claim of one template and ordinal, as it is to be created.
pub(crate) fn new_claim(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> PersistentVolumeClaim {
    let mut claim = template.clone();
    claim.metadata.name = Some(claim_name(set, template, ordinal));
    claim.metadata.namespace.clone_from(&set.metadata.namespace);
    if let Some(selected) = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.as_ref()) {
        claim.metadata.labels.get_or_insert_default().extend(selected.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    claim.status = None;
    claim
}

fn claim_volumes(set: &StatefulSet, ordinal: i32) -> impl Iterator<Item = Volume> {
    claim_templates(set).iter().map(move |template| Volume {
        name: name_of(&template.metadata).to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource { claim_name: claim_name(set, template, ordinal), read_only: None }),
        ..Volume::default()
    })
}

/// The volumes a pod must have: those of the claim templates first, then its own, unless one of the templates has taken the name.
fn volumes(set: &StatefulSet, ordinal: i32, own: &[Volume]) -> Vec<Volume> {
    let mut volumes: Vec<Volume> = claim_volumes(set, ordinal).collect();
    let taken = volumes.len();
    for volume in own {
        if !volumes[..taken].iter().any(|claimed| claimed.name == volume.name) {
            volumes.push(volume.clone());
        }
    }
    volumes
}

/// The pod of an ordinal, as it is to be created. Upstream: `newStatefulSetPod`.
pub(crate) fn new_pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let name = pod_name(set, ordinal);
    let from = template.metadata.clone().unwrap_or_default();
    let mut labels = from.labels.unwrap_or_default();
    labels.insert(POD_NAME.to_owned(), name.clone());
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
    labels.insert(REVISION.to_owned(), revision.to_owned());
    let mut spec = template.spec.clone().unwrap_or_default();
    spec.hostname = Some(name.clone());
    spec.subdomain = set.spec.as_ref().and_then(|spec| spec.service_name.clone()).filter(|service| !service.is_empty());
    if !claim_templates(set).is_empty() {
        spec.volumes = Some(volumes(set, ordinal, spec.volumes.as_deref().unwrap_or_default()));
    }
    Pod {
        metadata: ObjectMeta {
            name: Some(name),
            generate_name: Some(format!("{}-", name_of(&set.metadata))),
            namespace: set.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: from.annotations,
            finalizers: from.finalizers,
            owner_references: Some(vec![owner_ref(set)]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// Whether a pod says of itself who it is. The index label is not looked at, as upstream.
pub(crate) fn identity_matches(pod: &Pod) -> bool {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(POD_NAME)).map(String::as_str) == pod.metadata.name.as_deref()
}

/// Whether a pod uses the claims of its ordinal.
pub(crate) fn storage_matches(set: &StatefulSet, pod: &Pod, ordinal: i32) -> bool {
    let have = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    claim_templates(set).iter().all(|template| {
        let claim = claim_name(set, template, ordinal);
        have.iter().any(|volume| {
            volume.name == name_of(&template.metadata) && volume.persistent_volume_claim.as_ref().is_some_and(|source| source.claim_name == claim)
        })
    })
}

/// What to merge into a pod so that identity and storage match.
pub(crate) fn correction(set: &StatefulSet, pod: &Pod, ordinal: i32) -> serde_json::Value {
    let name = name_of(&pod.metadata);
    let mut patch = serde_json::json!({ "metadata": { "labels": { (POD_NAME): name, (POD_INDEX): ordinal.to_string() } } });
    if !storage_matches(set, pod, ordinal) {
        let own = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        let corrected = Pod { spec: Some(k8s_openapi::api::core::v1::PodSpec { volumes: Some(volumes(set, ordinal, own)), ..Default::default() }), ..Pod::default() };
        let value = mainstay_client::Resource::to_value(&corrected);
        patch["spec"] = serde_json::json!({ "volumes": value["spec"]["volumes"] });
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_the_controller_would_write_have_an_ordinal() {
        for (name, expected) in [
            ("web-0", Some(("web", 0))),
            ("web-12", Some(("web", 12))),
            ("a-b-3", Some(("a-b", 3))),
            ("web-00", None),
            ("web-01", None),
            ("web-", None),
            ("web-+1", None),
            ("web", None),
            ("web-99999999999", None),
        ] {
            assert_eq!(parent_and_ordinal(name), expected, "{name}");
        }
    }
}
