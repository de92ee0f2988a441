//! Service.

pub(super) mod admit;
pub(super) mod columns;
pub(super) mod default;
pub(super) mod validate;

use crate::value::Access;
use serde_json::Value;

/// `clusterIP: None`.
const HEADLESS: &str = "None";

fn is_headless(service: &Value) -> bool {
    service.text("spec.clusterIP") == HEADLESS
}

/// Has ports on every node.
fn has_node_ports(service: &Value) -> bool {
    match service.text("spec.type") {
        "NodePort" => true,
        "LoadBalancer" => service.at("spec.allocateLoadBalancerNodePorts").as_bool().unwrap_or(true),
        _ => false,
    }
}
