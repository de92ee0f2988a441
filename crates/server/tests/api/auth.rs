use crate::harness::*;
use serde_json::{Value, json};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

async fn token(api: &Api, spec: Value) -> Value {
    api.post(&format!("{ACCOUNTS}/web/token"), json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})).await.expect(201).json()
}

async fn review(api: &Api, token: &str) -> Value {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    api.post("/apis/authentication.k8s.io/v1/tokenreviews", body).await.expect(201).json()["status"].clone()
}

#[tokio::test]
async fn a_token_lives_as_long_as_its_account_and_pod() {
    let api = Api::new().await;
    let account = api.post(ACCOUNTS, json!({"metadata": {"name": "web"}})).await.expect(201).json();
    let mut body = pod("p");
    body["spec"]["serviceAccountName"] = "web".into();
    let made = api.post(PODS, body).await.expect(201).json();
    let plain = token(&api, json!({})).await;
    assert_eq!(plain["spec"]["audiences"], json!(["https://kubernetes.default.svc.cluster.local"]));
    let bound = token(&api, json!({"expirationSeconds": 3607, "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": made["metadata"]["uid"]}})).await;
    let [plain, bound] = [plain, bound].map(|request| request["status"]["token"].as_str().unwrap().to_owned());
    let status = review(&api, &bound).await;
    assert_eq!((&status["authenticated"], &status["user"]["username"]), (&json!(true), &json!("system:serviceaccount:default:web")));
    assert_eq!(status["user"]["uid"], account["metadata"]["uid"]);
    assert_eq!(status["user"]["groups"], json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]));
    assert_eq!(status["user"]["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));

    let tampered = format!("{}x", &plain[..plain.len() - 1]);
    for bad in ["", "x.y.z", &tampered] {
        assert_eq!(review(&api, bad).await["authenticated"], false);
    }
    api.delete(&format!("{PODS}/p"), json!({})).await.expect(200);
    assert_eq!(review(&api, &bound).await["authenticated"], false, "its pod is gone");
    assert_eq!(review(&api, &plain).await["authenticated"], true);
    api.delete(&format!("{ACCOUNTS}/web"), json!({})).await.expect(200);
    api.post(ACCOUNTS, json!({"metadata": {"name": "web"}})).await.expect(201);
    assert_eq!(review(&api, &plain).await["authenticated"], false, "another account of the same name");
}

#[tokio::test]
async fn token_requests_are_judged() {
    let api = Api::new().await;
    api.post(ACCOUNTS, json!({"metadata": {"name": "web"}})).await.expect(201);
    api.post(ACCOUNTS, json!({"metadata": {"name": "default"}})).await.expect(201);
    api.post(PODS, pod("p")).await.expect(201);
    let bound = |kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name, "uid": uid}});
    for (spec, code, words) in [
        (json!({"expirationSeconds": 60}), 422, "may not specify a duration less than 10 minutes"),
        (bound("Pod", "none", ""), 404, "pods \"none\" not found"),
        (bound("Pod", "p", "other"), 409, "does not match the UID in record"),
        (bound("Pod", "p", ""), 400, "different serviceaccount name"),
        (bound("Node", "n", ""), 400, "cannot bind token to object of type"),
    ] {
        let answer = api.post(&format!("{ACCOUNTS}/web/token"), json!({"spec": spec})).await;
        assert!(answer.code == code && answer.line().contains(words), "{}", answer.line());
    }
    api.post(&format!("{ACCOUNTS}/none/token"), json!({})).await.expect(404);
}

#[tokio::test]
async fn everybody_may_ask_about_itself_and_only_masters_do_more() {
    let api = Api::new().await;
    let mut account = api.client("system:serviceaccount:default:default", &["system:authenticated"]);
    let json = [("content-type", "application/json")];
    let whoami = send(&mut account, request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", &json, "{}")).await.expect(201).json();
    assert_eq!(whoami["status"]["userInfo"]["username"], "system:serviceaccount:default:default");
    let may = |verb: &str| json!({"spec": {"resourceAttributes": {"verb": verb, "resource": "pods", "namespace": "default"}}}).to_string();
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let denied = send(&mut account, request("POST", path, &json, may("list"))).await.expect(201).json();
    assert_eq!(denied["status"]["allowed"], false);
    assert_eq!(api.call("POST", path, may("list")).await.expect(201).json()["status"]["allowed"], true);
    let rules = send(&mut account, request("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &json, r#"{"spec":{"namespace":"default"}}"#)).await.expect(201).json();
    assert_eq!(rules["status"]["incomplete"], false);
    let refused = send(&mut account, request("GET", PODS, &[], "")).await;
    assert_eq!(
        refused.line(),
        "403 Forbidden: pods is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    send(&mut account, request("GET", "/apis/apps/v1", &[], "")).await.expect(200);
    let mut nobody = api.client("system:anonymous", &["system:unauthenticated"]);
    for (path, code) in [("/livez", 200), ("/version", 200), ("/api", 403), (PODS, 403), ("/apis/nope.io/v1/things", 403)] {
        assert_eq!(send(&mut nobody, request("GET", path, &[], "")).await.code, code, "{path}");
    }
}
