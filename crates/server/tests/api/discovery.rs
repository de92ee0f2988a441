use crate::harness::*;
use serde_json::{Value, json};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

#[tokio::test]
async fn aggregated_discovery_names_all_that_is_served() {
    let api = Api::new().await;
    let answer = api.accept("/apis", AGGREGATED).await.expect(200);
    assert_eq!(answer.headers["content-type"], "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let list = answer.json();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("APIGroupDiscoveryList"), &json!("apidiscovery.k8s.io/v2")));
    let apps = list["items"].as_array().unwrap().iter().find(|group| group["metadata"]["name"] == "apps").unwrap();
    let sets = apps["versions"][0]["resources"].as_array().unwrap().iter().find(|resource| resource["resource"] == "statefulsets").unwrap();
    assert_eq!((&sets["shortNames"], &sets["categories"], &sets["scope"]), (&json!(["sts"]), &json!(["all"]), &json!("Namespaced")));
    let subresources: Vec<&str> = sets["subresources"].as_array().unwrap().iter().map(|sub| sub["subresource"].as_str().unwrap()).collect();
    assert_eq!(subresources, ["scale", "status"]);
    let etag = answer.headers["etag"].to_str().unwrap().to_owned();
    let again = api.send(request("GET", "/apis", &[("accept", AGGREGATED), ("if-none-match", &etag)], "")).await;
    assert_eq!((again.code, again.text.as_str()), (304, ""));
    let older = api.accept("/api", "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json").await;
    assert_eq!(older.headers["content-type"], "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList");
    let pods = older.json()["items"][0]["versions"][0]["resources"].as_array().unwrap().iter().find(|r| r["resource"] == "pods").unwrap().clone();
    let subresources: Vec<&str> = pods["subresources"].as_array().unwrap().iter().map(|sub| sub["subresource"].as_str().unwrap()).collect();
    assert_eq!(subresources, ["attach", "binding", "eviction", "exec", "log", "portforward", "proxy", "status"]);
}

#[tokio::test]
async fn legacy_discovery_says_the_same() {
    let api = Api::new().await;
    assert_eq!(api.get("/api").await.expect(200).json()["versions"], json!(["v1"]));
    let groups = api.get("/apis").await.expect(200).json();
    let names: Vec<&str> = groups["groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"apps") && names.contains(&"authentication.k8s.io"), "{names:?}");
    assert_eq!(api.get("/apis/apps").await.expect(200).json()["preferredVersion"]["groupVersion"], "apps/v1");
    let core = api.get("/api/v1").await.expect(200).json();
    let find = |name: &str| core["resources"].as_array().unwrap().iter().find(|r| r["name"] == name).cloned().unwrap_or(Value::Null);
    assert_eq!((&find("pods/eviction")["group"], &find("pods/eviction")["kind"]), (&json!("policy"), &json!("Eviction")));
    assert_eq!(find("namespaces/finalize")["verbs"], json!(["update"]));
    api.get("/apis/authorization.k8s.io/v1").await.expect(200);
}

#[tokio::test]
async fn openapi_has_an_index_and_documents_by_hash() {
    let api = Api::new().await;
    let index = api.get("/openapi/v3?timeout=32s").await.expect(200).json();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");
    let answer = api.get(&url).await.expect(200);
    assert_eq!(answer.headers["cache-control"], "public, immutable");
    let document = answer.json();
    assert!(document["components"]["schemas"].as_object().unwrap().contains_key("io.k8s.api.apps.v1.StatefulSet"));
    let etag = answer.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(api.send(request("GET", &url, &[("if-none-match", &etag)], "")).await.code, 304);
    assert_eq!(api.get("/openapi/v2").await.expect(200).json()["swagger"], "2.0");
    api.get("/openapi/v3/apis/nope/v1").await.expect(404);
}

#[tokio::test]
async fn health_and_version_are_told() {
    let api = Api::empty(|_| {}, mainstay_store::Options::default());
    assert_eq!(api.get("/livez").await.expect(200).text, "ok");
    assert_eq!(api.get("/readyz").await.code, 500, "not before the system objects are there");
    api.server.bootstrap().await.unwrap();
    assert_eq!(api.get("/readyz").await.expect(200).text, "ok");
    assert_eq!(api.get("/healthz?verbose").await.text, "[+]ping ok\n[+]store ok\n[+]bootstrap ok\nhealthz check passed\n");
    assert_eq!(api.get("/livez/ping").await.expect(200).text, "ok");
    let version = api.get("/version").await.expect(200).json();
    assert_eq!((&version["major"], &version["minor"], &version["gitVersion"]), (&json!("1"), &json!("36"), &json!("v1.36.3+mainstay")));
    assert!(api.get("/metrics").await.expect(200).text.contains("apiserver_request_total{verb=\"get\",code=\"2xx\"}"));
}

#[tokio::test]
async fn kinds_that_are_not_served_have_empty_lists_and_are_not_named() {
    let api = Api::new().await;
    for (path, kind) in [("/api/v1/namespaces/default/replicationcontrollers", "ReplicationControllerList"), ("/apis/apps/v1/namespaces/default/daemonsets", "DaemonSetList")] {
        let list = api.get(path).await.expect(200).json();
        assert_eq!((&list["kind"], &list["items"]), (&json!(kind), &json!([])));
        api.post(path, json!({"metadata": {"name": "a"}})).await.expect(404);
        api.get(&format!("{path}/a")).await.expect(404);
    }
    let core = api.get("/api/v1").await.expect(200).json();
    assert!(core["resources"].as_array().unwrap().iter().all(|r| r["name"] != "replicationcontrollers"));
}
