//! The table of kinds.

mod apps;
mod batch;
mod coordination;
pub(crate) mod core;
mod discovery;
mod events;
pub(crate) mod storage;

#[cfg(test)]
mod table_tests;

use crate::Kind;

static ALL: &[&Kind] = &[
    &core::CONFIG_MAP,
    &core::ENDPOINTS,
    &core::EVENT,
    &core::NAMESPACE,
    &core::NODE,
    &core::PERSISTENT_VOLUME_CLAIM,
    &core::PERSISTENT_VOLUME,
    &core::POD,
    &core::SECRET,
    &core::SERVICE_ACCOUNT,
    &core::SERVICE,
    &apps::CONTROLLER_REVISION,
    &apps::DEPLOYMENT,
    &apps::REPLICA_SET,
    &apps::STATEFUL_SET,
    &batch::CRON_JOB,
    &batch::JOB,
    &coordination::LEASE,
    &discovery::ENDPOINT_SLICE,
    &events::EVENT,
    &storage::STORAGE_CLASS,
];

/// Every kind that is served, in the order of `kubectl api-resources`.
pub fn all() -> &'static [&'static Kind] {
    ALL
}

/// The row of a kind, by group, version and plural.
pub fn by_plural(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    all().iter().copied().find(|k| k.group == group && k.version == version && k.plural == plural)
}

/// The row of a kind, by `apiVersion` and `kind` of an object.
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static Kind> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    all().iter().copied().find(|k| k.group == group && k.version == version && k.kind == kind)
}
