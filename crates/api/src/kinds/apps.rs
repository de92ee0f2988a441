//! The rows of `apps/v1`.

mod controller_revision;
mod statefulset;

use crate::{Kind, Scale, names};

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
    scale: Some(Scale { replicas: "/spec/replicas", selector: "/spec/selector", current: "/status/replicas" }),
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
