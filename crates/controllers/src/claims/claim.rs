//! What becomes of a claim. Upstream: `syncClaim` (`pkg/controller/volume/persistentvolume/pv_controller.go`, 1.36) and
//! `pkg/controller/volume/pvcprotection`.

use super::directory::Place;
use super::fields::*;
use super::matching::{best, mismatch};
use super::write::Write;
use super::{PROVISIONER, quantity};
use mainstay_client::k8s_openapi::api::core::v1::{
    LocalVolumeSource, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec,
    VolumeNodeAffinity,
};
use mainstay_client::k8s_openapi::api::storage::v1::StorageClass;
use mainstay_client::k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use mainstay_client::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;

/// What there is.
pub(super) struct Observed<'a> {
    pub(super) claim: &'a PersistentVolumeClaim,
    pub(super) volumes: &'a [Arc<PersistentVolume>],
    /// The claim's class, where it exists.
    pub(super) class: Option<&'a StorageClass>,
    /// The name of the default class.
    pub(super) default_class: Option<&'a str>,
    /// The node that the scheduler chose, where it exists.
    pub(super) node: Option<&'a Node>,
    /// Pods that use the claim: name and whether it is on a node.
    pub(super) pods: Vec<(&'a str, bool)>,
    /// Where volumes are made here.
    pub(super) place: &'a Place,
}

/// Pure.
pub(super) fn step(observed: &Observed<'_>) -> Vec<Write> {
    let claim = observed.claim;
    let mut writes = Vec::new();
    if claim.metadata.deletion_timestamp.is_some() {
        if has_finalizer(&claim.metadata, CLAIM_PROTECTION) && !observed.pods.iter().any(|(_, on_node)| *on_node) {
            writes.push(Write::Unprotect);
        }
    } else if !has_finalizer(&claim.metadata, CLAIM_PROTECTION) {
        writes.push(Write::Protect);
    }
    if annotation(&claim.metadata, BIND_COMPLETED).is_some() {
        writes.extend(bound(observed));
    } else if claim.metadata.deletion_timestamp.is_none() {
        writes.extend(unbound(observed));
    }
    writes
}

fn find<'a>(observed: &Observed<'a>, wanted: &str) -> Option<&'a PersistentVolume> {
    observed.volumes.iter().find(|volume| name(&volume.metadata) == wanted).map(|volume| &**volume)
}

fn pending(claim: &PersistentVolumeClaim) -> Vec<Write> {
    if claim_phase(claim) == "Pending" { Vec::new() } else { vec![Write::ClaimStatus { phase: "Pending", capacity: None, access_modes: Vec::new() }] }
}

fn with(event: Write, mut rest: Vec<Write>) -> Vec<Write> {
    rest.insert(0, event);
    rest
}

fn unbound(observed: &Observed<'_>) -> Vec<Write> {
    let claim = observed.claim;
    let wanted = volume_name(claim);
    if wanted.is_empty() {
        return search(observed);
    }
    let Some(volume) = find(observed, wanted) else { return pending(claim) };
    match claim_ref(volume) {
        None => match mismatch(volume, claim) {
            Some(why) => with(Write::warning("VolumeMismatch", format!("Cannot bind to requested volume \"{wanted}\": {why}")), pending(claim)),
            None => bind(volume, claim, None),
        },
        Some(reference) if refers_to(reference, claim) => bind(volume, claim, None),
        Some(_) => with(Write::normal("FailedBinding", format!("volume \"{wanted}\" already bound to a different claim.")), pending(claim)),
    }
}

fn search(observed: &Observed<'_>) -> Vec<Write> {
    let claim = observed.claim;
    let class = match (claim_class(claim), observed.default_class) {
        (Some(class), _) => class,
        (None, Some(default)) => return vec![Write::Class(default.to_owned())],
        (None, None) => "",
    };
    let chosen = annotation(&claim.metadata, SELECTED_NODE).filter(|node| !node.is_empty());
    let waits = waits_for_consumer(observed.class) && chosen.is_none();
    if let Some(volume) = best(observed.volumes, claim, waits, observed.node) {
        return bind(volume, claim, None);
    }
    if waits {
        return with(waiting(observed), pending(claim));
    }
    if class.is_empty() {
        return with(Write::normal("FailedBinding", "no persistent volumes available for this claim and no storage class is set"), pending(claim));
    }
    match observed.class {
        None => with(Write::warning("ProvisioningFailed", format!("storageclass.storage.k8s.io \"{class}\" not found")), pending(claim)),
        Some(class) => provision(observed, class, chosen),
    }
}

