//! The process that owns one container, and the way the node speaks with it.
