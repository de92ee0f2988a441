//! The rows of `coordination.k8s.io/v1`.

mod lease;

use crate::Kind;

pub(crate) const LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    storage: "coordination.k8s.io/leases",
    validate: lease::validate,
    columns: lease::COLUMNS,
    ..Kind::BASE
};
