//! The handle on the cluster.

use crate::{Cache, Recorder};
use k8s_openapi::api::{apps::v1 as apps, coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery, storage::v1 as storage};
use serde_json::Value;
use std::sync::Arc;

/// What went wrong, as the API said it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A Status from the server: its code, reason and message.
    #[error("{doing}: {message}")]
    Api {
        /// `create pods default/web-0`.
        doing: String,
        /// 404, 409, …
        code: u16,
        /// `NotFound`, `AlreadyExists`, `Conflict`, …
        reason: String,
        /// The server's words.
        message: String,
    },
    /// No answer.
    #[error("{doing}: {source}")]
    Transport {
        /// What was being done.
        doing: String,
        /// Why not.
        source: kube::Error,
    },
}

impl Error {
    /// 404.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { code: 404, .. })
    }
    /// 409 because it is there already.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::Api { code: 409, reason, .. } if reason == "AlreadyExists")
    }
    /// 409 because it has changed.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { code: 409, reason, .. } if reason == "Conflict")
    }
}

/// A typed kind that can be read and written; implemented in this crate for every kind that a component writes, so that its
/// (de)serialization is compiled once, here.
pub trait Resource: Sized + Send + Sync + 'static {
    /// `/api/v1` or `/apis/<group>/<version>`.
    const PREFIX: &'static str;
    /// `pods`.
    const PLURAL: &'static str;
    /// Namespaced or not.
    const NAMESPACED: bool;
    /// Its metadata.
    fn metadata(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    /// As JSON, `apiVersion` and `kind` included.
    fn encode(&self) -> Vec<u8>;
    /// From JSON.
    fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error>;
}

/// The cluster, for everyone who is not the server. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {}

impl Cluster {
    /// Over any `kube::Client`; `component` is the field manager and event source (`statefulset-controller`).
    pub fn new(_client: kube::Client, _component: &'static str) -> Self {
        todo!()
    }
    /// The same caches under another component's name.
    pub fn named(&self, _component: &'static str) -> Self {
        todo!()
    }
    /// The client underneath.
    pub fn client(&self) -> &kube::Client {
        todo!()
    }
    /// Writes events as this component, counting repeats.
    pub fn recorder(&self) -> Recorder {
        todo!()
    }

    /// GET.
    pub async fn get<K: Resource>(&self, _namespace: &str, _name: &str) -> Result<K, Error> {
        todo!()
    }
    /// POST.
    pub async fn create<K: Resource>(&self, _object: &K) -> Result<K, Error> {
        todo!()
    }
    /// PUT; the object's resourceVersion, if set, must still be the current one.
    pub async fn update<K: Resource>(&self, _object: &K) -> Result<K, Error> {
        todo!()
    }
    /// PUT to `/status`.
    pub async fn update_status<K: Resource>(&self, _object: &K) -> Result<K, Error> {
        todo!()
    }
    /// Merge patch, of the object or of a subresource (`Some("status")`).
    pub async fn merge_patch<K: Resource>(&self, _namespace: &str, _name: &str, _subresource: Option<&str>, _patch: &Value) -> Result<K, Error> {
        todo!()
    }
    /// DELETE, with DeleteOptions (`{"gracePeriodSeconds":0,"preconditions":{"uid":…}}`).
    pub async fn delete<K: Resource>(&self, _namespace: &str, _name: &str, _options: &Value) -> Result<(), Error> {
        todo!()
    }
    /// POST to a subresource; answers with its body.
    pub async fn post_subresource<K: Resource>(&self, _namespace: &str, _name: &str, _subresource: &str, _body: &Value) -> Result<Value, Error> {
        todo!()
    }

    /// Pods. Starts the informer on first use, as do the others.
    pub fn pods(&self) -> Cache<core::Pod> {
        todo!()
    }
    /// Services.
    pub fn services(&self) -> Cache<core::Service> {
        todo!()
    }
    /// EndpointSlices.
    pub fn endpoint_slices(&self) -> Cache<discovery::EndpointSlice> {
        todo!()
    }
    /// Endpoints.
    pub fn endpoints(&self) -> Cache<core::Endpoints> {
        todo!()
    }
    /// ConfigMaps.
    pub fn config_maps(&self) -> Cache<core::ConfigMap> {
        todo!()
    }
    /// Secrets.
    pub fn secrets(&self) -> Cache<core::Secret> {
        todo!()
    }
    /// ServiceAccounts.
    pub fn service_accounts(&self) -> Cache<core::ServiceAccount> {
        todo!()
    }
    /// Namespaces.
    pub fn namespaces(&self) -> Cache<core::Namespace> {
        todo!()
    }
    /// Nodes.
    pub fn nodes(&self) -> Cache<core::Node> {
        todo!()
    }
    /// Volumes.
    pub fn persistent_volumes(&self) -> Cache<core::PersistentVolume> {
        todo!()
    }
    /// Claims.
    pub fn persistent_volume_claims(&self) -> Cache<core::PersistentVolumeClaim> {
        todo!()
    }
    /// Classes.
    pub fn storage_classes(&self) -> Cache<storage::StorageClass> {
        todo!()
    }
    /// StatefulSets.
    pub fn stateful_sets(&self) -> Cache<apps::StatefulSet> {
        todo!()
    }
    /// ControllerRevisions.
    pub fn controller_revisions(&self) -> Cache<apps::ControllerRevision> {
        todo!()
    }
    /// Leases.
    pub fn leases(&self) -> Cache<coordination::Lease> {
        todo!()
    }
}

/// A shared typed object.
pub type Shared<K> = Arc<K>;
