//! Every row of the table of bad inputs that needs no network.

use crate::harness::*;
use serde_json::{Value, json};

fn deep(open: &str, close: &str, n: usize) -> String {
    format!("{}{}", open.repeat(n), close.repeat(n))
}

fn alias_bomb() -> String {
    let mut text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\na: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (next, last) in ('b'..='i').zip('a'..) {
        text += &format!("{next}: &{next} [{}]\n", vec![format!("*{last}"); 10].join(","));
    }
    text
}

#[tokio::test]
async fn bodies_that_are_no_object_are_400() {
    let api = Api::new().await;
    let json = "application/json";
    let table = [
        (json, "".to_owned(), "<empty>"),
        (json, "{".to_owned(), "couldn't get version/kind; json parse error"),
        (json, "[]".to_owned(), "cannot unmarshal array"),
        (json, "null".to_owned(), "cannot unmarshal null"),
        (json, "\"x\"".to_owned(), "cannot unmarshal string"),
        (json, "{\"metadata\":{\"name\":\"a\"}} x".to_owned(), "trailing characters"),
        (json, deep("[", "]", 10_500), "exceeded max depth"),
        (json, deep("{\"a\":", "}", 9_990).replace(":}", ":1}"), "exceeded max depth"),
        ("application/yaml", deep("[", "]", 10_500), "exceeded max depth"),
        ("application/yaml", alias_bomb(), "excessive aliasing"),
        ("application/yaml", "a: [".to_owned(), "yaml: "),
        ("application/vnd.kubernetes.protobuf", "{}".to_owned(), "protobuf magic"),
        (json, r#"{"metadata":{"name":"a"},"data":{"a":1e400}}"#.to_owned(), "out of range"),
        (json, r#"{"metadata":{"name":"a"},"data":{"a":1}}"#.to_owned(), "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field"),
        (json, r#"{"kind":1}"#.to_owned(), "couldn't get version/kind"),
        (json, r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}"#.to_owned(), "Pod in version \"v1\" cannot be handled as a ConfigMap"),
        (json, r#"{"kind":"ConfigMap","apiVersion":"v2","metadata":{"name":"a"}}"#.to_owned(), "the API version in the data (v2) does not match the expected API version (v1)"),
        (json, r#"{"metadata":{"name":"a","namespace":"b"}}"#.to_owned(), "the namespace of the provided object does not match the namespace sent on the request"),
        (json, r#"{"metadata":{"name":"a","resourceVersion":"7"}}"#.to_owned(), "resourceVersion should not be set on objects to be created"),
        (json, r#"{"metadata":{"name":"a"},"immutable":9223372036854775808}"#.to_owned(), "cannot unmarshal number"),
    ];
    for (media_type, body, words) in table {
        let start = std::time::Instant::now();
        let answer = api.typed("POST", MAPS, media_type, body.clone()).await;
        let line = answer.line();
        assert!(line.starts_with("400 BadRequest: ") && line.contains(words), "{}: {line}", &body[..body.len().min(80)]);
        assert!(start.elapsed().as_secs() < 2, "{words}: took {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn sizes_have_limits_that_are_told() {
    let api = Api::new().await;
    let body = |bytes: usize| json!({"metadata": {"name": "big"}, "data": {"a": "x".repeat(bytes)}});
    assert_eq!(api.post(MAPS, body(3 << 20)).await.line(), "413 RequestEntityTooLarge: Request entity too large: limit is 3145728");
    let stored = api.post("/api/v1/namespaces/default/events", json!({"metadata": {"name": "big"}, "involvedObject": {"namespace": "default"}, "message": "x".repeat(2 << 20)})).await.line();
    assert!(stored.starts_with("413 RequestEntityTooLarge: ") && stored.contains("limit is 1572864"), "{stored}");
}

#[tokio::test]
async fn names_labels_and_annotations_are_judged_with_their_fields() {
    let api = Api::new().await;
    let table = [
        (json!({"name": "Bad_Name"}), "metadata.name", "FieldValueInvalid"),
        (json!({}), "metadata.name", "FieldValueRequired"),
        (json!({"generateName": "Bad_"}), "metadata.generateName", "FieldValueInvalid"),
        (json!({"name": "a", "labels": {"a b": "c"}}), "metadata.labels", "FieldValueInvalid"),
        (json!({"name": "a", "labels": {"a": "b c"}}), "metadata.labels", "FieldValueInvalid"),
        (json!({"name": "a", "annotations": {"a": "x".repeat(300_000)}}), "metadata.annotations", "FieldValueTooLong"),
        (json!({"name": "a", "finalizers": ["plain"]}), "metadata.finalizers", "FieldValueInvalid"),
        (json!({"name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": ""}]}), "metadata.ownerReferences[0].uid", "FieldValueInvalid"),
    ];
    for (metadata, field, reason) in table {
        let answer = api.post(MAPS, json!({"metadata": metadata})).await;
        let status = answer.json();
        assert_eq!((answer.code, &status["reason"]), (422, &json!("Invalid")), "{metadata}");
        let causes = status["details"]["causes"].as_array().unwrap();
        assert!(causes.iter().any(|cause| cause["field"] == field && cause["reason"] == reason), "{metadata}: {causes:?}");
        assert_eq!(status["details"]["kind"], "ConfigMap");
    }
    let two = api.post(MAPS, json!({"metadata": {"name": "A", "labels": {"a b": ""}}})).await.json();
    let message = two["message"].as_str().unwrap();
    assert!(message.starts_with("ConfigMap \"A\" is invalid: [metadata.name: Invalid value: \"A\": ") && message.ends_with(']'), "{message}");
    let bad_set = api.post(SETS, { let mut body = set("web"); body["spec"]["replicas"] = (-1).into(); body["spec"]["minReadySeconds"] = (-2).into(); body }).await;
    assert!(bad_set.line().starts_with("422 Invalid: StatefulSet.apps \"web\" is invalid: "), "{}", bad_set.line());
    let namespace = api.post("/api/v1/namespaces", json!({"metadata": {"name": "a.b"}})).await.line();
    assert!(namespace.starts_with("422 Invalid: Namespace \"a.b\" is invalid: metadata.name: "), "{namespace}");
    api.post("/api/v1/namespaces/none/configmaps", json!({"metadata": {"name": "a"}})).await.expect(404);
}

#[tokio::test]
async fn unknown_and_duplicate_fields_warn_or_refuse_as_asked() {
    let api = Api::new().await;
    let body = r#"{"metadata":{"name":"NAME"},"dat":{"a":"1"},"data":{"k":"1","k":"2"}}"#;
    let post = |name: &str, query: &str| {
        let (api, path, body) = (&api, format!("{MAPS}{query}"), body.replace("NAME", name));
        async move { api.call("POST", &path, body).await }
    };
    for query in ["", "?fieldValidation=Warn"] {
        let warned = post(if query.is_empty() { "a" } else { "b" }, query).await.expect(201);
        assert_eq!(warned.warnings(), ["299 - \"unknown field \\\"dat\\\"\"", "299 - \"duplicate field \\\"data.k\\\"\""]);
        assert_eq!((&warned.json()["data"]["k"], warned.json().get("dat")), (&json!("2"), None));
    }
    assert!(post("c", "?fieldValidation=Ignore").await.expect(201).warnings().is_empty());
    assert_eq!(
        post("d", "?fieldValidation=Strict").await.line(),
        "400 BadRequest: ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dat\", duplicate field \"data.k\""
    );
    let spec = { let mut body = set("web"); body["spec"]["x"] = 1.into(); body };
    assert!(api.post(&format!("{SETS}?fieldValidation=Strict"), spec).await.line().ends_with("strict decoding error: unknown field \"spec.x\""));
}

#[tokio::test]
async fn options_that_do_not_exist_are_422() {
    let api = Api::new().await;
    for (query, field) in [("fieldValidation=Loose", "fieldValidation"), ("dryRun=Some", "dryRun")] {
        let answer = api.post(&format!("{MAPS}?{query}"), json!({"metadata": {"name": "a"}})).await;
        let status = answer.json();
        assert_eq!((answer.code, &status["reason"]), (422, &json!("Invalid")));
        assert_eq!((&status["details"]["causes"][0]["field"], &status["details"]["causes"][0]["reason"]), (&json!(field), &json!("FieldValueNotSupported")));
    }
}

#[tokio::test]
async fn conflicts_are_409() {
    let api = Api::new().await;
    let made = api.config_map("a", json!({})).await;
    assert_eq!(api.post(MAPS, json!({"metadata": {"name": "a"}})).await.line(), "409 AlreadyExists: configmaps \"a\" already exists");
    let uid = made["metadata"]["uid"].as_str().unwrap();
    assert_eq!(
        api.put(&format!("{MAPS}/a"), json!({"metadata": {"name": "a", "uid": "other"}})).await.line(),
        format!("409 Conflict: Operation cannot be fulfilled on configmaps \"a\": Precondition failed: UID in precondition: other, UID in object meta: {uid}")
    );
    let details = api.post(SETS, set("web")).await.expect(201);
    drop(details);
    let status = api.post(SETS, set("web")).await.json();
    assert_eq!((&status["message"], &status["details"]), (&json!("statefulsets.apps \"web\" already exists"), &json!({"group": "apps", "kind": "statefulsets", "name": "web"})));
}

#[tokio::test]
async fn metadata_that_is_the_servers_is_immutable() {
    let api = Api::new().await;
    api.config_map("a", json!({})).await;
    let line = api.put(&format!("{MAPS}/a"), json!({"metadata": {"name": "a", "creationTimestamp": "2001-01-01T00:00:00Z"}})).await.line();
    assert!(line.starts_with("422 Invalid: ConfigMap \"a\" is invalid: metadata.creationTimestamp: Invalid value: ") && line.ends_with(": field is immutable"), "{line}");
    let line = api.put(&format!("{MAPS}/a"), json!({"metadata": {"name": "b"}})).await.line();
    assert_eq!(line, "400 BadRequest: the name of the object (b) does not match the name on the URL (a)");
    api.post(SETS, set("web")).await.expect(201);
    let line = api.merge(&format!("{SETS}/web"), json!({"spec": {"serviceName": "other"}})).await.line();
    assert!(line.starts_with("422 Invalid: StatefulSet.apps \"web\" is invalid: spec: Forbidden: updates to statefulset spec for fields other than"), "{line}");
}

#[tokio::test]
async fn resource_versions_and_tokens_that_mean_nothing_are_400() {
    let api = Api::new().await;
    api.config_map("a", json!({})).await;
    api.config_map("b", json!({})).await;
    let token = api.get(&format!("{MAPS}?limit=1")).await.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    for path in [
        "?resourceVersion=abc".to_owned(),
        "?resourceVersion=abc&watch=true".to_owned(),
        "/a?resourceVersion=abc".to_owned(),
        "?continue=nonsense".to_owned(),
        format!("?limit=1&continue={token}&resourceVersion=1"),
        "?limit=x".to_owned(),
        "?labelSelector=a+b".to_owned(),
        "?fieldSelector=a".to_owned(),
        "?watch=true&timeoutSeconds=x".to_owned(),
    ] {
        let line = api.get(&format!("{MAPS}{path}")).await.line();
        assert!(line.starts_with("400 BadRequest: "), "{path}: {line}");
    }
    let line = api.put(&format!("{MAPS}/a"), json!({"metadata": {"name": "a", "resourceVersion": "abc"}})).await.line();
    assert!(line.starts_with("400 BadRequest: resourceVersion: Invalid value: \"abc\""), "{line}");
}

#[tokio::test]
async fn what_is_not_served_is_a_plain_404_and_a_wrong_method_405() {
    let api = Api::new().await;
    for path in ["/apis/nope.io/v1/things", "/api/v1/namespaces/default/things", "/api/v2", "/nope", "/apis/apps/v9/statefulsets", "/api/v1/pods/x", "/api/v1/namespaces/default/nodes", "/api/v1/namespaces/default/configmaps/a/b"] {
        let answer = api.get(path).await;
        assert_eq!((answer.code, answer.text.as_str()), (404, "404 page not found\n"), "{path}");
    }
    for (method, path) in [("PATCH", MAPS), ("PUT", MAPS), ("POST", "/api/v1/configmaps"), ("POST", "/api/v1/namespaces/default/configmaps/a"), ("POST", "/version"), ("DELETE", "/api/v1/namespaces"), ("PUT", "/api/v1/namespaces/default/pods/a/binding"), ("OPTIONS", MAPS)] {
        let answer = api.call(method, path, "{}").await;
        assert_eq!(answer.line(), "405 MethodNotAllowed: the server does not allow this method on the requested resource", "{method} {path}");
    }
}

#[tokio::test]
async fn types_that_are_not_spoken_are_415_and_406() {
    let api = Api::new().await;
    let line = api.typed("POST", MAPS, "text/xml", "<x/>").await.line();
    assert_eq!(line, "415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf");
    for accept in ["text/html", "application/vnd.kubernetes.protobuf", "application/json;as=Table;v=v7;g=meta.k8s.io"] {
        let answer = api.accept(MAPS, accept).await;
        assert_eq!((answer.code, &answer.json()["reason"]), (406, &json!("NotAcceptable")), "{accept}");
    }
}

#[tokio::test]
async fn a_list_of_the_future_is_a_timeout() {
    let api = Api::new().await;
    let start = std::time::Instant::now();
    let answer = api.get("/api/v1/pods?resourceVersion=77777777").await;
    assert_eq!(answer.code, 504);
    assert!(start.elapsed().as_secs_f64() > 2.5);
    let status: Value = answer.json();
    assert_eq!(status["message"], format!("Timeout: Too large resource version: 77777777, current: {}", api.store.revision()));
}
