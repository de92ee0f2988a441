//! What exists from the start: the system namespaces, the `kubernetes` service and `kube-dns`. Written through the same door as everything
//! else, and put right at each start.

use crate::identity::Identity;
use crate::server::{Local, Server};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use tower::Service;

/// A system object could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{method} {path}: {code} {message}")]
pub struct BootstrapError {
    method: Method,
    path: String,
    code: u16,
    message: String,
}

/// Namespaces that a cluster cannot do without.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Makes what is missing and mends what differs.
pub(crate) async fn run(server: &Server) -> Result<(), BootstrapError> {
    let mut client = Client(server.local(Identity::component("system:apiserver")));
    let config = &server.inner.config;
    for name in NAMESPACES {
        client.ensure("/api/v1/namespaces", name, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await?;
    }
    let (base, prefix) = config.settings.service_range;
    let address = |offset: u32| Ipv4Addr::from((u32::from(base) & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)) + offset);
    let (endpoint, port) = config.api_endpoint;
    let kubernetes = [Port { name: "https", protocol: "TCP", port: 443, target: port }];
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    client.service("default", "kubernetes", address(1), labels, &kubernetes, endpoint).await?;
    let (endpoint, port) = config.dns_endpoint;
    let dns = [Port { name: "dns", protocol: "UDP", port: 53, target: port }, Port { name: "dns-tcp", protocol: "TCP", port: 53, target: port }];
    let labels = json!({"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"});
    client.service("kube-system", "kube-dns", address(10), labels, &dns, endpoint).await
}

struct Port {
    name: &'static str,
    protocol: &'static str,
    port: u16,
    target: u16,
}

struct Client(Local);

impl Client {
    /// A service without a selector, and the endpoints that it stands for.
    async fn service(&mut self, namespace: &str, name: &str, address: Ipv4Addr, labels: Value, ports: &[Port], endpoint: Ipv4Addr) -> Result<(), BootstrapError> {
        let service_ports: Vec<Value> = ports.iter().map(|p| json!({"name": p.name, "protocol": p.protocol, "port": p.port, "targetPort": p.target})).collect();
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ports": service_ports, "sessionAffinity": "None"},
        });
        self.ensure(&format!("/api/v1/namespaces/{namespace}/services"), name, service).await?;
        let target_ports: Vec<Value> = ports.iter().map(|p| json!({"name": p.name, "protocol": p.protocol, "port": p.target})).collect();
        let endpoints = json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": name, "namespace": namespace, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": [{"ip": endpoint}], "ports": target_ports}],
        });
        self.ensure(&format!("/api/v1/namespaces/{namespace}/endpoints"), name, endpoints).await?;
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "endpoints": [{"addresses": [endpoint], "conditions": {"ready": true}}], "ports": target_ports,
        });
        self.ensure(&format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"), name, slice).await
    }

    /// Creates it, or makes it say this. What cannot be changed (an address, after the range was) is made anew.
    async fn ensure(&mut self, collection: &str, name: &str, object: Value) -> Result<(), BootstrapError> {
        let path = format!("{collection}/{name}");
        let body = object.to_string();
        match self.call(Method::PATCH, &path, "application/merge-patch+json", &body).await {
            Ok(()) => return Ok(()),
            Err(error) if error.code == 404 => {}
            Err(error) if error.code == 422 => self.call(Method::DELETE, &path, "application/json", "").await?,
            Err(error) => return Err(error),
        }
        self.call(Method::POST, collection, "application/json", &body).await
    }

    async fn call(&mut self, method: Method, path: &str, media_type: &str, body: &str) -> Result<(), BootstrapError> {
        let failed = |code: u16, message: String| BootstrapError { method: method.clone(), path: path.to_owned(), code, message };
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(header::CONTENT_TYPE, media_type)
            .body(Full::new(Bytes::from(body.to_owned())))
            .map_err(|error| failed(0, error.to_string()))?;
        let response = match self.0.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let code = response.status().as_u16();
        if response.status().is_success() {
            return Ok(());
        }
        let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let status: Value = serde_json::from_slice(&body).unwrap_or_default();
        Err(failed(code, status["message"].as_str().unwrap_or("").to_owned()))
    }
}
