//! What becomes of a volume. Upstream: `syncVolume` (`pkg/controller/volume/persistentvolume/pv_controller.go`, 1.36) and
//! `pkg/controller/volume/pvprotection`.

use super::PROVISIONER;
use super::directory::Place;
use super::fields::*;
use super::write::Write;
use mainstay_client::k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

/// What there is.
pub(super) struct Observed<'a> {
    pub(super) volume: &'a PersistentVolume,
    /// The claim of the name that the volume refers to, whatever its uid.
    pub(super) claim: Option<&'a PersistentVolumeClaim>,
    /// Where volumes are made here.
    pub(super) place: &'a Place,
}

/// Pure.
pub(super) fn step(observed: &Observed<'_>) -> Vec<Write> {
    let volume = observed.volume;
    let deleting = volume.metadata.deletion_timestamp.is_some();
    let mut writes = Vec::new();
    if !deleting && !has_finalizer(&volume.metadata, VOLUME_PROTECTION) {
        writes.push(Write::Protect);
    }
    let (phase, rest) = fate(observed);
    // The phase as it will be: a volume that is being deleted goes as soon as it is no longer bound, its directory before it.
    let will_be = phase.unwrap_or_else(|| volume_phase(volume));
    writes.extend(phase.filter(|phase| *phase != volume_phase(volume)).map(|phase| Write::VolumePhase { volume: name(&volume.metadata).to_owned(), phase }));
    let removes = rest.contains(&Write::RemoveVolume);
    writes.extend(rest);
    if deleting && will_be != "Bound" && !removes && has_finalizer(&volume.metadata, VOLUME_PROTECTION) {
        writes.push(Write::Unprotect);
    }
    writes
}

/// The phase, where it is known, and what follows.
fn fate(observed: &Observed<'_>) -> (Option<&'static str>, Vec<Write>) {
    let volume = observed.volume;
    let Some(reference) = claim_ref(volume) else { return (Some("Available"), Vec::new()) };
    if reference.uid.as_deref().is_none_or(str::is_empty) {
        // Reserved by hand: its claim's step goes on.
        return (Some("Available"), Vec::new());
    }
    let Some(claim) = observed.claim.filter(|claim| claim.metadata.uid == reference.uid) else { return released(observed) };
    let bound_to = volume_name(claim);
    if bound_to.is_empty() {
        // Half bound: the claim's step goes on.
        return (None, Vec::new());
    }
    if bound_to == name(&volume.metadata) {
        return (Some("Bound"), Vec::new());
    }
    if annotation(&volume.metadata, PROVISIONED_BY).is_some() && reclaim_policy(volume) == "Delete" {
        return released(observed);
    }
    let wholly = annotation(&volume.metadata, BOUND_BY_CONTROLLER).is_some();
    (Some("Available"), vec![Write::Unclaim { wholly }])
}

/// Its claim is gone.
fn released(observed: &Observed<'_>) -> (Option<&'static str>, Vec<Write>) {
    let volume = observed.volume;
    // A failure stays visible while the removal is tried again.
    let phase = if volume_phase(volume) == "Failed" { "Failed" } else { "Released" };
    match (reclaim_policy(volume), annotation(&volume.metadata, PROVISIONED_BY)) {
        ("Retain", _) => (Some(phase), Vec::new()),
        ("Delete", Some(PROVISIONER)) if observed.place.holds(volume) => (Some(phase), vec![Write::RemoveVolume]),
        // Another node's or another provisioner's to remove.
        ("Delete", Some(_)) => (Some(phase), Vec::new()),
        ("Delete", None) => failed(volume, "VolumeFailedDelete", "no deletable volume plugin matched"),
        _ => failed(volume, "VolumeFailedRecycle", "Volume plugin does not support recycling"),
    }
}

fn failed(volume: &PersistentVolume, reason: &'static str, message: &str) -> (Option<&'static str>, Vec<Write>) {
    let told = volume_phase(volume) == "Failed";
    let events = if told { Vec::new() } else { vec![Write::warning(reason, format!("Error getting deleter volume plugin for volume \"{}\": {message}", name(&volume.metadata)))] };
    (Some("Failed"), events)
}
