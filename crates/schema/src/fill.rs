//! What Go's encoder writes of fields that are not set.

use crate::Type;
use crate::types::{Arena, Field, Shape, arena};
use serde_json::{Map, Value};

/// Adds what `encoding/json` writes of a field that is not set, for want of `omitempty` or because `omitempty` says nothing of structs:
/// `resources: {}` of a container, `status: {}`, `status.replicas: 0`, an empty name, `eventTime: null`, `endpoints: null`. For a value
/// that [`check`](crate::check) has cleaned; nulls that it took away come back where Go would write them.
///
/// With it an object, and whatever is computed from its bytes (a revision's hash), is the same as upstream's.
pub fn fill(ty: Type, value: &mut Value) {
    Filler { arena: arena() }.value(ty, value);
}

struct Filler {
    arena: &'static Arena,
}

impl Filler {
    fn value(&self, ty: Type, value: &mut Value) {
        match (self.arena.node(ty).shape, value) {
            (Shape::Struct { .. }, Value::Object(map)) => self.object(ty, map),
            (Shape::Map(item), Value::Object(map)) if self.has_structs(item) => map.values_mut().for_each(|v| self.value(item, v)),
            (Shape::List(item), Value::Array(list)) if self.has_structs(item) => list.iter_mut().for_each(|v| self.value(item, v)),
            _ => {}
        }
    }

    fn object(&self, ty: Type, map: &mut Map<String, Value>) {
        for field in self.arena.fields(ty) {
            match map.get_mut(field.name) {
                Some(value) if !value.is_null() && !self.arena.left_out(field, value) => self.value(field.ty, value),
                found => {
                    let there = found.is_some();
                    match self.zero(field) {
                        Some(mut zero) => {
                            self.value(field.ty, &mut zero);
                            map.insert(field.name.to_owned(), zero);
                        }
                        None if there => drop(map.remove(field.name)),
                        None => {}
                    }
                }
            }
        }
    }

    fn has_structs(&self, item: Type) -> bool {
        matches!(self.arena.node(item).shape, Shape::Struct { .. })
    }

    /// The unset field as it is written; `None` where it is left out.
    fn zero(&self, field: &Field) -> Option<Value> {
        if field.omit_zero || (field.pointer && field.omit_empty) {
            return None;
        }
        if field.pointer {
            return Some(Value::Null);
        }
        match self.arena.node(field.ty).shape {
            // Structs all of them, to Go: `omitempty` knows no empty one.
            Shape::Struct { .. } => Some(Value::Object(Map::new())),
            Shape::Time | Shape::MicroTime | Shape::Raw | Shape::FieldsV1 => Some(Value::Null),
            Shape::Quantity => Some(Value::from("0")),
            Shape::IntOrString => Some(Value::from(0)),
            _ if field.omit_empty => None,
            Shape::String => Some(Value::from("")),
            Shape::Int32 | Shape::Int64 | Shape::Float => Some(Value::from(0)),
            Shape::Duration => Some(Value::from("0s")),
            Shape::Bool => Some(Value::from(false)),
            Shape::Map(_) | Shape::List(_) | Shape::WrappedList(_) | Shape::Bytes => Some(Value::Null),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_go_always_writes_is_added() {
        for (api_version, kind, value, expected) in [
            (
                "v1",
                "Pod",
                json!({"spec": {"containers": [{"name": "a", "env": [{"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}}]}]}}),
                json!({"metadata": {}, "spec": {"containers": [{"name": "a", "resources": {}, "env": [{"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "0"}}}]}]}, "status": {}}),
            ),
            (
                "v1",
                "Pod",
                json!({"status": {"conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{"name": "a", "state": {"running": {}}}]}}),
                json!({"metadata": {}, "spec": {"containers": null}, "status": {
                    "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": null}],
                    "containerStatuses": [{"name": "a", "state": {"running": {"startedAt": null}}, "lastState": {}, "ready": false, "restartCount": 0, "image": "", "imageID": ""}]}}),
            ),
            (
                "apps/v1",
                "StatefulSet",
                json!({"spec": {"replicas": 1, "volumeClaimTemplates": [{"metadata": {"name": "www"}}]}}),
                json!({"metadata": {}, "spec": {"replicas": 1, "selector": null, "serviceName": "", "template": {"metadata": {}, "spec": {"containers": null}}, "updateStrategy": {},
                    "volumeClaimTemplates": [{"metadata": {"name": "www"}, "spec": {"resources": {}}, "status": {}}]}, "status": {"replicas": 0, "availableReplicas": 0}}),
            ),
            ("v1", "Service", json!({"spec": {"ports": [{"port": 80}]}}), json!({"metadata": {}, "spec": {"ports": [{"port": 80, "targetPort": 0}]}, "status": {"loadBalancer": {}}})),
            ("v1", "ConfigMap", json!({"metadata": {"name": "c", "creationTimestamp": null}, "data": {"a": "b"}}), json!({"metadata": {"name": "c"}, "data": {"a": "b"}})),
            ("discovery.k8s.io/v1", "EndpointSlice", json!({"endpoints": [{"addresses": ["10.0.0.1"]}]}), json!({"metadata": {}, "addressType": "", "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {}}], "ports": null})),
            (
                "v1",
                "Event",
                json!({"reason": "Started"}),
                json!({"metadata": {}, "involvedObject": {}, "source": {}, "reason": "Started", "firstTimestamp": null, "lastTimestamp": null, "eventTime": null, "reportingComponent": "", "reportingInstance": ""}),
            ),
        ] {
            let mut filled = value;
            fill(crate::root(api_version, kind).unwrap(), &mut filled);
            assert_eq!(filled, expected);
        }
    }
}