fn waiting(observed: &Observed<'_>) -> Write {
    let unscheduled: Vec<&str> = observed.pods.iter().filter(|(_, on_node)| !on_node).map(|(pod, _)| *pod).collect();
    match unscheduled[..] {
        [] => Write::normal("WaitForFirstConsumer", "waiting for first consumer to be created before binding"),
        [pod] => Write::normal("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
        _ => Write::normal("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", unscheduled.join(","))),
    }
}

/// Today's names of drivers that were part of Kubernetes. Upstream: `csi-translation-lib/plugins`.
const MIGRATED: [(&str, &str); 7] = [
    ("kubernetes.io/gce-pd", "pd.csi.storage.gke.io"),
    ("kubernetes.io/aws-ebs", "ebs.csi.aws.com"),
    ("kubernetes.io/azure-disk", "disk.csi.azure.com"),
    ("kubernetes.io/azure-file", "file.csi.azure.com"),
    ("kubernetes.io/cinder", "cinder.csi.openstack.org"),
    ("kubernetes.io/vsphere-volume", "csi.vsphere.vmware.com"),
    ("kubernetes.io/portworx-volume", "pxd.portworx.com"),
];

fn provision(observed: &Observed<'_>, class: &StorageClass, chosen: Option<&str>) -> Vec<Write> {
    let claim = observed.claim;
    let provisioner = MIGRATED.iter().find(|(old, _)| *old == class.provisioner).map_or(class.provisioner.as_str(), |(_, new)| new);
    if provisioner.starts_with("kubernetes.io/") {
        return with(Write::warning("ProvisioningFailed", format!("no volume plugin matched name: {provisioner}")), pending(claim));
    }
    if provisioner != PROVISIONER {
        let mut writes = expect(claim, provisioner);
        writes.push(Write::normal(
            "ExternalProvisioning",
            format!(
                "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. \
                 If volume creation is delayed, please verify that the provisioner is running and correctly registered."
            ),
        ));
        writes.extend(pending(claim));
        return writes;
    }
    if chosen.is_some_and(|node| node != observed.place.node) {
        // That node's own provisioner makes it.
        return pending(claim);
    }
    if let Some(why) = cannot_provision(claim) {
        let message = format!("failed to provision volume with StorageClass \"{}\": {why}", name(&class.metadata));
        return with(Write::warning("ProvisioningFailed", message), pending(claim));
    }
    let volume = volume_for(claim, class, observed.place);
    let mut writes = vec![Write::MakeVolume(Box::new(volume.clone()))];
    writes.extend(bind(&volume, claim, Some(PROVISIONER)));
    writes.push(Write::normal("ProvisioningSucceeded", format!("Successfully provisioned volume {}", name(&volume.metadata))));
    writes
}

fn expect(claim: &PersistentVolumeClaim, provisioner: &str) -> Vec<Write> {
    let said = annotation(&claim.metadata, STORAGE_PROVISIONER) == Some(provisioner);
    if said { Vec::new() } else { vec![Write::Provisioner(provisioner.to_owned())] }
}

/// What a directory cannot be. An empty volume where data was asked for would be silently new.
fn cannot_provision(claim: &PersistentVolumeClaim) -> Option<String> {
    let spec = claim_spec(claim)?;
    if mode(spec.volume_mode.as_ref()) == "Block" {
        return Some(format!("{PROVISIONER} does not support block volume provisioning"));
    }
    if spec.selector.is_some() {
        return Some(format!("claim.Spec.Selector is not supported by {PROVISIONER}"));
    }
    let source = spec.data_source_ref.as_ref().map(|source| (&source.kind, &source.name));
    let source = source.or_else(|| spec.data_source.as_ref().map(|source| (&source.kind, &source.name)));
    source.map(|(kind, name)| format!("{PROVISIONER} cannot fill a volume from {kind} {name}"))
}

