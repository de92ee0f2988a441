//! The zero values that Go always writes.

use crate::Type;
use crate::types::{Arena, Field, Shape, arena};
use serde_json::{Map, Value};

/// Adds what Go's encoder writes of a field that is not set and has no `omitempty`: `resources: {}` of a container, `status: {}`,
/// `status.replicas: 0`, an empty name. What it would write as `null` stays out. For a value that [`check`](crate::check) has cleaned.
///
/// With it an object, and whatever is computed from its bytes (a revision's hash), is the same as upstream's but for the nulls.
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
                Some(value) => self.value(field.ty, value),
                None => {
                    if let Some(mut zero) = self.zero(field) {
                        self.value(field.ty, &mut zero);
                        map.insert(field.name.to_owned(), zero);
                    }
                }
            }
        }
    }

    fn has_structs(&self, item: Type) -> bool {
        matches!(self.arena.node(item).shape, Shape::Struct { .. })
    }

    /// A struct that is no pointer is written even with `omitempty`.
    fn zero(&self, field: &Field) -> Option<Value> {
        if field.pointer {
            return None;
        }
        match self.arena.node(field.ty).shape {
            Shape::Struct { .. } => Some(Value::Object(Map::new())),
            _ if field.omit_empty => None,
            Shape::String => Some(Value::from("")),
            Shape::Int32 | Shape::Int64 | Shape::IntOrString => Some(Value::from(0)),
            Shape::Bool => Some(Value::from(false)),
            _ => None,
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
            ("v1", "Pod", json!({"spec": {"containers": [{"name": "a"}]}}), json!({"metadata": {}, "spec": {"containers": [{"name": "a", "resources": {}}]}, "status": {}})),
            ("apps/v1", "StatefulSet", json!({"spec": {"replicas": 1}}), json!({"metadata": {}, "spec": {"replicas": 1, "serviceName": "", "template": {"metadata": {}, "spec": {}}, "updateStrategy": {}}, "status": {"replicas": 0, "availableReplicas": 0}})),
            ("v1", "Service", json!({}), json!({"metadata": {}, "spec": {}, "status": {"loadBalancer": {}}})),
            ("v1", "ConfigMap", json!({"metadata": {"name": "c"}, "data": {"a": "b"}}), json!({"metadata": {"name": "c"}, "data": {"a": "b"}})),
        ] {
            let mut filled = value;
            fill(crate::root(api_version, kind).unwrap(), &mut filled);
            assert_eq!(filled, expected);
        }
    }
}
