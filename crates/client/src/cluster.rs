//! The handle on the cluster.

use crate::informer::Informer;
use crate::{Cache, Error, Recorder, Resource};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::BodyExt;
use k8s_openapi::api::{apps::v1 as apps, batch::v1 as batch, coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery, storage::v1 as storage};
use kube::client::Body;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// No request but a watch may take longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer taken in: a page of 500 objects of 128 KiB.
const ANSWER_LIMIT_BYTES: usize = 64 << 20;

/// How a patch is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own: lists merge by key.
    Strategic,
}

impl PatchKind {
    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
        }
    }
}

/// A name as one segment of a path: everything but unreserved characters percent-encoded. Owner references may hold any text.
pub fn encode_segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => encoded.push(char::from(byte)),
            // `.` and `..` alone would be path segments of their own.
            b'.' if text != "." && text != ".." => encoded.push('.'),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize, Default)]
struct Left {
    #[serde(default)]
    metadata: LeftMeta,
}

#[derive(Deserialize, Default)]
struct LeftMeta {
    #[serde(default, rename = "resourceVersion")]
    resource_version: Option<String>,
}

/// Says what is being done; asked for only when something goes wrong.
pub(crate) type Doing<'a> = &'a (dyn Fn() -> String + Sync);

/// Requests as bytes: what typed requests, plain ones and informers share.
#[derive(Clone)]
pub(crate) struct Transport {
    client: kube::Client,
    component: &'static str,
}

impl Transport {
    async fn send(&self, doing: Doing<'_>, method: Method, path: &str, content_type: Option<&str>, body: Vec<u8>) -> Result<Response<Body>, Error> {
        let mut request = Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json").header(header::USER_AGENT, self.component);
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let transport = |source| Error::Transport { doing: doing(), source };
        let request = request.body(Body::from(body)).map_err(|error| transport(kube::Error::HttpError(error)))?;
        let sending = tokio::time::timeout(REQUEST_TIMEOUT, self.client.send(request));
        sending.await.unwrap_or_else(|_| Err(timed_out())).map_err(transport)
    }

    async fn collect(&self, doing: Doing<'_>, response: Response<Body>) -> Result<Bytes, Error> {
        let body = http_body_util::Limited::new(response.into_body(), ANSWER_LIMIT_BYTES);
        match tokio::time::timeout(REQUEST_TIMEOUT, body.collect()).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(source)) => Err(Error::Transport { doing: doing(), source: kube::Error::Service(source) }),
            Err(_) => Err(Error::Transport { doing: doing(), source: timed_out() }),
        }
    }

    async fn refuse(&self, doing: Doing<'_>, response: Response<Body>) -> Error {
        let code = response.status().as_u16();
        let bytes = match self.collect(doing, response).await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        let status: Status = serde_json::from_slice(&bytes).unwrap_or_default();
        let message = status.message.unwrap_or_else(|| format!("HTTP status {code}"));
        Error::Api { doing: doing(), code, reason: status.reason.unwrap_or_default(), message }
    }

    /// The name under which it asks.
    pub(crate) fn component(&self) -> &'static str {
        self.component
    }

    /// One request, its whole answer.
    pub(crate) async fn call(&self, doing: Doing<'_>, method: Method, path: &str, content_type: Option<&str>, body: Vec<u8>) -> Result<Bytes, Error> {
        let response = self.send(doing, method, path, content_type, body).await?;
        if !response.status().is_success() {
            return Err(self.refuse(doing, response).await);
        }
        self.collect(doing, response).await
    }

    /// A request whose answer is read as it comes.
    pub(crate) async fn open(&self, doing: Doing<'_>, method: Method, path: &str) -> Result<Response<Body>, Error> {
        let response = self.send(doing, method, path, None, Vec::new()).await?;
        if !response.status().is_success() {
            return Err(self.refuse(doing, response).await);
        }
        Ok(response)
    }
}

fn timed_out() -> kube::Error {
    kube::Error::Service(Box::new(std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()))))
}

fn path_of<K: Resource>(namespace: &str, name: Option<&str>, subresource: Option<&str>) -> String {
    let mut path = String::with_capacity(96);
    path.push_str(K::PREFIX);
    if K::NAMESPACED {
        path.push_str("/namespaces/");
        path.push_str(&encode_segment(namespace));
    }
    path.push('/');
    path.push_str(K::PLURAL);
    for segment in [name, subresource].into_iter().flatten() {
        path.push('/');
        path.push_str(&encode_segment(segment));
    }
    path
}

/// The cluster, for everyone who is not the server. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
    transport: Transport,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("component", &self.transport.component).finish_non_exhaustive()
    }
}

struct Inner {
    caches: Caches,
    recorders: Mutex<BTreeMap<&'static str, Recorder>>,
}