/// The volume that is made for a claim: its name follows from the claim's uid, so that a second attempt finds the first.
pub(super) fn volume_for(claim: &PersistentVolumeClaim, class: &StorageClass, place: &Place) -> PersistentVolume {
    let name = format!("pvc-{}", uid(&claim.metadata));
    let spec = claim_spec(claim);
    let size = requested(claim).unwrap_or("0").to_owned();
    let hostname = NodeSelectorRequirement { key: "kubernetes.io/hostname".into(), operator: "In".into(), values: Some(vec![place.node.clone()]) };
    let term = NodeSelectorTerm { match_expressions: Some(vec![hostname]), match_fields: None };
    PersistentVolume {
        metadata: ObjectMeta {
            annotations: Some([(PROVISIONED_BY.to_owned(), PROVISIONER.to_owned())].into()),
            finalizers: Some(vec![VOLUME_PROTECTION.to_owned()]),
            name: Some(name.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.and_then(|spec| spec.access_modes.clone()),
            capacity: Some([("storage".to_owned(), Quantity(size))].into()),
            claim_ref: Some(reference(claim)),
            local: Some(LocalVolumeSource { path: place.data(&name).to_string_lossy().into_owned(), fs_type: None }),
            mount_options: class.mount_options.clone(),
            node_affinity: Some(VolumeNodeAffinity { required: Some(NodeSelector { node_selector_terms: vec![term] }) }),
            persistent_volume_reclaim_policy: Some(class.reclaim_policy.clone().unwrap_or_else(|| "Delete".to_owned())),
            storage_class_name: Some(claim_class(claim).unwrap_or_default().to_owned()),
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

pub(super) fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    mainstay_client::reference(claim)
}

fn bound(observed: &Observed<'_>) -> Vec<Write> {
    let claim = observed.claim;
    let lost = |reason, message: &str| {
        if claim_phase(claim) == "Lost" {
            return Vec::new();
        }
        vec![Write::ClaimStatus { phase: "Lost", capacity: None, access_modes: Vec::new() }, Write::warning(reason, message)]
    };
    if volume_name(claim).is_empty() {
        return lost("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!");
    }
    let Some(volume) = find(observed, volume_name(claim)) else {
        return lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
    };
    match claim_ref(volume) {
        Some(reference) if reference.uid != claim.metadata.uid => lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly"),
        _ => {
            let mut writes = grow(observed, volume);
            if writes.is_empty() {
                writes = bind(volume, claim, None);
            }
            writes
        }
    }
}

/// A bound claim that asks for more gets it: a directory has the size of its disk.
fn grow(observed: &Observed<'_>, volume: &PersistentVolume) -> Vec<Write> {
    let claim = observed.claim;
    let ours = annotation(&volume.metadata, PROVISIONED_BY) == Some(PROVISIONER);
    let may = observed.class.is_some_and(|class| class.allow_volume_expansion == Some(true));
    let Some(size) = requested(claim) else { return Vec::new() };
    if !ours || !may || quantity::bytes(size).unwrap_or(0) <= capacity_bytes(volume) || claim.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let access_modes = volume.spec.iter().flat_map(|spec| spec.access_modes.iter().flatten().cloned()).collect();
    vec![
        Write::Resize { volume: name(&volume.metadata).to_owned(), capacity: size.to_owned() },
        Write::ClaimStatus { phase: "Bound", capacity: Some(size.to_owned()), access_modes },
        Write::normal("VolumeResizeSuccessful", "Resize volume succeeded"),
    ]
}

/// What is still missing for the two to be bound to each other, in an order in which a crash between any two is mended by the next look.
fn bind(volume: &PersistentVolume, claim: &PersistentVolumeClaim, provisioner: Option<&str>) -> Vec<Write> {
    let volume_named = name(&volume.metadata).to_owned();
    let mut writes = Vec::new();
    if claim_ref(volume).is_none_or(|reference| reference.uid != claim.metadata.uid) {
        writes.push(Write::Claim { volume: volume_named.clone() });
    }
    if volume_phase(volume) != "Bound" {
        writes.push(Write::VolumePhase { volume: volume_named.clone(), phase: "Bound" });
    }
    let unfinished = annotation(&claim.metadata, BIND_COMPLETED).is_none();
    if unfinished || volume_name(claim) != volume_named {
        let by_controller = volume_name(claim) != volume_named;
        writes.push(Write::Bind { volume: volume_named, by_controller, provisioner: provisioner.map(str::to_owned) });
    }
    let access_modes: Vec<String> = volume.spec.iter().flat_map(|spec| spec.access_modes.iter().flatten().cloned()).collect();
    let status = claim.status.as_ref();
    let told = status.and_then(|status| status.capacity.as_ref()).and_then(|capacity| capacity.get("storage")).map(|size| size.0.as_str());
    let same_modes = status.and_then(|status| status.access_modes.as_ref()).is_some_and(|modes| *modes == access_modes);
    if claim_phase(claim) != "Bound" || told != capacity(volume) || !same_modes {
        writes.push(Write::ClaimStatus { phase: "Bound", capacity: capacity(volume).map(str::to_owned), access_modes });
    }
    writes
}
