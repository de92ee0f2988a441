//! EndpointSlices: for each service with a selector, its pods' addresses, ports and conditions.
//!
//! Promises: at most 100 endpoints a slice; an endpoint stays in its slice while it exists; a service always has a slice, if an empty one.
//! Upstream: pkg/controller/endpointslice and staging/src/k8s.io/endpointslice. Left out: topology hints, and the trigger time annotation.

mod step;

use crate::queue::Queue;
use crate::runner::{Group, Name, OwnWrites, feed, work};
use crate::services::{pods_of, services_of};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use mainstay_client::{Cache, Cluster, Delta, Error};
use std::sync::Arc;
use step::{MANAGED_BY, MANAGER, SERVICE_NAME, Write, step};

/// Services worked on at a time. Upstream: `--concurrent-service-endpoint-syncs=5`.
const WORKERS: usize = 8;

/// Runs the controller until the future is dropped.
pub async fn run(cluster: Cluster) {
    let cluster = cluster.named("endpoint-slice-controller");
    let carrier = Carrier { services: cluster.services(), pods: cluster.pods(), slices: cluster.endpoint_slices(), own: OwnWrites::default(), cluster };
    carrier.services.synced().await;
    carrier.pods.synced().await;
    carrier.slices.synced().await;
    let queue: Arc<Queue<Name>> = Arc::new(Queue::new());
    let mut group = Group::default();
    group.spawn(feed(carrier.services.clone(), queue.clone(), |change: &Delta<Service>, add: &mut dyn FnMut(Name)| {
        change.newest().into_iter().for_each(|service| add(Name::of(&**service)));
    }));
    let services = carrier.services.clone();
    group.spawn(feed(carrier.pods.clone(), queue.clone(), move |change: &Delta<Pod>, add: &mut dyn FnMut(Name)| {
        [&change.old, &change.new].into_iter().flatten().for_each(|pod| services_of(&services, pod, add));
    }));
    group.spawn(feed(carrier.slices.clone(), queue.clone(), |change: &Delta<EndpointSlice>, add: &mut dyn FnMut(Name)| {
        change.newest().into_iter().filter_map(|slice| service_of(slice)).for_each(add);
    }));
    let carrier = Arc::new(carrier);
    group.spawn(work("endpointslice", WORKERS, queue, move |name| {
        let carrier = carrier.clone();
        async move { carrier.sync(&name).await.map(|()| None) }
    }));
    group.wait().await;
}

/// The service of a slice that is this controller's.
fn service_of(slice: &EndpointSlice) -> Option<Name> {
    let labels = slice.metadata.labels.as_ref()?;
    let ours = labels.get(MANAGED_BY).map(String::as_str) == Some(MANAGER);
    labels.get(SERVICE_NAME).filter(|_| ours).map(|service| Name::new(slice.metadata.namespace.as_deref().unwrap_or_default(), service))
}

struct Carrier {
    cluster: Cluster,
    services: Cache<Service>,
    pods: Cache<Pod>,
    slices: Cache<EndpointSlice>,
    own: OwnWrites,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Api(#[from] Error),
    #[error("the cache has not yet seen what was written last")]
    Behind,
}

impl Carrier {
    async fn sync(&self, name: &Name) -> Result<(), Failure> {
        if !self.own.seen(&self.slices, name).await {
            return Err(Failure::Behind);
        }
        let Some(service) = self.services.get(&name.namespace, &name.name) else {
            self.own.forget(name);
            return self.remove_all(name).await;
        };
        let slices: Vec<_> = match service.metadata.uid.as_deref() {
            // An empty selector list of owners costs nothing: most services have one slice.
            Some(uid) => self.slices.owned_by(uid).into_iter().filter(|slice| service_of(slice).as_ref() == Some(name)).collect(),
            None => Vec::new(),
        };
        for write in step(&service, &pods_of(&self.pods, &service), &slices) {
            match write {
                Write::Create(slice) => self.own.note(name, &self.cluster.create(&*slice).await?.metadata),
                Write::Update(slice) => self.own.note(name, &self.cluster.update(&*slice).await?.metadata),
                Write::Delete(slice) => self.delete(name, &slice).await?,
            }
        }
        Ok(())
    }

    async fn remove_all(&self, name: &Name) -> Result<(), Failure> {
        for slice in self.slices.list_in(&name.namespace) {
            if service_of(&slice).as_ref() == Some(name) {
                self.delete(name, &slice).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, name: &Name, slice: &EndpointSlice) -> Result<(), Failure> {
        let options = serde_json::json!({ "preconditions": { "uid": slice.metadata.uid } });
        match self.cluster.delete_returning::<EndpointSlice>(&name.namespace, slice.metadata.name.as_deref().unwrap_or_default(), &options).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use mainstay_client::{Cluster, fake::Api};
    use serde_json::json;
    use std::time::{Duration, Instant};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_pod_that_becomes_ready_is_in_the_slice_at_once() {
        let api = Api::new();
        let cluster = Cluster::new(api.client(), "test");
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(super::run(cluster.clone()));
        tasks.spawn(crate::endpoints::run(cluster.clone()));
        let slices = cluster.endpoint_slices();
        let mut changes = slices.subscribe();
        slices.synced().await;
        let service = json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 80}]}});
        api.apply(Method::POST, "/api/v1/namespaces/default/services", &service).expect("created");
        let pod = json!({"metadata": {"name": "web-0", "labels": {"app": "web"}}, "spec": {"containers": [], "hostname": "web-0", "subdomain": "web"},
            "status": {"phase": "Running", "podIP": "10.0.0.1"}});
        api.apply(Method::POST, "/api/v1/namespaces/default/pods", &pod).expect("created");
        let ready = |slice: &k8s_openapi::api::discovery::v1::EndpointSlice| {
            slice.endpoints.iter().flatten().next().and_then(|endpoint| endpoint.conditions.as_ref()?.ready)
        };
        let mut until = async |wanted: bool| {
            while !slices.list().first().is_some_and(|slice| ready(slice) == Some(wanted)) {
                tokio::time::timeout(Duration::from_secs(20), changes.recv()).await.expect("in time").expect("told");
            }
        };
        until(false).await;
        let mut took = Vec::new();
        for round in 0..60 {
            let is = round % 2 == 0;
            let patch = json!({"status": {"conditions": [{"type": "Ready", "status": if is { "True" } else { "False" }}]}});
            let start = Instant::now();
            api.apply(Method::PATCH, "/api/v1/namespaces/default/pods/web-0", &patch).expect("patched");
            until(is).await;
            took.push(start.elapsed());
        }
        took.sort();
        println!("pod Ready to slice seen: median {:?}, worst {:?}", took[30], took[59]);
        assert!(took[30] < Duration::from_millis(20), "{:?}", took[30]);
        assert_eq!(slices.count(), 1);
        let deadline = Instant::now() + Duration::from_secs(20);
        let labels = || api.list("/api/v1", "endpoints").first().map(|endpoints| endpoints["metadata"]["labels"]["service.kubernetes.io/headless"].clone());
        while labels() != Some(json!("")) {
            assert!(Instant::now() < deadline);
            tokio::task::yield_now().await;
        }
        api.apply(Method::DELETE, "/api/v1/namespaces/default/services/web", &json!(null)).expect("deleted");
        while slices.count() > 0 || !api.list("/api/v1", "endpoints").is_empty() {
            assert!(Instant::now() < deadline);
            tokio::task::yield_now().await;
        }
    }
}
