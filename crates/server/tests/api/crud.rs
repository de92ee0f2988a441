use crate::harness::*;
use serde_json::{Value, json};

#[tokio::test]
async fn an_object_is_created_read_replaced_and_gone() {
    let api = Api::new().await;
    let created = api.post(MAPS, json!({"metadata": {"name": "a", "managedFields": [{"x": 1}], "selfLink": "x", "generation": 7}, "data": {"k": "v"}})).await.expect(201).json();
    assert_eq!((&created["kind"], &created["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    let metadata = &created["metadata"];
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert!(metadata["creationTimestamp"].as_str().unwrap().ends_with('Z') && metadata["resourceVersion"].is_string());
    assert!(metadata.get("managedFields").is_none() && metadata.get("selfLink").is_none() && metadata.get("generation").is_none());
    let path = format!("{MAPS}/a");
    assert_eq!(api.get(&path).await.expect(200).json(), created);

    let mut next = created.clone();
    next["data"]["k"] = "w".into();
    let replaced = api.put(&path, next.clone()).await.expect(200).json();
    assert_eq!(replaced["data"]["k"], "w");
    assert_ne!(replaced["metadata"]["resourceVersion"], metadata["resourceVersion"]);
    assert_eq!(
        api.put(&path, next).await.line(),
        "409 Conflict: Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    api.put(&path, json!({"metadata": {"name": "a"}, "data": {"k": "x"}})).await.expect(200);

    let gone = api.delete(&path, Value::Null).await.expect(200).json();
    assert_eq!(gone["status"], "Success");
    assert_eq!(gone["details"], json!({"name": "a", "kind": "configmaps", "uid": metadata["uid"]}));
    assert_eq!(api.get(&path).await.line(), "404 NotFound: configmaps \"a\" not found");
    assert_eq!(api.put(&path, json!({"metadata": {"name": "a"}})).await.line(), "404 NotFound: configmaps \"a\" not found");
}

#[tokio::test]
async fn an_update_that_changes_nothing_writes_no_revision() {
    let api = Api::new().await;
    let first = api.config_map("a", json!({})).await;
    let path = format!("{MAPS}/a");
    let mut same = first.clone();
    same["metadata"]["resourceVersion"] = Value::Null;
    for answer in [api.put(&path, first.clone()).await, api.put(&path, same).await, api.merge(&path, json!({"data": {"a": "1"}})).await] {
        assert_eq!(answer.expect(200).json(), first);
    }
}

#[tokio::test]
async fn generation_follows_the_wish_and_status_is_apart() {
    let api = Api::new().await;
    let mut body = set("web");
    body["status"] = json!({"replicas": 5});
    let created = api.post(SETS, body).await.expect(201).json();
    assert_eq!((&created["metadata"]["generation"], &created["status"]["replicas"]), (&json!(1), &json!(0)));
    let path = format!("{SETS}/web");
    let scaled = api.merge(&path, json!({"spec": {"replicas": 3}, "status": {"replicas": 9}})).await.expect(200).json();
    assert_eq!((&scaled["metadata"]["generation"], &scaled["status"]["replicas"]), (&json!(2), &json!(0)));
    let labelled = api.merge(&path, json!({"metadata": {"labels": {"a": "b"}}})).await.expect(200).json();
    assert_eq!(labelled["metadata"]["generation"], 2);
    let status = api.merge(&format!("{path}/status"), json!({"spec": {"replicas": 1}, "status": {"replicas": 3}})).await.expect(200).json();
    assert_eq!((&status["metadata"]["generation"], &status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(2), &json!(3), &json!(3)));
    assert_eq!(api.get(&format!("{path}/status")).await.expect(200).json(), status);
    let mut stale = created;
    stale["status"] = json!({"replicas": 1});
    api.put(&format!("{path}/status"), stale).await.expect(409);
}

#[tokio::test]
async fn scale_reads_and_writes_the_replicas() {
    let api = Api::new().await;
    api.post(SETS, set("web")).await.expect(201);
    let path = format!("{SETS}/web/scale");
    let scale = api.get(&path).await.expect(200).json();
    assert_eq!((&scale["kind"], &scale["apiVersion"], &scale["spec"]), (&json!("Scale"), &json!("autoscaling/v1"), &json!({"replicas": 2})));
    assert_eq!(scale["status"], json!({"replicas": 0, "selector": "app=web"}));
    // kubectl sends this one without a Content-Type.
    let mut wish = scale.clone();
    wish["spec"]["replicas"] = 4.into();
    let put = api.send(request("PUT", &path, &[], wish.to_string())).await.expect(200).json();
    assert_eq!(put["spec"]["replicas"], 4);
    api.put(&path, wish).await.expect(409);
    for media_type in ["application/merge-patch+json", "application/strategic-merge-patch+json"] {
        let patched = api.typed("PATCH", &path, media_type, r#"{"spec":{"replicas":1}}"#).await.expect(200).json();
        assert_eq!(patched["spec"]["replicas"], 1, "{media_type}");
    }
    assert_eq!(api.get(&format!("{SETS}/web")).await.json()["spec"]["replicas"], 1);
    assert_eq!(
        api.merge(&path, json!({"spec": {"replicas": -1}})).await.line(),
        "422 Invalid: Scale.autoscaling \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
    api.get(&format!("{MAPS}/x/scale")).await.expect(404);
    let table = api.accept(&path, "application/json;as=Table;v=v1;g=meta.k8s.io").await.expect(200).json();
    let columns: Vec<&str> = table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(columns, ["Name", "Desired", "Available", "Age"]);
    assert_eq!(table["rows"][0]["cells"].as_array().unwrap()[..3], [json!("web"), json!(1), json!(0)]);
}

#[tokio::test]
async fn a_name_is_generated_where_only_its_beginning_is_given() {
    let api = Api::new().await;
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let created = api.post(MAPS, json!({"metadata": {"generateName": "web-"}})).await.expect(201).json();
        let name = created["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        names.insert(name);
    }
    assert_eq!(names.len(), 20);
}

#[tokio::test]
async fn a_dry_run_answers_and_writes_nothing() {
    let api = Api::new().await;
    let revision = api.store.revision();
    let created = api.post(&format!("{MAPS}?dryRun=All"), json!({"metadata": {"name": "a"}})).await.expect(201).json();
    assert!(created["metadata"]["uid"].is_string() && created["metadata"].get("resourceVersion").is_none());
    assert_eq!(api.store.revision(), revision);
    let first = api.config_map("a", json!({})).await;
    api.post(&format!("{MAPS}?dryRun=All"), json!({"metadata": {"name": "a"}})).await.expect(409);
    let path = format!("{MAPS}/a?dryRun=All");
    assert_eq!(api.merge(&path, json!({"data": {"a": "2"}})).await.expect(200).json()["data"]["a"], "2");
    api.delete(&path, Value::Null).await.expect(200);
    api.delete(&format!("{MAPS}/a"), json!({"dryRun": ["All"]})).await.expect(200);
    assert_eq!(api.get(&format!("{MAPS}/a")).await.json(), first);
}

#[tokio::test]
async fn binding_gives_a_pod_its_node_once() {
    let api = Api::new().await;
    api.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await.expect(201);
    api.post(PODS, pod("web-0")).await.expect(201);
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "web-0"}, "target": {"kind": "Node", "name": "n1"}});
    let path = format!("{PODS}/web-0/binding");
    assert_eq!(api.post(&path, binding.clone()).await.expect(201).json()["status"], "Success");
    let bound = api.get(&format!("{PODS}/web-0")).await.json();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!((&bound["status"]["conditions"][0]["type"], &bound["status"]["conditions"][0]["status"]), (&json!("PodScheduled"), &json!("True")));
    let again = api.post(&path, binding).await.line();
    assert!(again.starts_with("409 Conflict: ") && again.contains("already assigned to node"), "{again}");
}

#[tokio::test]
async fn both_groups_serve_the_same_events() {
    let api = Api::new().await;
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "web-0", "namespace": "default"}, "reason": "Started", "message": "hello", "type": "Normal"});
    api.post("/api/v1/namespaces/default/events", event).await.expect(201);
    let newer = api.get("/apis/events.k8s.io/v1/namespaces/default/events/e").await.expect(200).json();
    assert_eq!((&newer["apiVersion"], &newer["note"], &newer["regarding"]["name"]), (&json!("events.k8s.io/v1"), &json!("hello"), &json!("web-0")));
    let list = api.get("/apis/events.k8s.io/v1/events?fieldSelector=regarding.name%3Dweb-0").await.expect(200).json();
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&json!("EventList"), 1));
    let patched = api.merge("/apis/events.k8s.io/v1/namespaces/default/events/e", json!({"note": "bye"})).await;
    assert!(matches!(patched.code, 200 | 422), "{}", patched.text);
}

