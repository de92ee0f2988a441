//! The rows of `apps/v1`.

mod controller_revision;
mod deployment;
mod replicas;
mod replicaset;
mod statefulset;

use crate::value::Access;
use crate::{Field, Kind, Scale, names};

pub(crate) const CONTROLLER_REVISION: Kind = Kind {
    group: "apps",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    storage: "apps/controllerrevisions",
    validate: controller_revision::validate,
    validate_update: controller_revision::validate_update,
    columns: controller_revision::COLUMNS,
    ..Kind::BASE
};

const SCALE: Option<Scale> = Some(Scale { replicas: "/spec/replicas", selector: "/spec/selector", current: "/status/replicas" });

pub(crate) const DEPLOYMENT: Kind = Kind {
    group: "apps",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short: &["deploy"],
    categories: &["all"],
    storage: "apps/deployments",
    status: true,
    generation: true,
    scale: SCALE,
    default: deployment::default,
    prepare_create: deployment::prepare_create,
    prepare_status: deployment::prepare_status,
    validate: deployment::validate,
    validate_update: deployment::validate_update,
    validate_status: deployment::validate_status,
    warnings: deployment::warnings,
    columns: deployment::COLUMNS,
    ..Kind::BASE
};

pub(crate) const REPLICA_SET: Kind = Kind {
    group: "apps",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short: &["rs"],
    categories: &["all"],
    storage: "apps/replicasets",
    status: true,
    generation: true,
    scale: SCALE,
    fields: &[Field { name: "status.replicas", value: |set| set.at("status.replicas").as_i64().unwrap_or(0).to_string() }],
    default: replicaset::default,
    prepare_create: replicaset::prepare_create,
    validate: replicaset::validate,
    validate_update: replicas::keep_selector,
    validate_status: replicaset::validate_status,
    warnings: replicaset::warnings,
    columns: replicaset::COLUMNS,
    ..Kind::BASE
};

pub(crate) const STATEFUL_SET: Kind = Kind {
    group: "apps",
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short: &["sts"],
    categories: &["all"],
    storage: "apps/statefulsets",
    status: true,
    generation: true,
    scale: SCALE,
    name_rule: names::dns_label,
    default: statefulset::default,
    prepare_create: statefulset::prepare_create,
    validate: statefulset::validate::validate,
    validate_update: statefulset::validate::validate_update,
    validate_status: statefulset::validate::validate_status,
    warnings: statefulset::validate::warnings,
    columns: statefulset::COLUMNS,
    ..Kind::BASE
};
