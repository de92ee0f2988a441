//! Strategic merge patches: `check(live, patch, result)`.

use mainstay_patch::{Error, strategic};
use mainstay_schema::root;
use serde_json::{Value, json};

fn apply(api_version: &str, kind: &str, live: &Value, patch: &Value) -> Result<Value, Error> {
    let mut object = live.clone();
    strategic(&mut object, patch, root(api_version, kind).expect("a known kind"))?;
    Ok(object)
}

/// On a pod's spec.
fn check(live: Value, patch: Value, expected: Value) {
    let result = apply("v1", "Pod", &json!({"spec": live}), &json!({"spec": patch}));
    assert_eq!(result, Ok(json!({"spec": expected})), "{live} + {patch}");
}

fn refuse(live: Value, patch: Value, expected: &str) {
    let result = apply("v1", "Pod", &json!({"spec": live}), &json!({"spec": patch}));
    assert_eq!(result, Err(Error::Malformed(expected.to_owned())), "{live} + {patch}");
}

fn named(names: &[&str]) -> Value {
    names.iter().map(|n| json!({"name": n, "image": n})).collect()
}

#[test]
fn maps_merge_and_nulls_delete() {
    check(json!({"nodeName": "a", "nodeSelector": {"x": "1", "y": "2"}}), json!({"nodeName": "b", "nodeSelector": {"x": null, "z": "3"}}), json!({"nodeName": "b", "nodeSelector": {"y": "2", "z": "3"}}));
    check(json!({}), json!({"nodeSelector": {"x": null, "z": "3"}, "hostname": null}), json!({"nodeSelector": {"z": "3"}}));
    check(json!({"nodeSelector": {"x": "1"}}), json!({"nodeSelector": {"$patch": "replace", "y": "2"}}), json!({"nodeSelector": {"y": "2"}}));
    check(json!({"nodeSelector": {"x": "1"}}), json!({"nodeSelector": {"$patch": "delete"}}), json!({"nodeSelector": {}}));
    check(json!({}), json!({"nodeSelector": {"$patch": "delete", "x": "1"}}), json!({}));
}

#[test]
fn lists_with_a_merge_key_merge_by_it() {
    check(json!({"containers": [{"name": "a", "image": "1", "tty": true}, {"name": "b"}]}), json!({"containers": [{"name": "a", "image": "2", "tty": null}]}), json!({"containers": [{"name": "a", "image": "2"}, {"name": "b"}]}));
    check(json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "x"}]}]}), json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "y"}, {"containerPort": 81}]}]}),
        json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "y"}, {"containerPort": 81}]}]}));
    check(json!({"containers": [{"name": "a", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}]}), json!({"containers": [{"name": "a", "env": [{"name": "B", "$patch": "delete"}, {"name": "A", "value": "3"}]}]}),
        json!({"containers": [{"name": "a", "env": [{"name": "A", "value": "3"}]}]}));
    check(json!({"containers": named(&["a", "b"])}), json!({"containers": [{"$patch": "replace"}, {"name": "c"}]}), json!({"containers": [{"name": "c"}]}));
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    check(json!({"tolerations": [{"key": "a"}, {"key": "b"}]}), json!({"tolerations": [{"key": "c"}]}), json!({"tolerations": [{"key": "c"}]}));
    check(json!({"containers": [{"name": "a", "args": ["1", "2"]}]}), json!({"containers": [{"name": "a", "args": ["3"]}]}), json!({"containers": [{"name": "a", "args": ["3"]}]}));
}

#[test]
fn without_an_order_what_only_the_patch_has_comes_before_what_only_the_server_has() {
    let names = |live: &[&str], patch: &[&str]| -> Vec<String> {
        let patch: Value = patch.iter().map(|n| json!({"name": n})).collect();
        let result = apply("v1", "Pod", &json!({"spec": {"containers": named(live)}}), &json!({"spec": {"containers": patch}})).unwrap();
        result["spec"]["containers"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&["a"], &["new"]), ["new", "a"]);
    assert_eq!(names(&["a", "b"], &["new", "b"]), ["new", "a", "b"]);
    assert_eq!(names(&["a", "b", "c"], &["c", "new"]), ["a", "b", "c", "new"]);
    assert_eq!(names(&["a", "b", "c"], &["c", "a"]), ["b", "c", "a"]);
}

