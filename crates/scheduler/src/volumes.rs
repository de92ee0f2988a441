//! What a pod's claims allow.
//!
//! Upstream: plugins/volumebinding. The scheduler says which node a waiting claim is for (annotation), the claim controller makes or
//! finds the volume, and the pod is bound once its claims are.

use crate::affinity::selects;
use crate::resources::parse;
use crate::view::{Place, Things};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use std::sync::Arc;

/// Annotation of a claim: the node its first pod will run on.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// The claims of one pod.
#[derive(Debug, Default, Clone)]
pub(crate) struct Claims {
    /// Bound, with their volumes.
    pub(crate) bound: Vec<Arc<PersistentVolume>>,
    /// To be bound once a node is chosen.
    pub(crate) waiting: Vec<(Arc<PersistentVolumeClaim>, Arc<StorageClass>)>,
}

/// Bound in both directions and said to be.
pub(crate) fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).is_some_and(|name| !name.is_empty());
    let completed = claim.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(BIND_COMPLETED));
    named && (completed || claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound"))
}

/// The node that was selected for a claim.
pub(crate) fn selected_node(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.metadata.annotations.as_ref()?.get(SELECTED_NODE).map(String::as_str)
}

/// The names of the claims that a pod uses, and whether each is made for it (an ephemeral volume).
pub(crate) fn names(pod: &Pod) -> Vec<(String, bool)> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let claim = |volume: &k8s_openapi::api::core::v1::Volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(source), _) => Some((source.claim_name.clone(), false)),
        (None, Some(_)) => Some((format!("{pod_name}-{}", volume.name), true)),
        (None, None) => None,
    };
    volumes.iter().filter_map(claim).collect()
}

/// The claims of a pod, or why it cannot run anywhere, in upstream's words.
pub(crate) fn claims(pod: &Pod, things: &Things) -> Result<Claims, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut found = Claims::default();
    let mut immediate = false;
    for (name, ephemeral) in names(pod) {
        let Some(claim) = things.claim(namespace, &name) else {
            return Err(match ephemeral {
                true => format!("waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""),
                false => format!("persistentvolumeclaim \"{name}\" not found"),
            });
        };
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
        }
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).unwrap_or_default();
        if claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost") {
            return Err(format!("persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""));
        }
        if is_bound(&claim) {
            found.bound.push(things.volume(&volume).ok_or_else(|| format!("persistentvolume \"{volume}\" not found"))?);
            continue;
        }
        let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).and_then(|class| things.class(class));
        match class.filter(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer") && volume.is_empty()) {
            Some(class) => found.waiting.push((claim, class)),
            None => immediate = true,
        }
    }
    if immediate { Err("pod has unbound immediate PersistentVolumeClaims".to_owned()) } else { Ok(found) }
}

fn reaches(volume: &PersistentVolume, node: &Node) -> bool {
    let required = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()).and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|selector| selects(selector, node))
}

/// Whether a free volume would do for a claim. A coarse look: the claim controller decides.
fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(offer), Some(want)) = (&volume.spec, &claim.spec) else { return false };
    let size = |quantities: Option<&std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>| {
        quantities.and_then(|quantities| quantities.get("storage")).and_then(|quantity| parse(&quantity.0)).unwrap_or(0)
    };
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Available");
    let reserved_for_other = offer.claim_ref.as_ref().is_some_and(|owner| owner.name != claim.metadata.name || owner.namespace != claim.metadata.namespace);
    let modes = offer.access_modes.as_deref().unwrap_or_default();
    phase == "Available"
        && !reserved_for_other
        && offer.storage_class_name.as_deref().unwrap_or_default() == want.storage_class_name.as_deref().unwrap_or_default()
        && size(offer.capacity.as_ref()) >= size(want.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
        && want.access_modes.iter().flatten().all(|mode| modes.contains(mode))
}

fn may_provision(class: &StorageClass, node: &Node) -> bool {
    let topologies = class.allowed_topologies.as_deref().unwrap_or_default();
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let term = |term: &k8s_openapi::api::core::v1::TopologySelectorTerm| {
        term.match_label_expressions.iter().flatten().all(|one| label(&one.key).is_some_and(|value| one.values.contains(value)))
    };
    class.provisioner != NO_PROVISIONER && (topologies.is_empty() || topologies.iter().any(term))
}

/// Why a node cannot have the claims' volumes.
pub(crate) fn forbids(claims: &Claims, place: &Place, things: &Things) -> Option<&'static str> {
    if !claims.bound.iter().all(|volume| reaches(volume, &place.node)) {
        return Some("node(s) had volume node affinity conflict");
    }
    let served = |claim: &PersistentVolumeClaim, class: &StorageClass| {
        may_provision(class, &place.node) || things.volumes().iter().any(|volume| suits(volume, claim) && reaches(volume, &place.node))
    };
    let elsewhere = |claim: &PersistentVolumeClaim| selected_node(claim).is_some_and(|node| node != place.name());
    if claims.waiting.iter().any(|(claim, class)| !served(claim, class) || elsewhere(claim)) {
        return Some("node(s) didn't find available persistent volumes to bind");
    }
    None
}
