use crate::harness::*;
use serde_json::json;

#[tokio::test]
async fn three_sorts_of_patch_are_applied() {
    let api = Api::new().await;
    api.post(SETS, set("web")).await.expect(201);
    let path = format!("{SETS}/web");
    let strategic = json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "busybox"}]}}}});
    let patched = api.typed("PATCH", &path, "application/strategic-merge-patch+json", strategic.to_string()).await.expect(200).json();
    let images: Vec<&str> = patched["spec"]["template"]["spec"]["containers"].as_array().unwrap().iter().map(|c| c["image"].as_str().unwrap()).collect();
    assert_eq!(images, ["busybox", "nginx"], "a container that only the patch has goes before those it does not name");
    let json_patch = json!([{"op": "test", "path": "/spec/replicas", "value": 2}, {"op": "replace", "path": "/spec/replicas", "value": 3}]);
    let patched = api.typed("PATCH", &path, "application/json-patch+json", json_patch.to_string()).await.expect(200).json();
    assert_eq!(patched["spec"]["replicas"], 3);
    assert_eq!(api.typed("PATCH", &path, "application/json-patch+json", json_patch.to_string()).await.code, 422);
    let merged = api.merge(&path, json!({"metadata": {"annotations": {"a": "b"}}, "spec": {"replicas": null}})).await.expect(200).json();
    assert_eq!((&merged["spec"]["replicas"], &merged["metadata"]["annotations"]["a"]), (&json!(1), &json!("b")));
    api.merge(&format!("{SETS}/other"), json!({})).await.expect(404);
}

#[tokio::test]
async fn a_patch_with_a_resource_version_is_conditional() {
    let api = Api::new().await;
    let made = api.config_map("a", json!({})).await;
    let path = format!("{MAPS}/a");
    let patch = |version: &serde_json::Value, value: &str| json!({"metadata": {"resourceVersion": version}, "data": {"a": value}});
    api.merge(&path, patch(&made["metadata"]["resourceVersion"], "2")).await.expect(200);
    assert!(api.merge(&path, patch(&made["metadata"]["resourceVersion"], "3")).await.line().starts_with("409 Conflict: "));
}

#[tokio::test]
async fn patches_at_once_are_all_applied() {
    let api = Api::new().await;
    api.config_map("a", json!({})).await;
    let patch = |n: usize| {
        let api = &api;
        async move { api.merge(&format!("{MAPS}/a"), json!({"data": {format!("k{n}"): "v"}})).await.expect(200) }
    };
    futures::future::join_all((0..20).map(patch)).await;
    let data = api.get(&format!("{MAPS}/a")).await.json()["data"].clone();
    assert_eq!(data.as_object().unwrap().len(), 21);
}

#[tokio::test]
async fn what_is_no_patch_is_refused() {
    let api = Api::new().await;
    api.post(SETS, set("web")).await.expect(201);
    let path = format!("{SETS}/web");
    let many = format!("[{}]", vec![r#"{"op":"test","path":"/kind","value":"StatefulSet"}"#; 10_001].join(","));
    let mut copies = vec![r#"{"op":"add","path":"/metadata/annotations","value":{"a":"xxxxxxxxxxxxxxxxxxxx"}}"#.to_owned()];
    copies.extend((0..40).map(|n| format!(r#"{{"op":"copy","from":"/metadata/annotations","path":"/metadata/annotations/k{n}"}}"#)));
    for (path, media_type, body, codes, words) in [
        (path.clone(), "application/json-patch+json", "{}".to_owned(), [400, 400], ""),
        (path.clone(), "application/json-patch+json", "[".to_owned(), [400, 400], "error decoding patch"),
        (path.clone(), "application/json-patch+json", many, [413, 413], ""),
        (path.clone(), "application/json-patch+json", format!("[{}]", copies.join(",")), [413, 422], ""),
        (path.clone(), "application/json-patch+json", r#"[{"op":"remove","path":"/spec/nothing"}]"#.to_owned(), [422, 422], ""),
        (path.clone(), "application/merge-patch+json", "[]".to_owned(), [400, 400], ""),
        (path.clone(), "application/merge-patch+json", r#"{"spec":{"replicas":"two"}}"#.to_owned(), [422, 422], "cannot unmarshal string"),
        (path.clone(), "application/merge-patch+json", r#"{"kind":"Pod"}"#.to_owned(), [400, 400], "kind"),
        (path.clone(), "application/merge-patch+json", r#"{"metadata":{"name":"x"}}"#.to_owned(), [400, 400], "does not match the name on the URL"),
        (format!("{path}?fieldValidation=Strict"), "application/merge-patch+json", r#"{"spec":{"x":1}}"#.to_owned(), [422, 422], "strict decoding error: unknown field \"spec.x\""),
        (format!("{path}?fieldManager=me"), "application/apply-patch+yaml", "{}".to_owned(), [415, 415], "server-side apply is not supported yet"),
        (path.clone(), "application/apply-patch+yaml", "{}".to_owned(), [422, 422], "fieldManager: Required value: is required for apply patch"),
        (path.clone(), "text/plain", "{}".to_owned(), [415, 415], "application/merge-patch+json"),
    ] {
        let answer = api.typed("PATCH", &path, media_type, body.clone()).await;
        assert!(codes.contains(&answer.code) && answer.line().contains(words), "{media_type} {}: {}", &body[..body.len().min(80)], answer.line());
    }
    let warned = api.merge(&path, json!({"spec": {"x": 1}})).await.expect(200);
    assert_eq!(warned.warnings(), ["299 - \"unknown field \\\"spec.x\\\"\""]);
}