#[test]
fn set_element_order_decides_the_order() {
    let order = |names: &[&str]| -> Value { names.iter().map(|n| json!({"name": n})).collect() };
    // What `kubectl apply` sends when a container is appended.
    check(json!({"containers": named(&["a"])}), json!({"$setElementOrder/containers": order(&["a", "new"]), "containers": [{"name": "new", "image": "n"}]}),
        json!({"containers": [{"name": "a", "image": "a"}, {"name": "new", "image": "n"}]}));
    // Only the order changes.
    check(json!({"containers": named(&["a", "b"])}), json!({"$setElementOrder/containers": order(&["b", "a"])}), json!({"containers": named(&["b", "a"])}));
    // The server's own item keeps its place.
    check(json!({"containers": named(&["a", "injected", "b"])}), json!({"$setElementOrder/containers": order(&["b", "a"])}), json!({"containers": named(&["injected", "b", "a"])}));
    // Delete one, keep the rest.
    check(json!({"containers": named(&["a", "b"])}), json!({"$setElementOrder/containers": order(&["a"]), "containers": [{"name": "b", "$patch": "delete"}]}), json!({"containers": named(&["a"])}));
    // The field is new.
    check(json!({}), json!({"$setElementOrder/containers": order(&["a"]), "containers": [{"name": "a"}]}), json!({"containers": [{"name": "a"}]}));
    check(json!({"hostname": "x"}), json!({"$setElementOrder/containers": order(&["a"])}), json!({"hostname": "x"}));
}

#[test]
fn retain_keys_clears_the_other_members_of_a_union() {
    check(json!({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "hostPath": {"path": "/"}}]}),
        json!({"$setElementOrder/volumes": [{"name": "v"}, {"name": "w"}], "volumes": [{"$retainKeys": ["name", "configMap"], "name": "v", "configMap": {"name": "c"}, "emptyDir": null}]}),
        json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}, {"name": "w", "hostPath": {"path": "/"}}]}));
    let live = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(apply("apps/v1", "Deployment", &live, &patch), Ok(json!({"spec": {"strategy": {"type": "Recreate"}}})));
}

