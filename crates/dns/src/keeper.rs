//! The caches' changes into the zone, as they come: an entry is rebuilt from its service and its slices alone.

use crate::zone::{SharedZone, entry};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use mainstay_client::{Cache, Change, Cluster, Delta};
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::sync::broadcast::{Receiver, error::RecvError};

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Namespace and name of a service.
type Key = (String, String);

/// Keeps the zone.
pub(crate) struct Keeper {
    zone: SharedZone,
    services: Cache<Service>,
    slices: Cache<EndpointSlice>,
    pods: Cache<Pod>,
    service_changes: Receiver<Change>,
    slice_changes: Receiver<Delta<EndpointSlice>>,
    pod_changes: Receiver<Delta<Pod>>,
    by_service: HashMap<Key, BTreeMap<String, Arc<EndpointSlice>>>,
    /// Which address of a pod the zone has: a change may be told that the zone was built with already.
    by_pod: HashMap<Key, Ipv4Addr>,
}

impl Keeper {
    /// Returns when the zone holds all that the cluster has.
    pub(crate) async fn start(cluster: &Cluster, zone: SharedZone) -> Self {
        let (services, slices, pods) = (cluster.services(), cluster.endpoint_slices(), cluster.pods());
        let (service_changes, slice_changes, pod_changes) = (services.subscribe(), slices.follow(), pods.follow());
        tokio::join!(services.synced(), slices.synced(), pods.synced());
        let mut keeper = Self { zone, services, slices, pods, service_changes, slice_changes, pod_changes, by_service: HashMap::new(), by_pod: HashMap::new() };
        keeper.rebuild();
        keeper
    }

    /// Until a cache ends.
    pub(crate) async fn keep(mut self) {
        loop {
            let lagged = tokio::select! {
                biased;
                change = self.slice_changes.recv() => match change {
                    Ok(delta) => self.slice(&delta),
                    Err(e) => Err(e),
                },
                change = self.service_changes.recv() => match change {
                    Ok(change) => {
                        self.refresh(&(change.namespace.to_string(), change.name.to_string()));
                        Ok(())
                    }
                    Err(e) => Err(e),
                },
                change = self.pod_changes.recv() => match change {
                    Ok(delta) => {
                        self.pod(&delta);
                        Ok(())
                    }
                    Err(e) => Err(e),
                },
            };
            match lagged {
                Ok(()) => {}
                Err(RecvError::Lagged(missed)) => {
                    tracing::info!(missed, "many changes at once: the zone is read anew");
                    self.rebuild();
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn slice(&mut self, delta: &Delta<EndpointSlice>) -> Result<(), RecvError> {
        let old = delta.old.as_deref().and_then(service_of);
        let new = delta.new.as_deref().and_then(service_of);
        if let Some(key) = &old {
            let name = delta.old.as_ref().and_then(|s| s.metadata.name.clone()).unwrap_or_default();
            if let Some(slices) = self.by_service.get_mut(key) {
                slices.remove(&name);
                if slices.is_empty() {
                    self.by_service.remove(key);
                }
            }
        }
        if let (Some(key), Some(slice)) = (&new, &delta.new) {
            self.by_service.entry(key.clone()).or_default().insert(slice.metadata.name.clone().unwrap_or_default(), slice.clone());
        }
        if let Some(key) = old.as_ref().filter(|old| Some(*old) != new.as_ref()) {
            self.refresh(key);
        }
        if let Some(key) = &new {
            self.refresh(key);
        }
        Ok(())
    }

    fn pod(&mut self, delta: &Delta<Pod>) {
        let Some(pod) = delta.newest() else { return };
        let key = (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default());
        let old = self.by_pod.get(&key).copied();
        let new = delta.new.as_deref().and_then(address_of);
        if old == new {
            return;
        }
        let mut zone = self.zone.write();
        if let Some(address) = old {
            zone.set_pod(&key.0, address, false);
            self.by_pod.remove(&key);
        }
        if let Some(address) = new {
            zone.set_pod(&key.0, address, true);
            self.by_pod.insert(key, address);
        }
    }

    fn refresh(&self, key: &Key) {
        let service = self.services.get(&key.0, &key.1);
        let fresh = service.and_then(|s| entry(&s, self.by_service.get(key).into_iter().flat_map(|m| m.values().map(Arc::as_ref))));
        self.zone.write().set_service(&key.0, &key.1, fresh);
    }

    /// From the caches as they are. What is still queued describes states at or before theirs, or comes again.
    fn rebuild(&mut self) {
        self.slice_changes = self.slices.follow();
        self.pod_changes = self.pods.follow();
        self.service_changes = self.services.subscribe();
        self.by_service.clear();
        for slice in self.slices.list() {
            if let Some(key) = service_of(&slice) {
                self.by_service.entry(key).or_default().insert(slice.metadata.name.clone().unwrap_or_default(), slice);
            }
        }
        let mut zone = self.zone.write();
        zone.clear();
        for service in self.services.list() {
            let key = (service.metadata.namespace.clone().unwrap_or_default(), service.metadata.name.clone().unwrap_or_default());
            let slices = self.by_service.get(&key).into_iter().flat_map(|m| m.values().map(Arc::as_ref));
            zone.set_service(&key.0, &key.1, entry(&service, slices));
        }
        self.by_pod.clear();
        for pod in self.pods.list() {
            if let Some(address) = address_of(&pod) {
                let key = (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default());
                zone.set_pod(&key.0, address, true);
                self.by_pod.insert(key, address);
            }
        }
    }
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_LABEL)?;
    Some((slice.metadata.namespace.clone().unwrap_or_default(), service.clone()))
}

/// Where a pod that has not ended is.
fn address_of(pod: &Pod) -> Option<Ipv4Addr> {
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    status.pod_ip.as_deref()?.parse().ok()
}
