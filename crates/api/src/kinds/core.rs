//! The rows of the core group.

mod config;
mod endpoints;
mod namespace;
mod node;
pub(crate) mod persistent_volume;
pub(crate) mod persistent_volume_claim;
mod pod;
mod service;
mod service_account;

pub(crate) use endpoints::validate_ip as validate_endpoint_ip;

use crate::{Kind, Scope, names};

pub(crate) const CONFIG_MAP: Kind = Kind {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short: &["cm"],
    storage: "configmaps",
    validate: config::validate_config_map,
    validate_update: config::validate_config_map_update,
    columns: config::CONFIG_MAP_COLUMNS,
    ..Kind::BASE
};

pub(crate) const ENDPOINTS: Kind = Kind {
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short: &["ep"],
    storage: "endpoints",
    default: endpoints::default,
    validate: endpoints::validate,
    deprecation: Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
    columns: endpoints::COLUMNS,
    ..Kind::BASE
};

pub(crate) const EVENT: Kind = Kind {
    kind: "Event",
    plural: "events",
    singular: "event",
    short: &["ev"],
    storage: "events",
    validate: super::events::validate_core,
    fields: super::events::FIELDS,
    columns: super::events::COLUMNS,
    ..Kind::BASE
};

pub(crate) const NAMESPACE: Kind = Kind {
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short: &["ns"],
    scope: Scope::Cluster,
    storage: "namespaces",
    status: true,
    name_rule: names::dns_label,
    default: namespace::default,
    prepare_create: namespace::prepare_create,
    prepare_update: namespace::prepare_update,
    validate: namespace::validate,
    validate_status: namespace::validate_status,
    fields: namespace::FIELDS,
    columns: namespace::COLUMNS,
    verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
    ..Kind::BASE
};

pub(crate) const NODE: Kind = Kind {
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short: &["no"],
    scope: Scope::Cluster,
    storage: "nodes",
    status: true,
    default: node::default,
    validate: node::validate,
    validate_update: node::validate_update,
    fields: node::FIELDS,
    columns: node::COLUMNS,
    ..Kind::BASE
};

pub(crate) const PERSISTENT_VOLUME_CLAIM: Kind = Kind {
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short: &["pvc"],
    storage: "persistentvolumeclaims",
    status: true,
    default: persistent_volume_claim::default,
    prepare_create: persistent_volume_claim::prepare_create,
    admit: persistent_volume_claim::admit,
    validate: persistent_volume_claim::validate,
    validate_update: persistent_volume_claim::validate_update,
    validate_status: persistent_volume_claim::validate_status,
    warnings: persistent_volume_claim::warnings,
    columns: persistent_volume_claim::COLUMNS,
    ..Kind::BASE
};

pub(crate) const PERSISTENT_VOLUME: Kind = Kind {
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short: &["pv"],
    scope: Scope::Cluster,
    storage: "persistentvolumes",
    status: true,
    default: persistent_volume::default,
    prepare_create: persistent_volume::prepare_create,
    prepare_status: persistent_volume::prepare_status,
    validate: persistent_volume::validate,
    validate_update: persistent_volume::validate_update,
    columns: persistent_volume::COLUMNS,
    ..Kind::BASE
};

pub(crate) const POD: Kind = Kind {
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short: &["po"],
    categories: &["all"],
    storage: "pods",
    status: true,
    generation: true,
    subresources: pod::SUBRESOURCES,
    default: crate::pod::default::pod,
    prepare_create: pod::prepare_create,
    prepare_status: pod::prepare_status,
    admit: crate::pod::admit::admit,
    validate: crate::pod::validate::pod,
    validate_update: crate::pod::update::validate,
    validate_status: crate::pod::update::validate_status,
    warnings: crate::pod::warnings::pod,
    fields: crate::pod::columns::FIELDS,
    columns: crate::pod::columns::COLUMNS,
    grace: pod::grace,
    ..Kind::BASE
};

pub(crate) const SECRET: Kind = Kind {
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    storage: "secrets",
    default: config::default_secret,
    validate: config::validate_secret,
    validate_update: config::validate_secret_update,
    fields: config::SECRET_FIELDS,
    columns: config::SECRET_COLUMNS,
    ..Kind::BASE
};

pub(crate) const SERVICE_ACCOUNT: Kind = Kind {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short: &["sa"],
    storage: "serviceaccounts",
    subresources: service_account::SUBRESOURCES,
    columns: service_account::COLUMNS,
    ..Kind::BASE
};

pub(crate) const SERVICE: Kind = Kind {
    kind: "Service",
    plural: "services",
    singular: "service",
    short: &["svc"],
    categories: &["all"],
    storage: "services",
    status: true,
    // Relaxed from DNS-1035 (KEP-5311, on by default in 1.36).
    name_rule: names::dns_label,
    default: service::default::default,
    prepare_create: service::default::prepare_create,
    prepare_update: service::default::prepare_update,
    admit: service::admit::admit,
    validate: service::validate::validate,
    validate_update: service::validate::validate_update,
    warnings: service::validate::warnings,
    fields: service::columns::FIELDS,
    columns: service::columns::COLUMNS,
    serialized: true,
    ..Kind::BASE
};
