//! Endpoints, the older form: one object a service, of the same name.
//!
//! Upstream: pkg/controller/endpoint/endpoints_controller.go. At most 1,000 addresses, as there.

use crate::queue::Queue;
use crate::runner::{Group, Name, OwnWrites, feed, work};
use crate::services::{HEADLESS, Port, address, hostname, is_headless, is_ready, pods_of, ports, publishes_not_ready, selector_of, services_of, target};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mainstay_client::{Cache, Cluster, Delta, Error};
use std::collections::BTreeMap;
use std::sync::Arc;

const WORKERS: usize = 8;
const ADDRESS_LIMIT: usize = 1_000;
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";

/// Runs the controller until the future is dropped.
pub async fn run(cluster: Cluster) {
    let cluster = cluster.named("endpoint-controller");
    let carrier = Carrier { services: cluster.services(), pods: cluster.pods(), endpoints: cluster.endpoints(), own: OwnWrites::default(), cluster };
    carrier.services.synced().await;
    carrier.pods.synced().await;
    carrier.endpoints.synced().await;
    let queue: Arc<Queue<Name>> = Arc::new(Queue::new());
    let mut group = Group::default();
    group.spawn(feed(carrier.services.clone(), queue.clone(), |change: &Delta<Service>, add: &mut dyn FnMut(Name)| {
        change.newest().into_iter().for_each(|service| add(Name::of(&**service)));
    }));
    let services = carrier.services.clone();
    group.spawn(feed(carrier.pods.clone(), queue.clone(), move |change: &Delta<Pod>, add: &mut dyn FnMut(Name)| {
        [&change.old, &change.new].into_iter().flatten().for_each(|pod| services_of(&services, pod, add));
    }));
    group.spawn(feed(carrier.endpoints.clone(), queue.clone(), |change: &Delta<Endpoints>, add: &mut dyn FnMut(Name)| {
        change.newest().into_iter().for_each(|endpoints| add(Name::of(&**endpoints)));
    }));
    let carrier = Arc::new(carrier);
    group.spawn(work("endpoints", WORKERS, queue, move |name| {
        let carrier = carrier.clone();
        async move { carrier.sync(&name).await.map(|()| None) }
    }));
    group.wait().await;
}

struct Carrier {
    cluster: Cluster,
    services: Cache<Service>,
    pods: Cache<Pod>,
    endpoints: Cache<Endpoints>,
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
        if !self.own.seen(&self.endpoints, name).await {
            return Err(Failure::Behind);
        }
        let live = self.endpoints.get(&name.namespace, &name.name);
        let Some(service) = self.services.get(&name.namespace, &name.name) else {
            self.own.forget(name);
            return match live {
                Some(live) if is_ours(&live) => self.remove(name, &live).await,
                _ => Ok(()),
            };
        };
        if selector_of(&service).is_none() || service.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let mut next = wanted(&service, &pods_of(&self.pods, &service));
        match live {
            None => self.own.note(name, &self.cluster.create(&next).await?.metadata),
            Some(live) if next.metadata.labels == live.metadata.labels && next.subsets.as_deref().unwrap_or_default() == live.subsets.as_deref().unwrap_or_default() => {}
            Some(live) => {
                let labels = next.metadata.labels.take();
                next.metadata = ObjectMeta { labels, ..live.metadata.clone() };
                self.own.note(name, &self.cluster.update(&next).await?.metadata);
            }
        }
        Ok(())
    }

    async fn remove(&self, name: &Name, live: &Endpoints) -> Result<(), Failure> {
        let options = serde_json::json!({ "preconditions": { "uid": live.metadata.uid } });
        match self.cluster.delete::<Endpoints>(&name.namespace, &name.name, &options).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn is_ours(endpoints: &Endpoints) -> bool {
    endpoints.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).map(String::as_str) == Some(MANAGER)
}

