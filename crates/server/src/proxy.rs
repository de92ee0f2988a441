//! `log`, `exec`, `attach` and `portforward` of pods: checked here, carried out by the node that runs the pod.
//!
//! The request goes to the node's unix socket as it came. When the node answers 101 the two connections are joined byte by byte; only
//! then, so that a refused upgrade never leaves a client with a connection to a node (CVE-2018-1002105).

use crate::body::Incoming;
use crate::handler::{Answer, Call, typed};
use crate::object;
use crate::rows::Row;
use crate::status::Failure;
use http::request::Parts;
use http::{HeaderName, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mainstay_store::Key;
use serde_json::Value;
use std::time::Duration;
use tokio::net::UnixStream;

/// How long a node may take to answer, before a stream of its own length begins.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Headers of an upgrade, which are between two neighbours and therefore not passed on otherwise.
const UPGRADE_HEADERS: [HeaderName; 8] = [
    mainstay_streams::STREAM_PROTOCOL,
    mainstay_streams::ACCEPTED_STREAM_PROTOCOLS,
    header::CONNECTION,
    header::UPGRADE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_ACCEPT,
];

/// Bytes carried at once each way: two TLS records.
const CARRY_BYTES: usize = 32 * 1024;

/// What of a pod is streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Log,
    Exec,
    Attach,
    PortForward,
}

impl Stream {
    /// A subresource that is one of these.
    pub(crate) fn of(row: &Row, subresource: &str) -> Option<Self> {
        match subresource {
            _ if row.kind.storage != "pods" => None,
            "log" => Some(Self::Log),
            "exec" => Some(Self::Exec),
            "attach" => Some(Self::Attach),
            "portforward" => Some(Self::PortForward),
            _ => None,
        }
    }

    /// Checks and carries on.
    pub(crate) async fn answer(self, call: &Call<'_>, parts: &Parts, body: Incoming, upgrade: Option<OnUpgrade>) -> Answer {
        let allowed = match self {
            Self::Log => parts.method == Method::GET,
            _ => parts.method == Method::GET || parts.method == Method::POST,
        };
        if !allowed {
            return Err(Failure::method_not_allowed());
        }
        drop(body);
        let pod = self.pod(call)?;
        let container = match self {
            Self::PortForward => String::new(),
            _ => container(call, &pod)?,
        };
        let node = pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or("");
        if node.is_empty() {
            return match self {
                Self::Log => Ok(typed(200, "text/plain", "")),
                _ => Err(Failure::bad_request(format!("pod {} does not have a host assigned", call.name))),
            };
        }
        if self != Self::Log && (upgrade.is_none() || !mainstay_streams::asks_to_stream(&parts.headers)) {
            return Err(Failure::bad_request("Upgrade request required"));
        }
        let socket = call.server.nodes.socket(node).ok_or_else(|| unreachable_node(node, "it is not known to this server"))?;
        let stream = UnixStream::connect(&socket).await.map_err(|error| unreachable_node(node, &error.to_string()))?;
        let path = self.node_path(call, &container, parts.uri.query());
        self.forward(call, node, stream, path, parts, upgrade).await
    }

    fn pod(self, call: &Call<'_>) -> Result<Value, Failure> {
        let key = Key { resource: call.row.resource.clone(), namespace: call.namespace.unwrap_or("").into(), name: call.name.into() };
        let stored = call.server.store.get(&key).ok_or_else(|| Failure::not_found(call.row.kind, call.name))?;
        object::read(call.row, &stored)
    }

    fn node_path(self, call: &Call<'_>, container: &str, query: Option<&str>) -> String {
        let what = match self {
            Self::Log => "containerLogs",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portForward",
        };
        let mut path = format!("/{what}/{}/{}", call.namespace.unwrap_or(""), call.name);
        if !container.is_empty() {
            path.push('/');
            path.push_str(container);
        }
        if let Some(query) = query {
            path.push('?');
            path.push_str(query);
        }
        path
    }

