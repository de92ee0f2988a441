//! A server on a new store, with the controllers beside it, and short words for requests.

use http::Method;
use mainstay_client::Cluster;
use mainstay_server::{Config, Identity, NodeEndpoints, Pki, Server};
use mainstay_store::{Options, Store};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

struct NoNodes;

impl NodeEndpoints for NoNodes {
    fn socket(&self, _node: &str) -> Option<PathBuf> {
        None
    }
}

pub struct Harness {
    cluster: Cluster,
    dir: tempfile::TempDir,
    controllers: JoinHandle<()>,
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.controllers.abort();
    }
}

impl Harness {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        let none = String::new;
        let config = Config {
            // Nothing is served over TLS here.
            pki: Pki { ca_certificate: none(), server_certificate: none(), server_key: none(), token_key: none() },
            settings: mainstay_api::Settings { service_range: (Ipv4Addr::new(10, 96, 0, 0), 16), node_ports: (30_000, 32_767), domain: "cluster.local".into() },
            git_version: "v1.36.3".into(),
            body_limit_bytes: 3 << 20,
            inflight_limit: 400,
            api_endpoint: (Ipv4Addr::new(10, 0, 0, 1), 6443),
            dns_endpoint: (Ipv4Addr::new(10, 0, 0, 1), 53),
        };
        let server = Server::new(store, config, Arc::new(NoNodes));
        server.bootstrap().await.unwrap();
        let client = |name: &str| kube::Client::new(server.local(Identity::component(name)), "default");
        let config = mainstay_controllers::Config { volumes_dir: dir.path().join("volumes"), node: "here".into(), ca_certificate: "the CA".into() };
        let controllers = tokio::spawn(mainstay_controllers::run(config, Cluster::new(client("controllers"), "controllers")));
        let harness = Self { cluster: Cluster::new(client("test"), "test"), dir, controllers };
        harness.create("/api/v1/namespaces", json!({"metadata": {"name": "x"}})).await;
        harness.create("/api/v1/nodes", json!({"metadata": {"name": "here", "labels": {"kubernetes.io/hostname": "here"}}})).await;
        harness.wait("/api/v1/namespaces/x/serviceaccounts/default", |account| !account.is_null()).await;
        harness
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub fn volumes(&self) -> PathBuf {
        self.dir.path().join("volumes")
    }

    pub async fn request(&self, method: Method, path: &str, body: Value) -> Result<Value, String> {
        let body = (!body.is_null()).then_some(&body);
        self.cluster.request(method, path, body).await.map_err(|error| error.to_string())
    }

    /// The last segment of `path` is the plural; `apiVersion` follows from the path, `kind` the server knows.
    pub async fn create(&self, path: &str, body: Value) -> Value {
        self.request(Method::POST, path, body).await.unwrap()
    }

    pub async fn patch(&self, path: &str, body: Value) -> Value {
        self.request(Method::PATCH, path, body).await.unwrap()
    }

    pub async fn delete(&self, path: &str, options: Value) {
        self.request(Method::DELETE, path, options).await.unwrap();
    }

    /// `Null` when there is none.
    pub async fn get(&self, path: &str) -> Value {
        self.request(Method::GET, path, Value::Null).await.unwrap_or(Value::Null)
    }

    /// Waits until what is at `path` is as wanted; `Null` stands for nothing there.
    pub async fn wait(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let now = self.get(path).await;
            if wanted(&now) {
                return now;
            }
            assert!(tokio::time::Instant::now() < deadline, "{path} is still {now:#}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub async fn gone(&self, path: &str) {
        self.wait(path, Value::is_null).await;
    }

    /// Waits for an event about an object and returns its message.
    pub async fn event(&self, about: &str, reason: &str) -> String {
        let has = |event: &Value| event["involvedObject"]["name"] == about && event["reason"] == reason;
        let find = |list: &Value| list["items"].as_array().into_iter().flatten().find(|event| has(event)).map(|event| event["message"].as_str().unwrap().to_owned());
        let list = self.wait("/api/v1/namespaces/x/events", |list| find(list).is_some()).await;
        find(&list).unwrap()
    }

    /// A ConfigMap, the simplest thing that can own and be owned.
    pub async fn config_map(&self, namespace: &str, name: &str, owners: &[(&Value, bool)]) -> Value {
        let owners: Vec<Value> = owners
            .iter()
            .map(|(owner, blocks)| {
                let kind = owner["kind"].as_str().unwrap_or("ConfigMap");
                json!({"apiVersion": "v1", "kind": kind, "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "blockOwnerDeletion": blocks})
            })
            .collect();
        self.create(&format!("/api/v1/namespaces/{namespace}/configmaps"), json!({"metadata": {"name": name, "ownerReferences": owners}})).await
    }

    /// A pod on the node, which uses a claim.
    pub async fn pod(&self, name: &str, claim: &str, node: Option<&str>) -> Value {
        let volumes = if claim.is_empty() { json!([]) } else { json!([{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]) };
        let pod = json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "busybox"}], "volumes": volumes}});
        self.create("/api/v1/namespaces/x/pods", pod).await
    }
}
