//! Every namespace has a ServiceAccount `default` and a ConfigMap `kube-root-ca.crt`; both come back when removed, the ConfigMap also
//! when changed.
//!
//! Upstream: `pkg/controller/serviceaccount/serviceaccounts_controller.go`, `pkg/controller/certificates/rootcacertpublisher`.

use crate::Config;
use crate::queue::Queue;
use crate::runner::{Group, feed, work};
use mainstay_client::k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use mainstay_client::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mainstay_client::{Cache, Cluster, Delta, Error};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const WORKERS: usize = 4;
const ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";
const ROOT_CA_KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the \
internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// What a namespace lacks.
#[derive(Debug, PartialEq)]
enum Write {
    CreateAccount,
    CreateRootCa,
    RestoreRootCa,
}

fn step(namespace: Option<&Namespace>, account: Option<&ServiceAccount>, root_ca: Option<&ConfigMap>, certificate: &str) -> Vec<Write> {
    let Some(namespace) = namespace else { return Vec::new() };
    if namespace.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let mut writes = Vec::new();
    if account.is_none() {
        writes.push(Write::CreateAccount);
    }
    match root_ca {
        None => writes.push(Write::CreateRootCa),
        Some(map) if map.data.as_ref() != Some(&data(certificate)) || !described(map) => writes.push(Write::RestoreRootCa),
        Some(_) => {}
    }
    writes
}

fn data(certificate: &str) -> BTreeMap<String, String> {
    [(ROOT_CA_KEY.to_owned(), certificate.to_owned())].into()
}

fn described(map: &ConfigMap) -> bool {
    map.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DESCRIPTION)).is_some_and(|text| text == DESCRIPTION_TEXT)
}

fn named(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { namespace: Some(namespace.to_owned()), name: Some(name.to_owned()), ..ObjectMeta::default() }
}

struct Caches {
    namespaces: Cache<Namespace>,
    accounts: Cache<ServiceAccount>,
    config_maps: Cache<ConfigMap>,
}

async fn sync(cluster: &Cluster, caches: &Caches, certificate: &str, name: &str) -> Result<(), Error> {
    let root_ca = caches.config_maps.get(name, ROOT_CA);
    let account = caches.accounts.get(name, ACCOUNT);
    for write in step(caches.namespaces.get("", name).as_deref(), account.as_deref(), root_ca.as_deref(), certificate) {
        let written = match write {
            Write::CreateAccount => cluster.create(&ServiceAccount { metadata: named(name, ACCOUNT), ..ServiceAccount::default() }).await.map(drop),
            Write::CreateRootCa => cluster.create(&root_ca_map(named(name, ROOT_CA), certificate)).await.map(drop),
            Write::RestoreRootCa => {
                let metadata = root_ca.as_ref().map_or_else(|| named(name, ROOT_CA), |map| map.metadata.clone());
                cluster.update(&root_ca_map(metadata, certificate)).await.map(drop)
            }
        };
        match written {
            // Someone else was faster, or the namespace has begun to go: the change that tells so brings us here again.
            Err(error) if error.is_already_exists() || error.is_conflict() || error.is_not_found() || error.code() == Some(403) => {}
            other => other?,
        }
    }
    Ok(())
}

fn root_ca_map(mut metadata: ObjectMeta, certificate: &str) -> ConfigMap {
    metadata.annotations.get_or_insert_default().insert(DESCRIPTION.to_owned(), DESCRIPTION_TEXT.to_owned());
    ConfigMap { metadata, data: Some(data(certificate)), ..ConfigMap::default() }
}

/// Runs until the future is dropped.
pub async fn run(cluster: Cluster, config: Config) {
    let cluster = cluster.named("serviceaccount-controller");
    let caches = Caches { namespaces: cluster.namespaces(), accounts: cluster.service_accounts(), config_maps: cluster.config_maps() };
    tokio::join!(caches.namespaces.synced(), caches.accounts.synced(), caches.config_maps.synced());
    let queue: Arc<Queue<String>> = Arc::new(Queue::new());
    let mut group = Group::default();
    group.spawn(feed(caches.namespaces.clone(), queue.clone(), |change: &Delta<Namespace>, add: &mut dyn FnMut(String)| {
        change.newest().into_iter().filter_map(|namespace| namespace.metadata.name.clone()).for_each(add);
    }));
    group.spawn(feed(caches.accounts.clone(), queue.clone(), |change: &Delta<ServiceAccount>, add: &mut dyn FnMut(String)| {
        change.newest().into_iter().filter_map(|account| namespace_if_named(&account.metadata, ACCOUNT)).for_each(add);
    }));
    group.spawn(feed(caches.config_maps.clone(), queue.clone(), |change: &Delta<ConfigMap>, add: &mut dyn FnMut(String)| {
        change.newest().into_iter().filter_map(|map| namespace_if_named(&map.metadata, ROOT_CA)).for_each(add);
    }));
    let shared = Arc::new((cluster, caches, config.ca_certificate));
    group.spawn(work("serviceaccount", WORKERS, queue, move |name: String| {
        let shared = shared.clone();
        async move { sync(&shared.0, &shared.1, &shared.2, &name).await.map(|()| None::<Duration>) }
    }));
    group.wait().await;
}

fn namespace_if_named(metadata: &ObjectMeta, name: &str) -> Option<String> {
    metadata.namespace.clone().filter(|_| metadata.name.as_deref() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(deleting: bool) -> Namespace {
        let mut namespace = Namespace { metadata: named("", "x"), ..Namespace::default() };
        if deleting {
            namespace.metadata.deletion_timestamp = serde_json::from_str("\"2026-01-31T12:00:00Z\"").ok();
        }
        namespace
    }

    #[test]
    fn a_living_namespace_gets_what_it_lacks_and_nothing_else() {
        let account = ServiceAccount::default();
        let good = root_ca_map(ObjectMeta::default(), "pem");
        let mut changed = good.clone();
        changed.data.get_or_insert_default().insert("more".into(), "x".into());
        let mut undescribed = good.clone();
        undescribed.metadata.annotations = None;
        for (deleting, account, map, expected) in [
            (false, None, None, vec![Write::CreateAccount, Write::CreateRootCa]),
            (false, Some(&account), Some(&good), vec![]),
            (false, Some(&account), Some(&changed), vec![Write::RestoreRootCa]),
            (false, Some(&account), Some(&undescribed), vec![Write::RestoreRootCa]),
            (true, None, None, vec![]),
        ] {
            assert_eq!(step(Some(&namespace(deleting)), account, map, "pem"), expected);
        }
        assert_eq!(step(None, None, None, "pem"), []);
    }
}
