//! The table of typed kinds.

use k8s_openapi::api::{apps::v1 as apps, batch::v1 as batch, coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery, storage::v1 as storage};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

/// A typed kind that can be read and written; implemented in this crate for every kind that a component writes, so that its
/// (de)serialization is compiled once, here.
pub trait Resource: Sized + Send + Sync + 'static {
    /// `v1`, `apps/v1`.
    const API_VERSION: &'static str;
    /// `Pod`.
    const KIND: &'static str;
    /// `/api/v1` or `/apis/<group>/<version>`.
    const PREFIX: &'static str;
    /// `pods`.
    const PLURAL: &'static str;
    /// Namespaced or not.
    const NAMESPACED: bool;
    /// Its metadata.
    fn metadata(&self) -> &ObjectMeta;
    /// Its metadata.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
    /// As JSON, `apiVersion` and `kind` included.
    fn encode(&self) -> Vec<u8>;
    /// From JSON.
    fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error>;
    /// The node it is bound to, for [`Cache::on_node`](crate::Cache::on_node).
    fn node_name(&self) -> Option<&str> {
        None
    }
    /// Lets go of what no reader of a shared cache needs: every object of the cluster is in one.
    fn trim(&mut self) {}
    /// As a JSON value with sorted keys.
    fn to_value(&self) -> Value {
        serde_json::from_slice(&self.encode()).unwrap_or(Value::Null)
    }
    /// From a JSON value.
    fn from_value(value: &Value) -> Result<Self, serde_json::Error> {
        Self::decode(&serde_json::to_vec(value)?)
    }
}

/// What events and claimRefs call an object.
pub fn reference<K: Resource>(object: &K) -> core::ObjectReference {
    let metadata = object.metadata();
    core::ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    }
}

/// The ConfigMap that the cache of ConfigMaps keeps with its data.
pub const ROOT_CA: &str = "kube-root-ca.crt";

macro_rules! resource {
    ($type:ty, $prefix:literal, $plural:literal, $namespaced:literal $(, node = $node:expr)? $(, trim = $trim:expr)?) => {
        impl Resource for $type {
            const API_VERSION: &'static str = <$type as k8s_openapi::Resource>::API_VERSION;
            const KIND: &'static str = <$type as k8s_openapi::Resource>::KIND;
            const PREFIX: &'static str = $prefix;
            const PLURAL: &'static str = $plural;
            const NAMESPACED: bool = $namespaced;
            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
            fn encode(&self) -> Vec<u8> {
                serde_json::to_vec(self).expect("the generated types have string keys and no failing serializer")
            }
            fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
                serde_json::from_slice(bytes)
            }
            $(fn node_name(&self) -> Option<&str> {
                let node: fn(&Self) -> Option<&str> = $node;
                node(self)
            })?
            $(fn trim(&mut self) {
                let trim: fn(&mut Self) = $trim;
                trim(self)
            })?
        }
    };
}

resource!(core::Pod, "/api/v1", "pods", true, node = |pod| pod.spec.as_ref()?.node_name.as_deref());
resource!(core::Service, "/api/v1", "services", true);
resource!(core::Endpoints, "/api/v1", "endpoints", true);
resource!(core::ConfigMap, "/api/v1", "configmaps", true, trim = |map| {
    // The one that every pod mounts is kept whole; of the others a pod's own are read when they are needed.
    if map.metadata.name.as_deref() != Some(ROOT_CA) {
        (map.data, map.binary_data) = (None, None);
    }
});
resource!(core::Secret, "/api/v1", "secrets", true, trim = |secret| secret.data = None);
resource!(core::ServiceAccount, "/api/v1", "serviceaccounts", true);
resource!(core::Namespace, "/api/v1", "namespaces", false);
resource!(core::Node, "/api/v1", "nodes", false);
resource!(core::PersistentVolume, "/api/v1", "persistentvolumes", false);
resource!(core::PersistentVolumeClaim, "/api/v1", "persistentvolumeclaims", true);
resource!(core::Event, "/api/v1", "events", true);
resource!(discovery::EndpointSlice, "/apis/discovery.k8s.io/v1", "endpointslices", true);
resource!(storage::StorageClass, "/apis/storage.k8s.io/v1", "storageclasses", false);
resource!(apps::StatefulSet, "/apis/apps/v1", "statefulsets", true);
resource!(apps::Deployment, "/apis/apps/v1", "deployments", true);
resource!(apps::ReplicaSet, "/apis/apps/v1", "replicasets", true);
resource!(batch::Job, "/apis/batch/v1", "jobs", true);
resource!(batch::CronJob, "/apis/batch/v1", "cronjobs", true);
resource!(apps::ControllerRevision, "/apis/apps/v1", "controllerrevisions", true);
resource!(coordination::Lease, "/apis/coordination.k8s.io/v1", "leases", true);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_item_without_kind_is_read_and_written_with_it() {
        let pod = core::Pod::decode(br#"{"metadata":{"name":"web-0","namespace":"default"},"spec":{"nodeName":"n","containers":[]}}"#).expect("a pod");
        assert_eq!(pod.node_name(), Some("n"));
        let value = pod.to_value();
        assert_eq!((&value["apiVersion"], &value["kind"]), (&"v1".into(), &"Pod".into()));
        assert_eq!(reference(&pod).name.as_deref(), Some("web-0"));
    }

    #[test]
    fn what_nobody_reads_from_a_cache_is_not_kept_there() {
        let map = |name: &str| {
            let mut map = core::ConfigMap::decode(format!(r#"{{"metadata":{{"name":"{name}"}},"data":{{"a":"b"}},"binaryData":{{"c":"AA=="}}}}"#).as_bytes()).expect("a map");
            map.trim();
            (map.data.is_some(), map.binary_data.is_some())
        };
        assert_eq!((map("settings"), map(ROOT_CA)), ((false, false), (true, true)));
        let mut secret = core::Secret::decode(br#"{"metadata":{"name":"s"},"type":"Opaque","data":{"a":"AA=="}}"#).expect("a secret");
        secret.trim();
        assert_eq!((secret.data, secret.type_.as_deref()), (None, Some("Opaque")));
    }
}
