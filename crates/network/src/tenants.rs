//! The host's other tenants.
use crate::{Ranges, record::Paths};
pub(crate) fn warnings(_paths: &Paths, _instance: &str, _ranges: &Ranges) -> Vec<String> {
    Vec::new()
}
pub(crate) fn remove_docker_rules(_instance: &str) {}
