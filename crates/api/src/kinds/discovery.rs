//! The rows of `discovery.k8s.io/v1`.

mod endpoint_slice;

use crate::Kind;

pub(crate) const ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    storage: "discovery.k8s.io/endpointslices",
    generation: true,
    default: endpoint_slice::default,
    validate: endpoint_slice::validate,
    validate_update: endpoint_slice::validate_update,
    columns: endpoint_slice::COLUMNS,
    ..Kind::BASE
};
