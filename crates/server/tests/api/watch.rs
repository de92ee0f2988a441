use crate::harness::*;
use mainstay_store::Options;
use serde_json::{Value, json};

#[tokio::test]
async fn events_come_in_order_from_a_revision_on() {
    let api = Api::new().await;
    let start = api.store.revision();
    api.config_map("a", json!({})).await;
    let mut watch = api.open(&format!("{MAPS}?watch=true&resourceVersion={start}")).await;
    api.merge(&format!("{MAPS}/a"), json!({"data": {"a": "2"}})).await.expect(200);
    api.delete(&format!("{MAPS}/a"), Value::Null).await.expect(200);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let event = watch.next().await.unwrap();
        seen.push((event["type"].as_str().unwrap().to_owned(), event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap()));
    }
    let types: Vec<&str> = seen.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(types, ["ADDED", "MODIFIED", "DELETED"]);
    assert!(seen.windows(2).all(|pair| pair[0].1 < pair[1].1), "{seen:?}");
}

#[tokio::test]
async fn without_a_revision_a_watch_begins_with_what_is_there() {
    let api = Api::new().await;
    api.config_map("a", json!({})).await;
    for version in ["", "&resourceVersion=0"] {
        // kubectl events --watch sends a limit, which says nothing about a watch.
        let mut watch = api.open(&format!("{MAPS}?watch=1&limit=1{version}")).await;
        assert_eq!(watch.show(1).await, ["ADDED a"]);
    }
    let mut watch = api.open("/api/v1/watch/namespaces/default/configmaps").await;
    api.config_map("b", json!({})).await;
    assert_eq!(watch.show(2).await, ["ADDED a", "ADDED b"]);
}

#[tokio::test]
async fn a_streamed_list_ends_with_an_annotated_bookmark() {
    let api = Api::new().await;
    api.config_map("a", json!({})).await;
    api.config_map("b", json!({})).await;
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = api.open(&format!("{MAPS}?{query}")).await;
    assert_eq!(watch.show(2).await, ["ADDED a", "ADDED b"]);
    let bookmark = watch.next().await.unwrap();
    assert_eq!((&bookmark["type"], &bookmark["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")));
    assert_eq!(bookmark["object"]["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], api.store.revision().to_string());
    api.config_map("c", json!({})).await;
    assert_eq!(watch.show(1).await, ["ADDED c"]);
    for (query, message) in [
        ("watch=true&sendInitialEvents=true", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
        ("watch=true&resourceVersionMatch=NotOlderThan", "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"),
        ("sendInitialEvents=true", "sendInitialEvents is forbidden for list"),
    ] {
        let line = api.get(&format!("{MAPS}?{query}")).await.line();
        assert!(line.starts_with("422 Invalid: ") && line.ends_with(message), "{line}");
    }
}

#[tokio::test]
async fn a_selector_sees_objects_come_and_leave() {
    let api = Api::new().await;
    let mut watch = api.open(&format!("{MAPS}?watch=true&labelSelector=app%3Dweb&resourceVersion={}", api.store.revision())).await;
    api.config_map("x", json!({"app": "db"})).await;
    api.config_map("a", json!({"app": "web"})).await;
    let path = format!("{MAPS}/a");
    api.merge(&path, json!({"data": {"a": "2"}})).await.expect(200);
    let left = api.merge(&path, json!({"metadata": {"labels": {"app": "db"}}})).await.expect(200).json();
    api.merge(&path, json!({"metadata": {"labels": {"app": "web"}}})).await.expect(200);
    api.delete(&path, Value::Null).await.expect(200);
    assert_eq!(watch.show(2).await, ["ADDED a", "MODIFIED a"]);
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    // The last state that matched, at the revision at which it ceased to.
    assert_eq!(event["object"]["metadata"]["labels"], json!({"app": "web"}));
    assert_eq!(event["object"]["metadata"]["resourceVersion"], left["metadata"]["resourceVersion"]);
    assert_eq!(watch.show(2).await, ["ADDED a", "DELETED a"]);
    let mut watch = api.open(&format!("{MAPS}?watch=true&fieldSelector=metadata.name%3Db&resourceVersion={}", api.store.revision())).await;
    api.config_map("a", json!({})).await;
    api.config_map("b", json!({})).await;
    assert_eq!(watch.show(1).await, ["ADDED b"]);
}

#[tokio::test]
async fn a_watch_ends_when_its_time_is_up_with_a_bookmark() {
    let api = Api::new().await;
    let mut watch = api.open(&format!("{MAPS}?watch=true&timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion={}", api.store.revision())).await;
    let bookmark = watch.next().await.unwrap();
    assert_eq!((&bookmark["type"], &bookmark["object"]["metadata"]["resourceVersion"]), (&json!("BOOKMARK"), &json!(api.store.revision().to_string())));
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_revision_that_is_gone_is_an_error_event() {
    let api = Api::empty(|_| {}, Options { window_events: 8, ..Options::default() });
    api.server.bootstrap().await.unwrap();
    let old = api.store.revision();
    for n in 0..5_000 {
        api.merge("/api/v1/namespaces/default", json!({"metadata": {"annotations": {"n": n.to_string()}}})).await.expect(200);
        if n % 100 != 99 {
            continue;
        }
        let mut watch = api.open(&format!("/api/v1/namespaces?watch=true&resourceVersion={old}")).await;
        assert_eq!(watch.code, 200);
        let event = watch.next().await.unwrap();
        if event["type"] == "ERROR" {
            assert_eq!((&event["object"]["code"], &event["object"]["reason"]), (&json!(410), &json!("Expired")));
            assert!(event["object"]["message"].as_str().unwrap().starts_with(&format!("too old resource version: {old} (")), "{event}");
            assert_eq!(watch.next().await, None);
            return;
        }
    }
    panic!("revision {old} was kept for 5,000 writes");
}

#[tokio::test]
async fn a_watch_may_be_a_table() {
    let api = Api::new().await;
    let path = format!("{MAPS}?watch=true&resourceVersion={}", api.store.revision());
    let mut watch = api.open_as(&path, "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    api.config_map("a", json!({})).await;
    api.config_map("b", json!({})).await;
    let (first, second) = (watch.next().await.unwrap(), watch.next().await.unwrap());
    assert_eq!((&first["object"]["kind"], &first["object"]["rows"][0]["cells"][0]), (&json!("Table"), &json!("a")));
    assert!(first["object"]["columnDefinitions"].is_array() && second["object"]["columnDefinitions"].is_null());
}

#[tokio::test]
async fn a_closing_server_ends_its_watches() {
    let api = Api::new().await;
    let mut watch = api.open(&format!("{MAPS}?watch=true&resourceVersion={}", api.store.revision())).await;
    api.server.close();
    assert_eq!(watch.next().await, None);
}
