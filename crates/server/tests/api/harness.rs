//! A server with a fresh store, and a client that says little.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use mainstay_api::Settings;
use mainstay_server::{Body, Config, Identity, Limits, Local, NodeEndpoints, Pki, Server};
use mainstay_store::{Options, Store};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower::Service;

/// How long a test waits for what must come.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Sockets of nodes, as tests set them.
#[derive(Default)]
pub struct Nodes(pub Mutex<Option<PathBuf>>);

impl NodeEndpoints for Nodes {
    fn socket(&self, _: &str) -> Option<PathBuf> {
        self.0.lock().unwrap().clone()
    }
}

/// A server and its administrator.
pub struct Api {
    pub server: Server,
    pub store: Store,
    pub nodes: Arc<Nodes>,
    pub ca: Ca,
    local: Local,
    _dir: tempfile::TempDir,
}

/// A certificate authority for one test.
pub struct Ca {
    pub pki: Pki,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "ca");
        let ca_certificate = params.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(params, key);
        let server_key = rcgen::KeyPair::generate().unwrap();
        let server = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let server_certificate = server.signed_by(&server_key, &issuer).unwrap().pem();
        let token_key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let pki = Pki { ca_certificate, server_certificate, server_key: server_key.serialize_pem(), token_key };
        Self { pki, issuer }
    }

    /// (certificate, key) of a user, PEM.
    pub fn client(&self, name: &str, group: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// An answer, read.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {}", self.text))
    }

    /// `422 Invalid: message`, or only the code of a success.
    pub fn line(&self) -> String {
        match serde_json::from_str::<Value>(&self.text) {
            Ok(status) if status["kind"] == "Status" && status["status"] == "Failure" => {
                assert_eq!(status["code"], self.code, "{}", self.text);
                format!("{} {}: {}", self.code, status["reason"].as_str().unwrap(), status["message"].as_str().unwrap())
            }
            Ok(_) => self.code.to_string(),
            Err(_) => format!("{} {}", self.code, self.text.trim()),
        }
    }

    /// Panics with the answer unless it has this code.
    pub fn expect(self, code: u16) -> Self {
        assert_eq!(self.code, code, "{}", self.text);
        self
    }

    pub fn warnings(&self) -> Vec<String> {
        self.headers.get_all("warning").iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }
}

pub fn config(pki: Pki) -> Config {
    Config {
        pki,
        settings: Settings { service_range: (Ipv4Addr::new(10, 96, 0, 0), 16), node_ports: (30_000, 32_767), domain: "cluster.local".to_owned() },
        git_version: "v1.36.3+mainstay".to_owned(),
        body_limit_bytes: 3 << 20,
        inflight_limit: 400,
        api_endpoint: (Ipv4Addr::new(10, 0, 0, 1), 6443),
        dns_endpoint: (Ipv4Addr::new(10, 96, 0, 10), 53),
    }
}

impl Api {
    /// With the system objects made.
    pub async fn new() -> Self {
        let api = Self::empty(|_| {}, Options::default());
        api.server.bootstrap().await.unwrap();
        api
    }

    pub fn empty(change: impl FnOnce(&mut Config), options: Options) -> Self {
        Self::limited(change, options, Limits::default())
    }

    pub fn limited(change: impl FnOnce(&mut Config), options: Options, limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), options).unwrap();
        let nodes = Arc::new(Nodes::default());
        let ca = Ca::new();
        let mut config = config(ca.pki.clone());
        change(&mut config);
        let server = Server::with_limits(store.clone(), config, nodes.clone(), limits);
        let local = server.local(Identity::component("admin"));
        Self { server, store, nodes, ca, local, _dir: dir }
    }

    /// As another user.
    pub fn client(&self, user: &str, groups: &[&str]) -> Local {
        let groups = groups.iter().map(|group| (*group).into()).collect();
        self.server.local(Identity { user: user.into(), groups, uid: None, extra: Vec::new() })
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        send(&mut self.local.clone(), request).await
    }

    /// `GET /api/v1/…`, with JSON.
    pub async fn call(&self, method: &str, path: &str, body: impl AsRef<str>) -> Answer {
        self.typed(method, path, "application/json", body.as_ref().to_owned()).await
    }

    pub async fn typed(&self, method: &str, path: &str, media_type: &str, body: impl Into<Bytes>) -> Answer {
        self.send(request(method, path, &[("content-type", media_type)], body)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "").await
    }

    pub async fn accept(&self, path: &str, accept: &str) -> Answer {
        self.send(request("GET", path, &[("accept", accept)], "")).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call("PUT", path, body.to_string()).await
    }

    pub async fn merge(&self, path: &str, body: Value) -> Answer {
        self.typed("PATCH", path, "application/merge-patch+json", body.to_string()).await
    }

    pub async fn delete(&self, path: &str, body: Value) -> Answer {
        self.call("DELETE", path, if body.is_null() { String::new() } else { body.to_string() }).await
    }

    /// Creates a ConfigMap in `default`.
    pub async fn config_map(&self, name: &str, labels: Value) -> Value {
        self.post(MAPS, json!({"metadata": {"name": name, "labels": labels}, "data": {"a": "1"}})).await.expect(201).json()
    }

    pub async fn open(&self, path: &str) -> Lines {
        let response = self.local.clone().call(request("GET", path, &[], "")).await.unwrap();
        Lines { code: response.status().as_u16(), body: response.into_body(), rest: Vec::new() }
    }

    pub async fn open_as(&self, path: &str, accept: &str) -> Lines {
        let response = self.local.clone().call(request("GET", path, &[("accept", accept)], "")).await.unwrap();
        Lines { code: response.status().as_u16(), body: response.into_body(), rest: Vec::new() }
    }
}

pub const MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub const PODS: &str = "/api/v1/namespaces/default/pods";
pub const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

pub async fn send(local: &mut Local, request: Request<Full<Bytes>>) -> Answer {
    let response: Response<Body> = tokio::time::timeout(DEADLINE, local.call(request)).await.expect("an answer in time").unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer { code: parts.status.as_u16(), headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

/// A watch, read line by line.
pub struct Lines {
    pub code: u16,
    body: Body,
    rest: Vec<u8>,
}

impl Lines {
    /// The next event; `None` at the end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(DEADLINE, self.body.frame()).await.expect("an event in time")?;
            self.rest.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    }

    /// `ADDED name`, for as many events as asked.
    pub async fn show(&mut self, count: usize) -> Vec<String> {
        let mut shown = Vec::new();
        for _ in 0..count {
            let event = self.next().await.expect("one more event");
            let name = event.pointer("/object/metadata/name").and_then(Value::as_str).unwrap_or("");
            shown.push(format!("{} {name}", event["type"].as_str().unwrap()).trim().to_owned());
        }
        shown
    }
}

pub fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
           "spec": {"containers": [{"name": "c", "image": "busybox"}]}})
}

pub fn set(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": {
        "serviceName": "web", "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}}})
}
