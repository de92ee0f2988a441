//! A pod's quality of service class, from what its containers ask for.

use crate::quantity::Quantity;
use crate::value::Access;
use serde_json::Value;

const RESOURCES: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`: every container has cpu and memory limits, and asks for as much. `BestEffort`: none asks for anything. Else `Burstable`.
pub(crate) fn class(spec: &Value) -> &'static str {
    let (mut any, mut all_equal) = (false, true);
    let containers = spec.list("containers").iter().chain(spec.list("initContainers"));
    for container in containers {
        for resource in RESOURCES {
            let of = |side: &str| Quantity::of(container.at("resources").object(side).get(resource).unwrap_or(&Value::Null));
            let (request, limit) = (of("requests"), of("limits"));
            any |= !request.is_zero() || !limit.is_zero();
            all_equal &= !limit.is_zero() && request == limit;
        }
    }
    match (any, all_equal) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
