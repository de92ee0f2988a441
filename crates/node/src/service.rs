//! The kubelet-like service on a unix socket: logs, exec, attach, port-forward. The API server has authorized who comes here, and passes bytes on.

use crate::context::Node;
use crate::logs::{self, Options};
use crate::pod::state::{Phase, State};
use crate::registry::{Entry, View};
use crate::{container::paths::Paths, interactive, port_forward};
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};

/// Connections at once; more wait.
const CONNECTIONS_LIMIT: usize = 512;
/// Chunks of a log between its reader and a slow client.
const CHUNKS_LIMIT: usize = 8;

type Body = BoxBody<Bytes, io::Error>;

/// The listening service.
pub(crate) struct Service {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    path: PathBuf,
}

impl Service {
    pub(crate) fn start(node: Arc<Node>) -> io::Result<Self> {
        let path = node.config.run_dir.join("node.sock");
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(listen(node, listener, stopped));
        Ok(Self { stop, task, path })
    }

    /// Takes no more connections and ends those there are.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
        let _ = std::fs::remove_file(self.path);
    }
}

async fn listen(node: Arc<Node>, listener: UnixListener, mut stopped: watch::Receiver<bool>) {
    let limit = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = limit.clone().acquire_owned().await else { return };
        tokio::select! {
            _ = stopped.changed() => return connections.shutdown().await,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let node = node.clone();
                    connections.spawn(async move {
                        serve(node, stream).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the node's socket refuses a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(node: Arc<Node>, stream: UnixStream) {
    let service = hyper::service::service_fn(move |request| {
        let node = node.clone();
        async move { Ok::<_, Infallible>(answer(&node, request)) }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the node's socket ended early");
    }
}

/// What a path asks for: `/containerLogs/ns/pod/container`.
fn answer(node: &Arc<Node>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let parts: Vec<String> = path.trim_matches('/').split('/').map(|p| percent_encoding::percent_decode_str(p).decode_utf8_lossy().into_owned()).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (what, namespace, pod, container) = match parts[..] {
        ["portForward", namespace, pod] => ("portForward", namespace, pod, ""),
        [what, namespace, pod, container] => (what, namespace, pod, container),
        _ => return text(StatusCode::NOT_FOUND, format!("no such path: {path}")),
    };
    let Some(entry) = find(node, namespace, pod) else {
        return text(StatusCode::NOT_FOUND, format!("pod {pod:?} in namespace {namespace:?} is not on this node"));
    };
    let query: Vec<(String, String)> = parse_query(request.uri().query().unwrap_or_default());
    match (what, request.method()) {
        ("containerLogs", &Method::GET) => container_logs(node, &entry, container, &query),
        ("exec", &Method::GET | &Method::POST) => interactive::exec(&entry, container, &query, request).map(full),
        ("attach", &Method::GET | &Method::POST) => interactive::attach(&entry, container, &query, request).map(full),
        ("portForward", &Method::GET | &Method::POST) => port_forward::serve(node, &entry, &query, request).map(full),
        _ => text(StatusCode::NOT_FOUND, format!("no such path: {path}")),
    }
}

/// Of two pods of one name, the one the API has.
fn find(node: &Node, namespace: &str, name: &str) -> Option<Arc<Entry>> {
    let mut all = node.registry.named(namespace, name);
    all.sort_by_key(|e| e.object.borrow().is_some());
    all.pop()
}

fn full(body: String) -> Body {
    Full::new(Bytes::from(body)).map_err(|e| match e {}).boxed()
}

/// A refusal, as a Status: clients show its message.
pub(crate) fn plain(code: StatusCode, message: String) -> Response<String> {
    let reason = match code {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::INTERNAL_SERVER_ERROR => "InternalError",
        _ => "",
    };
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code.as_u16(),
    });
    let mut response = Response::new(status.to_string());
    *response.status_mut() = code;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn text(code: StatusCode, message: String) -> Response<Body> {
    plain(code, message).map(full)
}

/// `a=1&a=2&b`, decoded, in order.
pub(crate) fn parse_query(query: &str) -> Vec<(String, String)> {
    let decode = |s: &str| percent_encoding::percent_decode_str(&s.replace('+', " ")).decode_utf8_lossy().into_owned();
    query.split('&').filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap_or((p, ""))).map(|(k, v)| (decode(k), decode(v))).collect()
}

pub(crate) fn get<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
}

pub(crate) fn flag(query: &[(String, String)], name: &str) -> bool {
    matches!(get(query, name), Some("true" | "1"))
}

fn container_logs(node: &Arc<Node>, entry: &Arc<Entry>, container: &str, query: &[(String, String)]) -> Response<Body> {
    let options = match options(query) {
        Ok(options) => options,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let view = entry.view();
    let attempt = match run_to_show(&view, &entry.pod.name, container, flag(query, "previous")) {
        Ok(attempt) => attempt,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let path = Paths::new(&node.config, &entry.pod).log(container, attempt);
    let (sender, receiver) = mpsc::channel(CHUNKS_LIMIT);
    let ended = run_ended(entry.clone(), container.to_owned(), attempt);
    tokio::spawn(logs::send(path, options, sender, ended));
    let stream = futures::stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(stream.map(|item| item.map(Frame::data)))));
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    response
}

fn options(query: &[(String, String)]) -> Result<Options, String> {
    let number = |name: &str| -> Result<Option<i64>, String> {
        get(query, name).filter(|v| !v.is_empty()).map(|v| v.parse::<i64>().map_err(|_| format!("{name}: {v:?} is no number"))).transpose()
    };
    let since = match (number("sinceSeconds")?, get(query, "sinceTime").filter(|t| !t.is_empty())) {
        (Some(seconds), _) => jiff::Timestamp::now().checked_sub(jiff::SignedDuration::from_secs(seconds)).ok(),
        (None, Some(time)) => Some(time.parse::<jiff::Timestamp>().map_err(|e| format!("sinceTime: {e}"))?),
        (None, None) => None,
    };
    Ok(Options {
        follow: flag(query, "follow"),
        timestamps: flag(query, "timestamps"),
        tail_lines: number("tailLines")?.and_then(|n| usize::try_from(n).ok()),
        limit_bytes: number("limitBytes")?.and_then(|n| usize::try_from(n).ok()),
        since: since.map(|t| t.strftime("%Y-%m-%dT%H:%M:%S%.9fZ").to_string()),
        stream: match get(query, "stream") {
            Some("Stdout") => Some("stdout".into()),
            Some("Stderr") => Some("stderr".into()),
            _ => None,
        },
    })
}

/// Upstream: `validateContainerLogStatus` (pkg/kubelet/kubelet_pods.go).
fn run_to_show(view: &View, pod: &str, name: &str, previous: bool) -> Result<u32, String> {
    if crate::pod::reference::container(&view.pod, name).is_none() {
        return Err(format!("container {name:?} in pod {pod:?} is not available"));
    }
    let Some(known) = view.state.container(name) else {
        return Err(waiting(pod, name, "ContainerCreating"));
    };
    let last = known.last.as_ref().map(|l| l.attempt);
    if previous {
        return last.ok_or_else(|| format!("previous terminated container {name:?} in pod {pod:?} not found"));
    }
    match &known.phase {
        Phase::Running(_) => Ok(known.attempt),
        Phase::Exited(ended) => Ok(ended.attempt),
        Phase::Waiting { reason, .. } => last.ok_or_else(|| match reason.as_str() {
            "ErrImagePull" => waiting(pod, name, "image can't be pulled"),
            "ImagePullBackOff" => waiting(pod, name, "trying and failing to pull image"),
            "" => waiting(pod, name, if crate::pod::reference::init_containers(&view.pod).is_empty() { "ContainerCreating" } else { "PodInitializing" }),
            other => waiting(pod, name, other),
        }),
        _ => last.ok_or_else(|| waiting(pod, name, "ContainerCreating")),
    }
}

fn waiting(pod: &str, container: &str, why: &str) -> String {
    format!("container {container:?} in pod {pod:?} is waiting to start: {why}")
}

/// Resolves when the run is over.
async fn run_ended(entry: Arc<Entry>, container: String, attempt: u32) {
    let mut changed = entry.changed.subscribe();
    loop {
        changed.borrow_and_update();
        let runs = |state: &State| state.container(&container).is_some_and(|k| k.attempt == attempt && k.running().is_some());
        if !runs(&entry.view().state) || changed.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_may_repeat_a_name() {
        let query = parse_query("command=sh&command=-c&command=echo+a%26b&tty=true&x");
        let commands: Vec<&str> = query.iter().filter(|(k, _)| k == "command").map(|(_, v)| v.as_str()).collect();
        assert_eq!(commands, ["sh", "-c", "echo a&b"]);
        assert!(flag(&query, "tty") && !flag(&query, "x"));
    }

    #[test]
    fn since_becomes_the_logs_own_time() {
        let made = options(&parse_query("sinceTime=2026-01-01T00:00:00Z&tailLines=3")).unwrap();
        assert_eq!(made.since.as_deref(), Some("2026-01-01T00:00:00.000000000Z"));
        assert_eq!(made.tail_lines, Some(3));
        assert_eq!(options(&parse_query("tailLines=x")), Err("tailLines: \"x\" is no number".into()));
    }
}
