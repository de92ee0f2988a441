//! Nodes, their pods and what is free, at one moment.

use crate::resources::{Amounts, HostPort, add, amounts, host_ports, of_pod};
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use mainstay_client::Cache;
use mainstay_client::selector::Labels;
use std::sync::Arc;

/// One node with what runs on it, and what has been assigned to it but is not yet seen there.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) node: Arc<Node>,
    pub(crate) pods: Vec<Arc<Pod>>,
    pub(crate) allocatable: Amounts,
    pub(crate) used: Amounts,
    pub(crate) ports: Vec<HostPort>,
}

/// All that a decision may look at.
#[derive(Clone)]
pub(crate) struct View {
    /// By name.
    pub(crate) places: Vec<Place>,
    pub(crate) things: Things,
}

/// What is read by name only.
#[derive(Clone)]
pub(crate) enum Things {
    /// The caches.
    Live { namespaces: Cache<Namespace>, claims: Cache<PersistentVolumeClaim>, volumes: Cache<PersistentVolume>, classes: Cache<StorageClass> },
    /// Lists, for tests of the pure parts.
    #[cfg(test)]
    Listed { claims: Vec<Arc<PersistentVolumeClaim>>, volumes: Vec<Arc<PersistentVolume>>, classes: Vec<Arc<StorageClass>> },
}

#[cfg(test)]
fn named<K: mainstay_client::Resource>(list: &[Arc<K>], name: &str) -> Option<Arc<K>> {
    list.iter().find(|one| one.metadata().name.as_deref() == Some(name)).cloned()
}

impl Things {
    pub(crate) fn namespace_labels(&self, namespace: &str) -> Option<Labels> {
        match self {
            Self::Live { namespaces, .. } => namespaces.get("", namespace).and_then(|namespace| namespace.metadata.labels.clone()),
            #[cfg(test)]
            Self::Listed { .. } => Some(Labels::from([("kubernetes.io/metadata.name".to_owned(), namespace.to_owned())])),
        }
    }
    pub(crate) fn claim(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        match self {
            Self::Live { claims, .. } => claims.get(namespace, name),
            #[cfg(test)]
            Self::Listed { claims, .. } => named(claims, name),
        }
    }
    pub(crate) fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        match self {
            Self::Live { volumes, .. } => volumes.get("", name),
            #[cfg(test)]
            Self::Listed { volumes, .. } => named(volumes, name),
        }
    }
    pub(crate) fn volumes(&self) -> Vec<Arc<PersistentVolume>> {
        match self {
            Self::Live { volumes, .. } => volumes.list(),
            #[cfg(test)]
            Self::Listed { volumes, .. } => volumes.clone(),
        }
    }
    pub(crate) fn class(&self, name: &str) -> Option<Arc<StorageClass>> {
        match self {
            Self::Live { classes, .. } => classes.get("", name),
            #[cfg(test)]
            Self::Listed { classes, .. } => named(classes, name),
        }
    }
}

/// Ended pods hold nothing.
pub(crate) fn has_ended(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Failed" | "Succeeded"))
}

/// `metadata.name`, or nothing.
pub(crate) fn node_name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

impl Place {
    /// A node and its pods; those that have ended are left out.
    pub(crate) fn new(node: Arc<Node>, pods: impl IntoIterator<Item = Arc<Pod>>) -> Self {
        let allocatable = amounts(node.status.as_ref().and_then(|status| status.allocatable.as_ref()));
        let mut place = Self { node, pods: Vec::new(), allocatable, used: Amounts::new(), ports: Vec::new() };
        pods.into_iter().for_each(|pod| place.put(pod));
        place
    }

    /// Counts one more pod.
    pub(crate) fn put(&mut self, pod: Arc<Pod>) {
        if has_ended(&pod) {
            return;
        }
        add(&mut self.used, &of_pod(&pod));
        self.ports.extend(host_ports(&pod));
        self.pods.push(pod);
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        node_name(&self.node)
    }

    /// A label of the node.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.node.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }
}
