//! The rows of `storage.k8s.io/v1`.

pub(crate) mod storage_class;

use crate::{Kind, Scope};

pub(crate) const STORAGE_CLASS: Kind = Kind {
    group: "storage.k8s.io",
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short: &["sc"],
    scope: Scope::Cluster,
    storage: "storage.k8s.io/storageclasses",
    default: storage_class::default,
    validate: storage_class::validate,
    validate_update: storage_class::validate_update,
    columns: storage_class::COLUMNS,
    ..Kind::BASE
};
