//! Claims and volumes: binds claims to volumes, makes volumes of the class `standard` as directories, takes them back, and keeps
//! what is in use from going.
//!
//! Upstream: `pkg/controller/volume/persistentvolume`, `pvcprotection`, `pvprotection`; the provisioner is our own.
//!
//! * `claim.rs` decides for one claim, `volume.rs` for one volume, `matching.rs` which volume suits a claim, `write.rs` what can be done.
//! * `directory.rs` makes and removes the directories, with the identity that a node checks before it mounts one.
//! * `runner.rs` reads the caches and carries out.
//!
//! A claim is Bound only after its directory and the identity in it are on disk: a pod never starts on data that is silently new.

mod claim;
mod directory;
mod fields;
mod matching;
mod quantity;
mod runner;
#[cfg(test)]
mod tests;
mod volume;
mod write;

pub(crate) use runner::run;

/// The provisioner that makes directories on this machine.
pub(crate) const PROVISIONER: &str = "mainstay.dev/local";
/// The class that exists from the first start on.
pub(crate) const STANDARD: &str = "standard";