#[tokio::test]
async fn the_system_objects_are_there_and_are_put_right_again() {
    let api = Api::new().await;
    let revision = api.store.revision();
    api.server.bootstrap().await.unwrap();
    assert_eq!(api.store.revision(), revision, "a second start writes nothing");
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        api.get(&format!("/api/v1/namespaces/{name}")).await.expect(200);
    }
    let service = api.get("/api/v1/namespaces/default/services/kubernetes").await.expect(200).json();
    assert_eq!((&service["spec"]["clusterIP"], &service["spec"]["ports"][0]["targetPort"]), (&json!("10.96.0.1"), &json!(6443)));
    let dns = api.get("/api/v1/namespaces/kube-system/services/kube-dns").await.expect(200).json();
    assert_eq!((&dns["spec"]["clusterIP"], &dns["metadata"]["labels"]["kubernetes.io/cluster-service"]), (&json!("10.96.0.10"), &json!("true")));
    let slice = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    assert_eq!(api.get(slice).await.expect(200).json()["endpoints"][0]["addresses"], json!(["10.0.0.1"]));
    api.delete(slice, Value::Null).await.expect(200);
    api.merge("/api/v1/namespaces/default/endpoints/kubernetes", json!({"subsets": null})).await.expect(200);
    api.server.bootstrap().await.unwrap();
    api.get(slice).await.expect(200);
    assert_eq!(api.get("/api/v1/namespaces/default/endpoints/kubernetes").await.json()["subsets"][0]["addresses"][0]["ip"], "10.0.0.1");
}