/// The object as it should be: addresses with the same ports together, sorted, so that equal content is equal bytes.
fn wanted(service: &Service, pods: &[Arc<Pod>]) -> Endpoints {
    let tolerant = publishes_not_ready(service);
    let portless = service.spec.as_ref().and_then(|spec| spec.ports.as_ref()).is_none_or(Vec::is_empty);
    let mut subsets: BTreeMap<Vec<Port>, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    let serving = pods.iter().filter_map(|pod| Some((pod, address(pod, tolerant)?, ports(pod, service))));
    for (pod, ip, ports) in serving.filter(|(_, _, ports)| !ports.is_empty() || portless).take(ADDRESS_LIMIT) {
        let address = EndpointAddress {
            ip: ip.to_owned(),
            hostname: hostname(pod, service).map(str::to_owned),
            node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            target_ref: Some(target(pod)),
        };
        let (ready, not_ready) = subsets.entry(ports).or_default();
        if tolerant || is_ready(pod) { ready.push(address) } else { not_ready.push(address) }
    }
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let metadata = ObjectMeta { name: service.metadata.name.clone(), namespace: service.metadata.namespace.clone(), labels: Some(labels), ..ObjectMeta::default() };
    let subsets: Vec<EndpointSubset> = subsets.into_iter().map(|(ports, (ready, not_ready))| subset(&ports, ready, not_ready)).collect();
    Endpoints { metadata, subsets: (!subsets.is_empty()).then_some(subsets) }
}

fn subset(ports: &[Port], ready: Vec<EndpointAddress>, not_ready: Vec<EndpointAddress>) -> EndpointSubset {
    let sorted = |mut addresses: Vec<EndpointAddress>| {
        addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
        (!addresses.is_empty()).then_some(addresses)
    };
    let port = |port: &Port| EndpointPort {
        name: Some(port.name.clone()).filter(|name| !name.is_empty()),
        port: port.port,
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    };
    EndpointSubset { addresses: sorted(ready), not_ready_addresses: sorted(not_ready), ports: (!ports.is_empty()).then(|| ports.iter().map(port).collect()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_client::Resource;
    use serde_json::{Value, json};

    fn pod(name: &str, ip: &str, ready: &str, terminating: bool) -> Arc<Pod> {
        let mut value = json!({"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": {"containers": []},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}});
        if terminating {
            value["metadata"]["deletionTimestamp"] = json!("2026-01-31T12:00:00Z");
        }
        Arc::new(Pod::from_value(&value).expect("a pod"))
    }

    fn subsets(publish: bool, ports: Value, pods: &[Arc<Pod>]) -> String {
        let service = Service::from_value(&json!({"metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"a": "b"}, "clusterIP": "None", "publishNotReadyAddresses": publish, "ports": ports}})).expect("a service");
        let ips = |addresses: &Option<Vec<EndpointAddress>>| addresses.iter().flatten().map(|address| address.ip.clone()).collect::<Vec<_>>().join(",");
        let show = |subset: &EndpointSubset| {
            let ports: Vec<String> = subset.ports.iter().flatten().map(|port| port.port.to_string()).collect();
            format!("[{}] not [{}] :{}", ips(&subset.addresses), ips(&subset.not_ready_addresses), ports.join(","))
        };
        wanted(&service, pods).subsets.iter().flatten().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ready_and_unready_addresses_are_told_apart_and_terminating_ones_left_out() {
        let pods = [pod("a", "10.0.0.2", "True", false), pod("b", "10.0.0.1", "True", false), pod("c", "10.0.0.3", "False", false), pod("d", "10.0.0.4", "True", true)];
        let port = json!([{"port": 80, "targetPort": 8080}]);
        assert_eq!(subsets(false, port.clone(), &pods), "[10.0.0.1,10.0.0.2] not [10.0.0.3] :8080");
        assert_eq!(subsets(true, port.clone(), &pods), "[10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4] not [] :8080");
        assert_eq!(subsets(false, json!([]), &pods), "[10.0.0.1,10.0.0.2] not [10.0.0.3] :");
        assert_eq!(subsets(false, port, &[]), "");
        assert_eq!(subsets(false, json!([{"port": 80, "targetPort": "nowhere"}]), &pods), "");
    }
}
