//! What every object looks like: OpenAPI v3, pruning, merge keys, list types, protobuf field numbers.