impl Cluster {
    /// Over any `kube::Client`; `component` is the field manager and event source (`statefulset-controller`).
    pub fn new(client: kube::Client, component: &'static str) -> Self {
        let inner = Inner { caches: Caches::default(), recorders: Mutex::default() };
        Self { inner: Arc::new(inner), transport: Transport { client, component } }
    }
    /// The same caches under another component's name.
    pub fn named(&self, component: &'static str) -> Self {
        Self { inner: self.inner.clone(), transport: Transport { client: self.transport.client.clone(), component } }
    }
    /// The client underneath.
    pub fn client(&self) -> &kube::Client {
        &self.transport.client
    }
    /// The name under which this handle writes.
    pub fn component(&self) -> &'static str {
        self.transport.component
    }
    /// Writes events as this component, counting repeats. One queue a component. Needs a tokio runtime.
    pub fn recorder(&self) -> Recorder {
        let mut recorders = self.inner.recorders.lock();
        recorders.entry(self.transport.component).or_insert_with(|| Recorder::start(self.transport.clone())).clone()
    }

    async fn typed<K: Resource>(&self, verb: &'static str, method: Method, path: String, content_type: &str, body: Vec<u8>) -> Result<K, Error> {
        let doing = || describe(verb, &path);
        let path = if method == Method::GET { path.clone() } else { format!("{path}?fieldManager={}", self.transport.component) };
        let content_type = (!body.is_empty()).then_some(content_type);
        let bytes = self.transport.call(&doing, method, &path, content_type, body).await?;
        K::decode(&bytes).map_err(|source| Error::Decode { doing: doing(), source })
    }

    /// GET.
    pub async fn get<K: Resource>(&self, namespace: &str, name: &str) -> Result<K, Error> {
        self.typed("get", Method::GET, path_of::<K>(namespace, Some(name), None), "", Vec::new()).await
    }
    /// POST.
    pub async fn create<K: Resource>(&self, object: &K) -> Result<K, Error> {
        let path = path_of::<K>(object.metadata().namespace.as_deref().unwrap_or_default(), None, None);
        self.typed("create", Method::POST, path, JSON, object.encode()).await
    }
    /// PUT; the object's resourceVersion, if set, must still be the current one.
    pub async fn update<K: Resource>(&self, object: &K) -> Result<K, Error> {
        self.put(object, None).await
    }
    /// PUT to `/status`.
    pub async fn update_status<K: Resource>(&self, object: &K) -> Result<K, Error> {
        self.put(object, Some("status")).await
    }
    async fn put<K: Resource>(&self, object: &K, subresource: Option<&str>) -> Result<K, Error> {
        let metadata = object.metadata();
        let path = path_of::<K>(metadata.namespace.as_deref().unwrap_or_default(), Some(metadata.name.as_deref().unwrap_or_default()), subresource);
        self.typed("update", Method::PUT, path, JSON, object.encode()).await
    }
    /// Merge patch, of the object or of a subresource (`Some("status")`).
    pub async fn merge_patch<K: Resource>(&self, namespace: &str, name: &str, subresource: Option<&str>, patch: &Value) -> Result<K, Error> {
        self.patch(PatchKind::Merge, namespace, name, subresource, patch).await
    }
    /// A patch of any kind, of the object or of a subresource.
    pub async fn patch<K: Resource>(&self, kind: PatchKind, namespace: &str, name: &str, subresource: Option<&str>, patch: &Value) -> Result<K, Error> {
        let path = path_of::<K>(namespace, Some(name), subresource);
        self.typed("patch", Method::PATCH, path, kind.content_type(), patch.to_string().into_bytes()).await
    }
    /// DELETE, with DeleteOptions (`{"gracePeriodSeconds":0,"preconditions":{"uid":…}}`).
    pub async fn delete<K: Resource>(&self, namespace: &str, name: &str, options: &Value) -> Result<(), Error> {
        self.delete_returning::<K>(namespace, name, options).await.map(|_| ())
    }
    /// DELETE; answers with the resourceVersion of the state it left, where the server says it, for [`Cache::reached`].
    pub async fn delete_returning<K: Resource>(&self, namespace: &str, name: &str, options: &Value) -> Result<Option<String>, Error> {
        let path = path_of::<K>(namespace, Some(name), None);
        let body = if options.is_null() { Vec::new() } else { options.to_string().into_bytes() };
        let content_type = (!body.is_empty()).then_some(JSON);
        let answer = self.transport.call(&|| describe("delete", &path), Method::DELETE, &path, content_type, body).await?;
        let left: Left = serde_json::from_slice(&answer).unwrap_or_default();
        Ok(left.metadata.resource_version)
    }
    /// POST to a subresource; answers with its body.
    pub async fn post_subresource<K: Resource>(&self, namespace: &str, name: &str, subresource: &str, body: &Value) -> Result<Value, Error> {
        self.request(Method::POST, &path_of::<K>(namespace, Some(name), Some(subresource)), Some(body)).await
    }
    /// Any request, for kinds that are not typed here. `path` with its query; names in it through [`encode_segment`]. A PATCH is a merge patch.
    pub async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        let kind = if method == Method::PATCH { PatchKind::Merge.content_type() } else { JSON };
        self.request_as(method, path, kind, body).await
    }
    /// A PATCH of any kind, of anything.
    pub async fn request_patch(&self, kind: PatchKind, path: &str, patch: &Value) -> Result<Value, Error> {
        self.request_as(Method::PATCH, path, kind.content_type(), Some(patch)).await
    }
    async fn request_as(&self, method: Method, path: &str, content_type: &str, body: Option<&Value>) -> Result<Value, Error> {
        let verb = method.as_str().to_ascii_lowercase();
        let doing = || describe(&verb, path);
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let content_type = (!bytes.is_empty()).then_some(content_type);
        let answer = self.transport.call(&doing, method, path, content_type, bytes).await?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer).map_err(|source| Error::Decode { doing: doing(), source })
    }
}

