//! What holds for any object and any patch.

use mainstay_patch::{json, merge, strategic};
use mainstay_schema::{check, root};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Keys that a pod has, directives, and nonsense, so that patches often meet the object.
fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "metadata", "spec", "status", "containers", "name", "env", "value", "ports", "containerPort", "finalizers", "labels", "volumes", "emptyDir", "tolerations", "nodeSelector", "x",
        "$patch", "$retainKeys", "$setElementOrder/containers", "$setElementOrder/env", "$setElementOrder/finalizers", "$deleteFromPrimitiveList/finalizers", "$setElementOrder", "$setElementOrder/x",
    ])
    .prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3_i64).prop_map(Value::from),
        Just(json!(1.5)),
        prop::sample::select(vec!["a", "b", "replace", "delete", "merge", "name", "100m"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..6).prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn operation() -> impl Strategy<Value = Value> {
    let path = prop::collection::vec(prop_oneof![key().prop_map(|k| k.replace('/', "~1")), Just("0".to_owned()), Just("-".to_owned())], 0..4).prop_map(|p| p.iter().map(|s| format!("/{s}")).collect::<String>());
    (prop::sample::select(vec!["add", "remove", "replace", "move", "copy", "test"]), path.clone(), path, value()).prop_map(|(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}))
}

/// An object as the store holds it: checked and clean.
fn pod() -> impl Strategy<Value = Value> {
    value().prop_map(|mut v| {
        let clean = check(root("v1", "Pod").unwrap(), &mut v).is_ok();
        if clean { v } else { json!({"metadata": {"finalizers": ["a"]}, "spec": {"containers": [{"name": "a", "env": [{"name": "a"}]}]}}) }
    })
}

proptest! {
    #[test]
    fn no_patch_panics(live in value(), patch in value(), operations in prop::collection::vec(operation(), 0..8)) {
        let ty = root("v1", "Pod").unwrap();
        let _ = strategic(&mut live.clone(), &patch, ty);
        let _ = merge(&mut live.clone(), &patch);
        let _ = json(&mut live.clone(), &Value::Array(operations), 100_000);
        let _ = check(ty, &mut live.clone());
    }

    #[test]
    fn a_merge_patch_applied_twice_is_a_merge_patch_applied_once(live in pod(), patch in value()) {
        let mut once = live;
        if merge(&mut once, &patch).is_ok() {
            let mut twice = once.clone();
            merge(&mut twice, &patch).unwrap();
            prop_assert_eq!(once, twice);
        }
    }

    #[test]
    fn checking_is_idempotent(mut object in value()) {
        if check(root("v1", "Pod").unwrap(), &mut object).is_ok() {
            let once = object.clone();
            let again = check(root("v1", "Pod").unwrap(), &mut object).unwrap();
            prop_assert!(again.unknown.is_empty());
            prop_assert_eq!(once, object);
        }
    }

    #[test]
    fn a_strategic_patch_that_names_everything_by_key_is_idempotent(names in prop::collection::vec("[a-d]", 0..4), order in Just(vec!["d", "c", "b", "a"]), extra in "[a-d]") {
        let live = json!({"spec": {"containers": [{"name": extra, "image": "live"}]}});
        let mut unique: Vec<&str> = order.into_iter().filter(|n| names.iter().any(|m| m == n)).collect();
        unique.dedup();
        let containers: Value = unique.iter().map(|n| json!({"name": n, "image": "patch"})).collect();
        let list: Value = unique.iter().map(|n| json!({"name": n})).collect();
        let patch = json!({"spec": {"containers": containers, "$setElementOrder/containers": list}});
        let ty = root("v1", "Pod").unwrap();
        let mut once = live;
        strategic(&mut once, &patch, ty).unwrap();
        let mut twice = once.clone();
        strategic(&mut twice, &patch, ty).unwrap();
        prop_assert_eq!(once, twice);
    }
}
