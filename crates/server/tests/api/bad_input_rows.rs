//! What a real API server answers to bad input, row by row, over TLS and HTTP/2: status code, reason, words, and that nothing changed.
//!
//! Rows about custom resources (PUT without a resourceVersion, strategic merge patch, CEL) and server-side apply conflicts have no test
//! yet: neither exists here so far, and server-side apply is refused as such.

use crate::harness::*;
use crate::tls::{Served, connect, serve};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mainstay_store::Options;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const JSON: &str = "application/json";
const JSON_PATCH: &str = "application/json-patch+json";
const ADMIN: Option<(&str, &str)> = Some(("admin", "system:masters"));

/// A server that has `a` (ConfigMap) and `web` (StatefulSet), and the administrator's connection to it.
struct Rows {
    api: Api,
    served: Served,
    sender: http2::SendRequest<Full<Bytes>>,
}

/// What is sent: method, path, Content-Type, body.
type Sent<'a> = (&'a str, String, &'a str, String);

impl Rows {
    async fn new() -> Self {
        Self::of(Api::new().await).await
    }

    async fn of(api: Api) -> Self {
        api.config_map("a", json!({})).await;
        api.post(SETS, set("web")).await.expect(201);
        let served = serve(&api).await;
        let stream = connect(&api, served.port, ADMIN, "h2").await.unwrap();
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { api, served, sender }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let request = request(method, &format!("https://localhost{path}"), headers, body);
        let response = tokio::time::timeout(DEADLINE, self.sender.clone().send_request(request)).await.expect("an answer in time").unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { code: parts.status.as_u16(), headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    /// `400 BadRequest: words…`, soon, and the store is as it was.
    async fn refuses(&self, (method, path, media_type, body): Sent<'_>, start: &str, words: &str) -> Answer {
        let (before, begun) = (self.api.store.revision(), Instant::now());
        let shown: String = body.chars().take(80).collect();
        let answer = self.ask(method, &path, &[("content-type", media_type)], body).await;
        let line = answer.line();
        assert!(line.starts_with(start) && line.contains(words), "{method} {path} {shown}: {line}");
        assert_eq!(self.api.store.revision(), before, "{method} {path} {shown} changed something");
        assert!(begun.elapsed() < Duration::from_secs(5), "{method} {path} {shown} took {:?}", begun.elapsed());
        answer
    }

    async fn refuses_post(&self, media_type: &str, body: impl Into<String>, start: &str, words: &str) -> Answer {
        self.refuses(("POST", MAPS.to_owned(), media_type, body.into()), start, words).await
    }

    async fn refuses_map(&self, body: Value, start: &str, words: &str) -> Answer {
        self.refuses_post(JSON, body.to_string(), start, words).await
    }

    /// Over HTTP/1.1, as written; all that comes back until the server closes.
    async fn raw(&self, user: Option<(&str, &str)>, request: String) -> String {
        let stream = connect(&self.api, self.served.port, user, "http/1.1").await.unwrap();
        let (mut read, mut write) = tokio::io::split(stream);
        // The server may answer before it has read all of it, and close.
        let writing = tokio::spawn(async move { drop(write.write_all(request.as_bytes()).await) });
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(DEADLINE, read.read_to_end(&mut answer)).await.expect("an answer in time");
        writing.abort();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

fn nested(open: &str, close: &str, depth: usize) -> String {
    format!("{}1{}", open.repeat(depth), close.repeat(depth))
}

#[tokio::test]
async fn no_token_or_a_bad_one_or_no_right() {
    let rows = Rows::new().await;
    let before = rows.api.store.revision();
    let post = |extra: &str| format!("POST {MAPS} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n{extra}\r\n{{}}");
    for (user, extra, start, words) in [
        (None, "", "HTTP/1.1 403 ", r#"configmaps is forbidden: User \"system:anonymous\" cannot create resource \"configmaps\" in API group \"\" in the namespace \"default\""#),
        (None, "Authorization: Bearer x.y.z\r\n", "HTTP/1.1 401 ", r#""reason":"Unauthorized""#),
        (Some(("jane", "devs")), "", "HTTP/1.1 403 ", r#"User \"jane\" cannot create resource \"configmaps\""#),
    ] {
        let answer = rows.raw(user, post(extra)).await;
        assert!(answer.starts_with(start) && answer.contains(words), "{answer}");
    }
    assert_eq!(rows.api.store.revision(), before);
}

#[tokio::test]
async fn unknown_group_or_resource() {
    let rows = Rows::new().await;
    for path in ["/apis/nope.io/v1/things", "/apis/apps/v9/statefulsets", "/api/v1/namespaces/default/things", "/nope"] {
        for method in ["GET", "POST"] {
            let answer = rows.refuses((method, path.to_owned(), JSON, "{}".to_owned()), "404 404 page not found", "").await;
            assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
        }
    }
}

#[tokio::test]
async fn wrong_method() {
    let rows = Rows::new().await;
    for (method, path) in [("PUT", MAPS.to_owned()), ("PATCH", MAPS.to_owned()), ("POST", format!("{MAPS}/a")), ("DELETE", "/api/v1/namespaces".to_owned()), ("POST", "/version".to_owned())] {
        rows.refuses((method, path, JSON, "{}".to_owned()), "405 MethodNotAllowed: the server does not allow this method on the requested resource", "").await;
    }
}

#[tokio::test]
async fn bad_content_type_or_accept() {
    let rows = Rows::new().await;
    rows.refuses_post("text/xml", "<a/>", "415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json", "").await;
    rows.refuses(("PATCH", format!("{MAPS}/a"), JSON, "{}".to_owned()), "415 UnsupportedMediaType: ", "application/merge-patch+json").await;
    for accept in ["text/html", "application/vnd.kubernetes.protobuf", "application/json;as=Table;v=v7;g=meta.k8s.io"] {
        let answer = rows.ask("GET", MAPS, &[("accept", accept)], "").await;
        assert!(answer.line().starts_with("406 NotAcceptable: only the following media types are accepted: application/json"), "{}", answer.line());
    }
    // A Table that is not spoken, with plain JSON after it, is plain JSON.
    let answer = rows.ask("GET", MAPS, &[("accept", "application/json;as=Table;v=v7;g=meta.k8s.io,application/json")], "").await;
    assert_eq!(answer.expect(200).json()["kind"], "ConfigMapList");
}

#[tokio::test]
async fn broken_json_array_null_trailing_bytes_empty() {
    let rows = Rows::new().await;
    for (body, words) in [
        ("", "<empty>"),
        ("{", "couldn't get version/kind; json parse error"),
        ("[]", "cannot unmarshal array"),
        ("null", "cannot unmarshal null"),
        ("\"x\"", "cannot unmarshal string"),
        ("7", "cannot unmarshal number"),
        ("{\"metadata\":{\"name\":\"b\"}} x", "trailing characters"),
        ("{\"metadata\":{\"name\":\"\u{0}\"}}", "json parse error"),
    ] {
        rows.refuses_post(JSON, body, "400 BadRequest: the object provided is unrecognized (must be of type ConfigMap): ", words).await;
    }
    let invalid_utf8 = rows.ask("POST", MAPS, &[("content-type", JSON)], Bytes::from_static(b"{\"metadata\":{\"name\":\"\xff\"}}")).await;
    assert!(invalid_utf8.line().starts_with("400 BadRequest: "), "{}", invalid_utf8.line());
}

#[tokio::test]
async fn kind_or_version_that_does_not_match_the_url() {
    let rows = Rows::new().await;
    rows.refuses_map(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"}}), "400 BadRequest: Pod in version \"v1\" cannot be handled as a ConfigMap", "").await;
    rows.refuses_map(json!({"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "b"}}), "400 BadRequest: the API version in the data (v2) does not match the expected API version (v1)", "").await;
}

#[tokio::test]
async fn namespace_in_body_is_not_the_urls() {
    let rows = Rows::new().await;
    let body = json!({"metadata": {"name": "b", "namespace": "kube-system"}});
    rows.refuses_map(body.clone(), "400 BadRequest: the namespace of the provided object does not match the namespace sent on the request", "").await;
    rows.refuses(("PUT", format!("{MAPS}/b"), JSON, body.to_string()), "400 BadRequest: the namespace of the provided object", "").await;
}

#[tokio::test]
async fn json_or_yaml_nested_too_deep() {
    let rows = Rows::new().await;
    for body in [nested("[", "]", 10_500), nested("{\"a\":", "}", 10_500), format!("{{\"metadata\":{{\"name\":\"b\"}},\"x\":{}}}", nested("[", "]", 500_000))] {
        rows.refuses_post(JSON, body.clone(), "400 BadRequest: ", "exceeded max depth").await;
        rows.refuses(("PATCH", format!("{MAPS}/a"), "application/merge-patch+json", body), "400 BadRequest: ", "exceeded max depth").await;
    }
    rows.refuses_post("application/yaml", nested("[", "]", 10_500), "400 BadRequest: ", "exceeded max depth").await;
    // What real objects need is far from the limit.
    let deep: Value = serde_json::from_str(&nested("{\"a\":", "}", 100)).unwrap();
    let revision = json!({"metadata": {"name": "deep"}, "revision": 1, "data": deep});
    rows.ask("POST", "/apis/apps/v1/namespaces/default/controllerrevisions", &[("content-type", JSON)], revision.to_string()).await.expect(201);
}

#[tokio::test]
async fn yaml_alias_bomb() {
    let rows = Rows::new().await;
    let mut bomb = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\na: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (next, last) in ('b'..='i').zip('a'..) {
        bomb += &format!("{next}: &{next} [{}]\n", vec![format!("*{last}"); 10].join(","));
    }
    rows.refuses_post("application/yaml", bomb, "400 BadRequest: ", "excessive aliasing").await;
}

#[tokio::test]
async fn body_over_3145728_bytes() {
    let rows = Rows::new().await;
    let body = json!({"metadata": {"name": "b"}, "data": {"a": "x".repeat(3 << 20)}});
    rows.refuses_map(body, "413 RequestEntityTooLarge: Request entity too large: limit is 3145728", "").await;
}

#[tokio::test]
async fn object_over_1572864_bytes() {
    let rows = Rows::new().await;
    let path = "/api/v1/namespaces/default/events".to_owned();
    let event = json!({"metadata": {"name": "b"}, "involvedObject": {"namespace": "default"}, "message": "x".repeat(2 << 20)});
    rows.refuses(("POST", path, JSON, event.to_string()), "413 RequestEntityTooLarge: ", "limit is 1572864").await;
}

#[tokio::test]
async fn headers_or_url_of_2_mib() {
    let rows = Rows::new().await;
    let big = "x".repeat(2 << 20);
    for head in [format!("GET /api?x={big} HTTP/1.1\r\nHost: a\r\n\r\n"), format!("GET /api HTTP/1.1\r\nHost: a\r\nX: {big}\r\n\r\n")] {
        let answer = rows.raw(ADMIN, head).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let refused = rows.sender.clone().send_request(request("GET", "https://localhost/api", &[("x", &big[..600_000])], "")).await;
    assert!(refused.is_err() || refused.unwrap().status() == 431);
}

#[tokio::test]
async fn bad_name_label_namespace_generate_name() {
    let rows = Rows::new().await;
    for (metadata, field, reason) in [
        (json!({"name": "Bad_Name"}), "metadata.name", "FieldValueInvalid"),
        (json!({}), "metadata.name", "FieldValueRequired"),
        (json!({"generateName": "Bad_"}), "metadata.generateName", "FieldValueInvalid"),
        (json!({"name": "b", "labels": {"a b": "c"}}), "metadata.labels", "FieldValueInvalid"),
        (json!({"name": "b", "labels": {"a": "b c"}}), "metadata.labels", "FieldValueInvalid"),
        (json!({"name": "b", "finalizers": ["plain"]}), "metadata.finalizers", "FieldValueInvalid"),
    ] {
        let answer = rows.refuses_map(json!({"metadata": metadata}), "422 Invalid: ConfigMap", "").await;
        let causes = answer.json()["details"]["causes"].clone();
        assert!(causes.as_array().unwrap().iter().any(|cause| cause["field"] == field && cause["reason"] == reason), "{metadata}: {causes}");
    }
    rows.refuses(("POST", "/api/v1/namespaces".to_owned(), JSON, map("a.b").to_string()), "422 Invalid: Namespace \"a.b\" is invalid: metadata.name: ", "").await;
    rows.refuses(("POST", "/api/v1/namespaces/none/configmaps".to_owned(), JSON, map("b").to_string()), "404 NotFound: namespaces \"none\" not found", "").await;
}

#[tokio::test]
async fn annotations_over_256_kib() {
    let rows = Rows::new().await;
    let body = json!({"metadata": {"name": "b", "annotations": {"a": "x".repeat(200_000), "b": "x".repeat(100_000)}}});
    let answer = rows.refuses_map(body, "422 Invalid: ConfigMap \"b\" is invalid: metadata.annotations: Too long: ", "262144").await;
    assert_eq!(answer.json()["details"]["causes"][0]["reason"], "FieldValueTooLong");
}

#[tokio::test]
async fn unknown_field() {
    let rows = Rows::new().await;
    let body = r#"{"metadata":{"name":"NAME"},"dat":{},"data":{"k":"1","k":"2"}}"#;
    let strict = ("POST", format!("{MAPS}?fieldValidation=Strict"), JSON, body.replace("NAME", "b"));
    rows.refuses(strict, "400 BadRequest: ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dat\", duplicate field \"data.k\"", "").await;
    let warned = rows.ask("POST", MAPS, &[("content-type", JSON)], body.replace("NAME", "c")).await.expect(201);
    assert_eq!(warned.warnings(), ["299 - \"unknown field \\\"dat\\\"\"", "299 - \"duplicate field \\\"data.k\\\"\""]);
    let ignored = rows.ask("POST", &format!("{MAPS}?fieldValidation=Ignore"), &[("content-type", JSON)], body.replace("NAME", "d")).await.expect(201);
    assert!(ignored.warnings().is_empty() && ignored.json().get("dat").is_none());
}

#[tokio::test]
async fn bad_field_validation_or_dry_run_value() {
    let rows = Rows::new().await;
    for (query, field) in [("fieldValidation=Loose", "fieldValidation"), ("dryRun=Some", "dryRun")] {
        for (method, path, options) in [("POST", MAPS.to_owned(), "CreateOptions"), ("PUT", format!("{MAPS}/a"), "UpdateOptions")] {
            let body = map("a").to_string();
            let answer = rows.refuses((method, format!("{path}?{query}"), JSON, body), &format!("422 Invalid: {options}.meta.k8s.io \"\" is invalid: {field}: Unsupported value: "), "").await;
            assert_eq!(answer.json()["details"]["causes"][0]["reason"], "FieldValueNotSupported");
        }
    }
}

#[tokio::test]
async fn number_too_large_for_anything_or_for_its_field() {
    let rows = Rows::new().await;
    rows.refuses_post(JSON, r#"{"metadata":{"name":"b"},"data":{"a":1e400}}"#, "400 BadRequest: ", "out of range").await;
    for number in ["2147483648", "9223372036854775808", "1.5"] {
        let body = set("big").to_string().replace("\"replicas\":2", &format!("\"replicas\":{number}"));
        rows.refuses(("POST", SETS.to_owned(), JSON, body), "400 BadRequest: StatefulSet in version \"v1\" cannot be handled as a StatefulSet: json: cannot unmarshal number", "StatefulSetSpec.spec.replicas of type int32").await;
    }
    let patch = ("PATCH", format!("{SETS}/web"), "application/merge-patch+json", r#"{"spec":{"replicas":2147483648}}"#.to_owned());
    rows.refuses(patch, "422 Invalid: ", "cannot unmarshal number").await;
}

#[tokio::test]
async fn existing_name_stale_resource_version_preconditions() {
    let rows = Rows::new().await;
    let answer = rows.refuses_map(map("a"), "409 AlreadyExists: configmaps \"a\" already exists", "").await;
    assert_eq!(answer.json()["details"], json!({"name": "a", "kind": "configmaps"}));
    let one = format!("{MAPS}/a");
    let stale = json!({"metadata": {"name": "a", "resourceVersion": "1"}}).to_string();
    let conflict = "409 Conflict: Operation cannot be fulfilled on configmaps \"a\": ";
    rows.refuses(("PUT", one.clone(), JSON, stale.clone()), conflict, "the object has been modified; please apply your changes to the latest version and try again").await;
    rows.refuses(("PATCH", one.clone(), "application/merge-patch+json", stale), conflict, "the object has been modified").await;
    for (preconditions, words) in [(json!({"uid": "other"}), "the UID in the precondition (other) does not match"), (json!({"resourceVersion": "1"}), "the ResourceVersion in the precondition (1) does not match")] {
        rows.refuses(("DELETE", one.clone(), JSON, json!({"preconditions": preconditions}).to_string()), conflict, words).await;
    }
}

#[tokio::test]
async fn put_without_a_resource_version_is_unconditional_for_built_in_kinds() {
    let rows = Rows::new().await;
    rows.ask("PUT", &format!("{MAPS}/a"), &[("content-type", JSON)], json!({"metadata": {"name": "a"}, "data": {"a": "2"}}).to_string()).await.expect(200);
    rows.refuses(("PUT", format!("{MAPS}/none"), JSON, map("none").to_string()), "404 NotFound: configmaps \"none\" not found", "").await;
}

#[tokio::test]
async fn resource_version_abc() {
    let rows = Rows::new().await;
    let start = "400 BadRequest: resourceVersion: Invalid value: \"abc\"";
    for path in [format!("{MAPS}?resourceVersion=abc"), format!("{MAPS}?resourceVersion=abc&watch=true"), format!("{MAPS}/a?resourceVersion=abc")] {
        rows.refuses(("GET", path, JSON, String::new()), start, "").await;
    }
    rows.refuses(("PUT", format!("{MAPS}/a"), JSON, json!({"metadata": {"name": "a", "resourceVersion": "abc"}}).to_string()), start, "").await;
}

#[tokio::test]
async fn create_with_a_resource_version() {
    let rows = Rows::new().await;
    rows.refuses_map(json!({"metadata": {"name": "b", "resourceVersion": "7"}}), "400 BadRequest: resourceVersion should not be set on objects to be created", "").await;
}

#[tokio::test]
async fn json_patch_of_more_than_10000_operations_or_a_copy_bomb() {
    let rows = Rows::new().await;
    let path = format!("{SETS}/web");
    let many = format!("[{}]", vec![r#"{"op":"test","path":"/kind","value":"StatefulSet"}"#; 10_001].join(","));
    rows.refuses(("PATCH", path.clone(), JSON_PATCH, many), "413 RequestEntityTooLarge: ", "10000").await;
    let mut bomb = vec![r#"{"op":"add","path":"/metadata/annotations","value":{"a":"xxxxxxxxxxxxxxxxxxxx"}}"#.to_owned()];
    bomb.extend((0..40).map(|n| format!(r#"{{"op":"copy","from":"/metadata/annotations","path":"/metadata/annotations/k{n}"}}"#)));
    rows.refuses(("PATCH", path, JSON_PATCH, format!("[{}]", bomb.join(","))), "4", "").await;
}

#[tokio::test]
async fn server_side_apply_without_field_manager() {
    let rows = Rows::new().await;
    let apply = "application/apply-patch+yaml";
    rows.refuses(("PATCH", format!("{MAPS}/a"), apply, "{}".to_owned()), "422 Invalid: PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch", "").await;
    rows.refuses(("PATCH", format!("{MAPS}/a?fieldManager=me"), apply, "{}".to_owned()), "415 UnsupportedMediaType: server-side apply is not supported yet", "").await;
}

#[tokio::test]
async fn bad_continue_token_or_one_with_a_resource_version() {
    let rows = Rows::new().await;
    rows.api.config_map("b", json!({})).await;
    let token = rows.ask("GET", &format!("{MAPS}?limit=1"), &[], "").await.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let get = |query: String| ("GET", format!("{MAPS}?{query}"), JSON, String::new());
    rows.refuses(get("continue=nonsense".to_owned()), "400 BadRequest: continue key is not valid", "").await;
    rows.refuses(get(format!("limit=1&continue={token}&resourceVersion=1")), "400 BadRequest: specifying resource version is not allowed when using continue", "").await;
    let both = get(format!("limit=1&continue={token}&resourceVersion=0&resourceVersionMatch=NotOlderThan"));
    rows.refuses(both, "422 Invalid: ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided", "").await;
    rows.refuses(get("resourceVersion=0&resourceVersionMatch=Exact".to_owned()), "422 Invalid: ", "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"").await;
    rows.refuses(get("resourceVersion=1&resourceVersionMatch=Nearly".to_owned()), "422 Invalid: ", "Unsupported value: \"Nearly\": supported values: \"Exact\", \"NotOlderThan\", \"\"").await;
    rows.refuses(get("resourceVersionMatch=Exact".to_owned()), "422 Invalid: ", "resourceVersionMatch is forbidden unless resourceVersion is provided").await;
}

#[tokio::test]
async fn watch_from_a_resource_version_that_is_too_old() {
    let api = Api::empty(|_| {}, Options { window_events: 8, ..Options::default() });
    api.server.bootstrap().await.unwrap();
    let rows = Rows::of(api).await;
    for n in 0..5_000 {
        rows.api.merge(&format!("{MAPS}/a"), json!({"data": {"n": n.to_string()}})).await.expect(200);
        if n % 100 != 99 {
            continue;
        }
        let answer = rows.ask("GET", &format!("{MAPS}?watch=true&resourceVersion=1&timeoutSeconds=1"), &[], "").await.expect(200);
        let first: Value = serde_json::from_str(answer.text.lines().next().unwrap()).unwrap();
        if first["type"] == "ERROR" {
            assert_eq!(answer.text.lines().count(), 1);
            assert_eq!((&first["object"]["kind"], &first["object"]["code"], &first["object"]["reason"]), (&json!("Status"), &json!(410), &json!("Expired")));
            assert!(first["object"]["message"].as_str().unwrap().starts_with("too old resource version: 1 ("), "{first}");
            return;
        }
    }
    panic!("revision 1 was kept for 5,000 writes");
}

#[tokio::test]
async fn list_at_a_future_resource_version() {
    let rows = Rows::new().await;
    let begun = Instant::now();
    let answer = rows.refuses(("GET", format!("{MAPS}?resourceVersion=77777777"), JSON, String::new()), "504 Timeout: Timeout: Too large resource version: 77777777, current: ", "").await;
    assert!(begun.elapsed() > Duration::from_millis(2_500));
    let details = &answer.json()["details"];
    assert_eq!((&details["retryAfterSeconds"], &details["causes"][0]["reason"], &answer.headers["retry-after"]), (&json!(1), &json!("ResourceVersionTooLarge"), &http::HeaderValue::from_static("1")));
}

#[tokio::test]
async fn send_initial_events() {
    let rows = Rows::new().await;
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1";
    let answer = rows.ask("GET", &format!("{MAPS}?{query}"), &[], "").await.expect(200);
    let events: Vec<Value> = answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&events[0]["type"], &events[0]["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("a")));
    assert_eq!((&events[1]["type"], &events[1]["object"]["metadata"]["annotations"]), (&json!("BOOKMARK"), &json!({"k8s.io/initial-events-end": "true"})));
}

#[tokio::test]
async fn too_many_requests_in_flight() {
    let api = Api::empty(|config| config.inflight_limit = 0, Options::default());
    api.server.bootstrap().await.unwrap();
    let rows = Rows::of(api).await;
    let answer = rows.refuses_map(map("b"), "429 TooManyRequests: ", "").await;
    assert_eq!((&answer.json()["details"]["retryAfterSeconds"], &answer.headers["retry-after"]), (&json!(1), &http::HeaderValue::from_static("1")));
}

#[tokio::test]
async fn idle_watches_are_all_served() {
    let rows = Rows::new().await;
    let mut watches = Vec::new();
    // 250 a connection is what HTTP/2 allows here, as upstream.
    for _ in 0..4 {
        let stream = connect(&rows.api, rows.served.port, ADMIN, "h2").await.unwrap();
        let (sender, connection) = http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let path = format!("https://localhost{MAPS}?watch=true&resourceVersion={}", rows.api.store.revision());
        let opening = (0..200).map(|_| {
            let (mut sender, path) = (sender.clone(), path.clone());
            async move { sender.send_request(request("GET", &path, &[], "")).await.unwrap() }
        });
        watches.extend(futures::future::join_all(opening).await);
    }
    rows.api.config_map("new", json!({})).await;
    for watch in watches {
        assert_eq!(watch.status(), 200);
        let frame = tokio::time::timeout(DEADLINE, watch.into_body().frame()).await.unwrap().unwrap().unwrap();
        assert!(frame.into_data().unwrap().starts_with(b"{\"type\":\"ADDED\""));
    }
}
