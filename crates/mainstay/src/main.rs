//! Mainstay: one binary that makes one machine a Kubernetes for stateful sets.
fn main() {}