#[tokio::test]
async fn services_made_at_once_get_addresses_of_their_own() {
    let api = Api::new().await;
    let make = |n: usize| {
        let api = &api;
        async move {
            let body = json!({"metadata": {"name": format!("s{n}")}, "spec": {"ports": [{"port": 80}]}});
            api.post("/api/v1/namespaces/default/services", body).await.expect(201).json()["spec"]["clusterIP"].as_str().unwrap().to_owned()
        }
    };
    let addresses = futures::future::join_all((0..20).map(make)).await;
    let distinct: std::collections::BTreeSet<_> = addresses.iter().collect();
    assert_eq!(distinct.len(), 20, "{addresses:?}");
}

#[tokio::test]
async fn yaml_goes_in_and_out() {
    let api = Api::new().await;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: web\ndata:\n  a: \"1\"\n";
    api.typed("POST", MAPS, "application/yaml", yaml).await.expect(201);
    let answer = api.accept(&format!("{MAPS}/web"), "application/yaml").await.expect(200);
    assert_eq!(answer.headers["content-type"], "application/yaml");
    assert!(answer.text.contains("kind: ConfigMap"), "{}", answer.text);
}

#[tokio::test]
async fn a_protobuf_body_is_understood() {
    let api = Api::new().await;
    // What kubectl 1.32 sends for `create secret generic s1 --from-literal=a=b`.
    let body = b"k8s\x00\n\x0c\n\x02v1\x12\x06Secret\x12\x1e\n\x12\n\x02s1\x12\x00\x1a\x00\"\x00*\x002\x008\x00B\x00\x12\x06\n\x01a\x12\x01b\x1a\x00\x1a\x00\"\x00";
    let path = "/api/v1/namespaces/default/secrets?fieldManager=kubectl-create&fieldValidation=Strict";
    let headers = [("content-type", "application/vnd.kubernetes.protobuf"), ("accept", "application/vnd.kubernetes.protobuf,application/json")];
    let created = api.send(request("POST", path, &headers, &body[..])).await.expect(201).json();
    assert_eq!((&created["data"], &created["type"]), (&json!({"a": "Yg=="}), &json!("Opaque")));
}

