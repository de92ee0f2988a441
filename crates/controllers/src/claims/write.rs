//! What can be done to claims and volumes: the steps' vocabulary.

use mainstay_client::Severity;
use mainstay_client::k8s_openapi::api::core::v1::PersistentVolume;
use std::fmt;

/// One write. Those of a claim's step concern that claim, those of a volume's step that volume, unless they name another.
#[derive(Debug, PartialEq)]
pub(super) enum Write {
    /// Give the claim a class.
    Class(String),
    /// Say on the claim who is expected to make its volume.
    Provisioner(String),
    /// Make the directory, then the object.
    MakeVolume(Box<PersistentVolume>),
    /// Write the claim into the volume.
    Claim {
        volume: String,
    },
    /// Write the volume into the claim, and that the binding is complete.
    Bind {
        volume: String,
        /// The volume was found, not asked for by name.
        by_controller: bool,
        provisioner: Option<String>,
    },
    /// The claim's status.
    ClaimStatus {
        phase: &'static str,
        capacity: Option<String>,
        access_modes: Vec<String>,
    },
    /// The volume's size.
    Resize {
        volume: String,
        capacity: String,
    },
    VolumePhase {
        volume: String,
        phase: &'static str,
    },
    /// Free the volume from its claim: wholly, or (one that was reserved by hand) only from the claim's uid.
    Unclaim {
        wholly: bool,
    },
    /// Remove the directory, then the object.
    RemoveVolume,
    /// Put the protecting finalizer back.
    Protect,
    /// Remove it.
    Unprotect,
    /// An event about the claim or volume.
    Event {
        severity: Severity,
        reason: &'static str,
        message: String,
    },
}

impl Write {
    pub(super) fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Event { severity: Severity::Normal, reason, message: message.into() }
    }

    pub(super) fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Event { severity: Severity::Warning, reason, message: message.into() }
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(class) => write!(f, "class {class}"),
            Self::Provisioner(name) => write!(f, "expect {name}"),
            Self::MakeVolume(volume) => write!(f, "make {}", volume.metadata.name.as_deref().unwrap_or_default()),
            Self::Claim { volume } => write!(f, "claim {volume}"),
            Self::Bind { volume, by_controller, .. } => write!(f, "bind {volume}{}", if *by_controller { "" } else { " as asked" }),
            Self::ClaimStatus { phase, capacity, .. } => write!(f, "{phase}{}", capacity.as_ref().map(|size| format!(" {size}")).unwrap_or_default()),
            Self::Resize { volume, capacity } => write!(f, "resize {volume} {capacity}"),
            Self::VolumePhase { volume, phase } => write!(f, "{volume} {phase}"),
            Self::Unclaim { wholly: true } => f.write_str("unclaim"),
            Self::Unclaim { wholly: false } => f.write_str("unclaim uid"),
            Self::RemoveVolume => f.write_str("remove"),
            Self::Protect => f.write_str("protect"),
            Self::Unprotect => f.write_str("unprotect"),
            Self::Event { severity, reason, message } => write!(f, "{severity:?} {reason}: {message}"),
        }
    }
}
