//! Lease.

use crate::columns::{AGE, NAME};
use crate::value::Access;
use crate::{Column, Errors};
use serde_json::Value;

pub(super) const COLUMNS: &[Column] = &[NAME, Column::new("Holder", "string", "Who holds it.", |o, _| o.text("spec.holderIdentity").into()), AGE];

pub(super) fn validate(lease: &Value, errors: &mut Errors) {
    if let Some(seconds) = lease.int("spec.leaseDurationSeconds").filter(|s| *s <= 0) {
        errors.invalid("spec.leaseDurationSeconds", &seconds.into(), "must be greater than 0");
    }
    errors.non_negative("spec.leaseTransitions", lease.int("spec.leaseTransitions"));
    let strategy = lease.text("spec.strategy");
    if !strategy.is_empty() && !strategy.contains('/') {
        errors.one_of("spec.strategy", strategy, &["OldestEmulationVersion"]);
    }
}