#[test]
fn lists_of_scalars_merge_as_sets() {
    let finalizers = |list: &[&str]| json!({"metadata": {"finalizers": list}});
    let check = |live: &[&str], patch: Value, expected: &[&str]| {
        assert_eq!(apply("v1", "Pod", &finalizers(live), &json!({"metadata": patch})), Ok(finalizers(expected)), "{live:?} + {patch}");
    };
    check(&["a", "b"], json!({"finalizers": ["c"]}), &["c", "a", "b"]);
    check(&["a", "b"], json!({"finalizers": ["b"]}), &["a", "b"]);
    check(&["a", "b"], json!({"$deleteFromPrimitiveList/finalizers": ["a"]}), &["b"]);
    check(&["a", "b"], json!({"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["b", "c"], "finalizers": ["c"]}), &["b", "c"]);
    check(&["a", "b"], json!({"$setElementOrder/finalizers": ["b", "a"]}), &["b", "a"]);
}

#[test]
fn what_kubectl_sends_to_a_stateful_set() {
    let live = json!({"metadata": {"annotations": {"a": "1"}}, "spec": {"replicas": 3, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "nginx", "image": "nginx:1"}, {"name": "side", "image": "busybox"}]}}}});
    // set image
    let patch = json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "nginx"}, {"name": "side"}], "containers": [{"image": "nginx:2", "name": "nginx"}]}}}});
    let result = apply("apps/v1", "StatefulSet", &live, &patch).unwrap();
    assert_eq!(result["spec"]["template"]["spec"]["containers"], json!([{"name": "nginx", "image": "nginx:2"}, {"name": "side", "image": "busybox"}]));
    // rollout restart
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}});
    let result = apply("apps/v1", "StatefulSet", &live, &patch).unwrap();
    assert_eq!(result["spec"]["template"]["metadata"], json!({"labels": {"app": "web"}, "annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}));
    // rollout undo
    let patch = json!({"spec": {"template": {"$patch": "replace", "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "old"}]}}}});
    let result = apply("apps/v1", "StatefulSet", &live, &patch).unwrap();
    assert_eq!(result["spec"]["template"], json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "old"}]}}));
    assert_eq!(result["spec"]["replicas"], 3);
    // status conditions, by a controller
    let live = json!({"status": {"conditions": [{"type": "A", "status": "True"}]}});
    let patch = json!({"status": {"$setElementOrder/conditions": [{"type": "A"}, {"type": "B"}], "conditions": [{"type": "B", "status": "False"}]}});
    assert_eq!(apply("apps/v1", "StatefulSet", &live, &patch), Ok(json!({"status": {"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "False"}]}})));
    // owner references are merged by uid
    let live = json!({"metadata": {"ownerReferences": [{"uid": "1", "name": "x"}]}});
    let patch = json!({"metadata": {"ownerReferences": [{"uid": "1", "$patch": "delete"}], "uid": "u"}});
    assert_eq!(apply("apps/v1", "StatefulSet", &live, &patch), Ok(json!({"metadata": {"ownerReferences": [], "uid": "u"}})));
    // ports of a service, by port
    let live = json!({"spec": {"ports": [{"port": 80, "name": "http"}]}});
    let patch = json!({"spec": {"ports": [{"port": 80, "targetPort": 8080}]}});
    assert_eq!(apply("v1", "Service", &live, &patch), Ok(json!({"spec": {"ports": [{"port": 80, "name": "http", "targetPort": 8080}]}})));
}

#[test]
fn wrong_patches_are_refused_in_upstreams_words() {
    let live = json!({"containers": [{"name": "a"}], "nodeSelector": {}, "volumes": [{"name": "v"}]});
    refuse(live.clone(), json!({"containers": [{"image": "x", "ports": [1, 2]}]}), "map: map[image:x ports:[1 2]] does not contain declared merge key: name");
    refuse(live.clone(), json!({"containers": [{"$patch": "delete"}]}), "map: map[$patch:delete] does not contain declared merge key: name");
    refuse(live.clone(), json!({"nodeSelector": {"$patch": "dance"}}), "unknown patch type: dance in map: map[$patch:dance]");
    refuse(live.clone(), json!({"containers": [{"name": "a", "$patch": "merge"}]}), "merging lists cannot yet be specified in the patch");
    refuse(live.clone(), json!({"containers": [[]]}), "list element types are not identical: [[map[name:a]] [[]]]");
    refuse(live.clone(), json!({"$setElementOrder/containers": {}}), "expected a []interface {}, but received a map[string]interface {}");
    refuse(live.clone(), json!({"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}), "The order in patch list:\n[map[name:a]]\n doesn't match $setElementOrder list:\n[map[name:b]]\n");
    refuse(live.clone(), json!({"$deleteFromPrimitiveList": []}), "invalid patch format of primitive list");
    refuse(live, json!({"volumes": [{"name": "v", "emptyDir": {}, "$retainKeys": ["name"]}]}), "invalid patch format of retainKeys");
    assert_eq!(apply("v1", "Pod", &json!({}), &json!([])), Err(Error::Malformed("invalid JSON document".to_owned())));
    let revision = json!({"data": {"spec": {"a": 1}}});
    assert_eq!(apply("apps/v1", "ControllerRevision", &revision, &json!({"data": {"spec": {"b": 1}}})), Err(Error::Malformed("unable to find api field in struct RawExtension for the json field \"spec\"".to_owned())));
}

#[test]
fn a_refused_patch_changes_nothing() {
    let live = json!({"spec": {"nodeName": "a", "containers": [{"name": "a"}]}});
    let mut object = live.clone();
    strategic(&mut object, &json!({"spec": {"activeDeadlineSeconds": 1, "containers": [{}]}}), root("v1", "Pod").unwrap()).unwrap_err();
    assert_eq!(object, live);
}