    async fn forward(self, call: &Call<'_>, node: &str, stream: UnixStream, path: String, parts: &Parts, upgrade: Option<OnUpgrade>) -> Answer {
        let broken = |error: &dyn std::fmt::Display| unreachable_node(node, &error.to_string());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        let mut closing = call.server.closing();
        tokio::spawn(async move {
            tokio::select! {
                // How the connection ends shows in the bytes that its client has or has not got.
                _ = connection.with_upgrades() => {}
                _ = closing.wait_for(|closing| *closing) => {}
            }
        });
        let mut request = Request::builder().method(parts.method.clone()).uri(path).header(header::HOST, "node");
        for name in UPGRADE_HEADERS.iter().filter(|_| self != Self::Log) {
            for value in parts.headers.get_all(name) {
                request = request.header(name, value);
            }
        }
        let request = request.body(Empty::<bytes::Bytes>::new()).map_err(Failure::internal)?;
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, sender.send_request(request)).await;
        let mut response = answered.map_err(|_| broken(&"no answer in time"))?.map_err(|error| broken(&error))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(client) = upgrade else { return Err(Failure::internal("the node upgraded a request that asked for none")) };
            join(client, hyper::upgrade::on(&mut response), call.server.closing());
            let mut answer = Response::new(crate::body::full(""));
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            for name in &UPGRADE_HEADERS {
                if let Some(value) = response.headers().get(name) {
                    answer.headers_mut().insert(name, value.clone());
                }
            }
            return Ok(answer);
        }
        let (mut head, body) = response.into_parts();
        let content_type = head.headers.remove(header::CONTENT_TYPE);
        let accepted = head.headers.get_all(mainstay_streams::ACCEPTED_STREAM_PROTOCOLS).iter().cloned().collect::<Vec<_>>();
        let mut answer = Response::new(body.map_err(std::io::Error::other).boxed_unsync());
        *answer.status_mut() = head.status;
        for value in accepted {
            answer.headers_mut().append(mainstay_streams::ACCEPTED_STREAM_PROTOCOLS, value);
        }
        if let Some(value) = content_type {
            answer.headers_mut().insert(header::CONTENT_TYPE, value);
        }
        Ok(answer)
    }
}

/// Carries bytes both ways until both sides are done, or the server closes.
pub(crate) fn join(client: OnUpgrade, node: OnUpgrade, mut closing: tokio::sync::watch::Receiver<bool>) {
    tokio::spawn(async move {
        let (Ok(client), Ok(node)) = futures::future::join(client, node).await else { return };
        let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
        tokio::select! {
            _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut node, CARRY_BYTES, CARRY_BYTES) => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
    });
}

fn unreachable_node(node: &str, why: &str) -> Failure {
    Failure::internal(format!("node {node}: {why}"))
}

fn names(pod: &Value, field: &str) -> Vec<String> {
    let containers = pod.get("spec").and_then(|spec| spec.get(field)).and_then(Value::as_array);
    containers.into_iter().flatten().filter_map(|container| container["name"].as_str()).map(str::to_owned).collect()
}

/// The container that is meant (pkg/registry/core/pod/strategy.go, `validateContainer`).
fn container(call: &Call<'_>, pod: &Value) -> Result<String, Failure> {
    let [main, init, ephemeral] = ["containers", "initContainers", "ephemeralContainers"].map(|field| names(pod, field));
    if let Some(wanted) = call.query.get("container") {
        let known = main.iter().chain(&init).chain(&ephemeral).any(|name| name == wanted);
        return match known {
            true => Ok(wanted.to_owned()),
            false => Err(Failure::bad_request(format!("container {wanted} is not valid for pod {}", call.name))),
        };
    }
    if let [only] = main.as_slice() {
        return Ok(only.clone());
    }
    let mut message = format!("a container name must be specified for pod {}, choose one of: [{}]", call.name, main.join(" "));
    if !init.is_empty() {
        message += &format!(" or one of the init containers: [{}]", init.join(" "));
    }
    if !ephemeral.is_empty() {
        message += &format!(" or one of the ephemeral containers: [{}]", ephemeral.join(" "));
    }
    Err(Failure::bad_request(message))
}
