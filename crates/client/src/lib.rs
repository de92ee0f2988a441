//! The shared caches, one informer a kind, and the one place where typed objects are (de)serialized in bulk.