const JSON: &str = "application/json";

/// `create pods default/web-0` from a path of the API.
fn describe(verb: &str, path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let mut segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let skip = if segments.first() == Some(&"api") { 2 } else { 3 };
    segments.drain(..skip.min(segments.len()));
    match segments.as_slice() {
        ["namespaces", namespace, plural, rest @ ..] if *plural != "status" && *plural != "finalize" => {
            let name = rest.first().map(|name| format!("/{name}")).unwrap_or_default();
            let subresource = rest.get(1).map(|sub| format!("/{sub}")).unwrap_or_default();
            format!("{verb} {plural}{subresource} {namespace}{name}")
        }
        [plural, name, subresource] => format!("{verb} {plural}/{subresource} {name}"),
        other => format!("{verb} {}", other.join(" ")),
    }
}

macro_rules! caches {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        #[derive(Default)]
        struct Caches {
            $($name: OnceLock<Cache<$type>>,)*
        }

        /// The caches. The informer of a kind starts on first use; that needs a tokio runtime.
        impl Cluster {
            $($(#[$doc])*
            pub fn $name(&self) -> Cache<$type> {
                let start = || Cache::start(|store| Informer::new(self.transport.clone(), store).run());
                self.inner.caches.$name.get_or_init(start).clone()
            })*
        }
    };
}

caches! {
    /// Pods.
    pods: core::Pod,
    /// Services.
    services: core::Service,
    /// EndpointSlices.
    endpoint_slices: discovery::EndpointSlice,
    /// Endpoints.
    endpoints: core::Endpoints,
    /// ConfigMaps.
    config_maps: core::ConfigMap,
    /// Secrets.
    secrets: core::Secret,
    /// ServiceAccounts.
    service_accounts: core::ServiceAccount,
    /// Namespaces.
    namespaces: core::Namespace,
    /// Nodes.
    nodes: core::Node,
    /// Volumes.
    persistent_volumes: core::PersistentVolume,
    /// Claims.
    persistent_volume_claims: core::PersistentVolumeClaim,
    /// Classes.
    storage_classes: storage::StorageClass,
    /// StatefulSets.
    stateful_sets: apps::StatefulSet,
    /// Deployments.
    deployments: apps::Deployment,
    /// ReplicaSets.
    replica_sets: apps::ReplicaSet,
    /// Jobs.
    jobs: batch::Job,
    /// CronJobs.
    cron_jobs: batch::CronJob,
    /// ControllerRevisions.
    controller_revisions: apps::ControllerRevision,
    /// Leases.
    leases: coordination::Lease,
}

/// A shared typed object.
pub type Shared<K> = Arc<K>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_was_being_done_to_what() {
        for (path, expected) in [
            ("/api/v1/namespaces/default/pods/web-0?fieldManager=x", "get pods default/web-0"),
            ("/api/v1/namespaces/default/pods/web-0/status", "get pods/status default/web-0"),
            ("/apis/apps/v1/namespaces/default/statefulsets", "get statefulsets default"),
            ("/api/v1/nodes/n1", "get nodes n1"),
            ("/api/v1/namespaces/default", "get namespaces default"),
            ("/api/v1/namespaces/default/finalize", "get namespaces/finalize default"),
        ] {
            assert_eq!(describe("get", path), expected);
        }
    }

    #[test]
    fn a_name_stays_one_segment_of_a_path() {
        for (name, expected) in [("web-0", "web-0"), ("a.b", "a.b"), ("..", "%2E%2E"), ("a/../b?c", "a%2F..%2Fb%3Fc"), ("system:x", "system%3Ax")] {
            assert_eq!(encode_segment(name), expected);
        }
    }
}