#[tokio::test]
async fn objects_read_as_go_writes_them() {
    let api = Api::new().await;
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "namespace": "default"}, "reason": "R", "message": "m", "type": "Normal"});
    let event = api.post("/api/v1/namespaces/default/events", event).await.expect(201).json();
    assert!(event.get("eventTime").is_some_and(Value::is_null) && event.get("firstTimestamp").is_some_and(Value::is_null), "{event}");
    assert_eq!((&event["source"], &event["reportingInstance"]), (&json!({}), &json!("")));
    let newer = api.get("/apis/events.k8s.io/v1/namespaces/default/events/e").await.expect(200).json();
    assert!(newer.get("deprecatedFirstTimestamp").is_some_and(Value::is_null) && newer.get("firstTimestamp").is_none(), "{newer}");
    let slice = json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]});
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slice = api.post(path, slice).await.expect(201).json();
    assert!(slice["ports"].is_null() && slice.get("ports").is_some() && slice["endpoints"][0]["conditions"] == json!({}), "{slice}");
    // What was read can be written again, and nothing changes.
    let again = api.put(&format!("{path}/s"), slice.clone()).await.expect(200).json();
    assert_eq!(again, slice);
    let set = api.post(SETS, set("web")).await.expect(201).json();
    assert_eq!(set["spec"]["template"]["spec"]["containers"][0]["resources"], json!({}));
    assert_eq!((set["spec"]["template"]["metadata"].get("creationTimestamp"), &set["status"]), (None, &json!({"replicas": 0, "availableReplicas": 0})));
    let condition = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    api.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await.expect(201);
    api.post(PODS, pod("p")).await.expect(201);
    let pod = api.typed("PATCH", &format!("{PODS}/p/status"), "application/strategic-merge-patch+json", condition.to_string()).await.expect(200).json();
    let ready = &pod["status"]["conditions"][0];
    assert!(ready.get("lastProbeTime").is_some_and(Value::is_null), "{ready}");
}

#[tokio::test]
async fn a_deprecated_kind_warns_on_every_verb() {
    const WARNING: &str = "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";
    let api = Api::new().await;
    let path = "/api/v1/namespaces/default/endpoints";
    let one = format!("{path}/e");
    let object = json!({"metadata": {"name": "e"}});
    for answer in [
        api.post(path, object.clone()).await.expect(201),
        api.get(path).await.expect(200),
        api.get(&one).await.expect(200),
        api.put(&one, object).await.expect(200),
        api.merge(&one, json!({"metadata": {"labels": {"a": "b"}}})).await.expect(200),
        api.get(&format!("{path}?watch=true&timeoutSeconds=1")).await.expect(200),
        api.delete(&one, Value::Null).await.expect(200),
        api.delete(path, Value::Null).await.expect(200),
        api.get(&one).await.expect(404),
    ] {
        assert_eq!(answer.warnings(), [WARNING], "{}", answer.text);
    }
    assert!(api.get("/apis/discovery.k8s.io/v1/endpointslices").await.expect(200).warnings().is_empty());
}
