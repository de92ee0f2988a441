//! A namespace that is being deleted: everything in it is deleted, what is left is told in its conditions, and when nothing is left
//! its finalizer `kubernetes` goes, and it with it.
//!
//! Upstream: `pkg/controller/namespace/deletion/namespaced_resources_deleter.go`. Ours does not ask again and again what is left: it looks
//! when something in the namespace has gone, and asks the server once before it lets the namespace go.

mod step;

use crate::metadata::Metadata;
use crate::queue::Queue;
use crate::runner::{Group, work};
use http::Method;
use mainstay_client::k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};
use mainstay_client::{Cache, Cluster, Error, Resource};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use step::{Observed, Step, step};
use tokio::sync::broadcast::error::RecvError;

/// Namespaces worked on at a time.
const WORKERS: usize = 4;

struct Controller {
    cluster: Cluster,
    metadata: Metadata,
    namespaces: Cache<Namespace>,
    queue: Arc<Queue<String>>,
}

impl Controller {
    async fn sync(&self, name: &str) -> Result<(), Error> {
        let Some(namespace) = self.namespaces.get("", name) else { return Ok(()) };
        if !step::is_ours(&namespace) {
            return Ok(());
        }
        let failures = self.delete_contents(name).await;
        let (mut remaining, finalizers) = self.remaining(name);
        if remaining.is_empty() && failures.is_empty() {
            // The view may lag behind by an object; the server does not.
            remaining = self.ask(name).await?;
        }
        let observed = Observed { namespace: &namespace, remaining, finalizers, failures };
        let Step { status, finalize } = step(&observed, jiff::Timestamp::now());
        let mut newest = (*namespace).clone();
        if let Some(status) = status {
            newest = self.write_status(newest, status).await?;
        }
        if finalize {
            return self.finalize(newest).await;
        }
        // What remains goes by itself and its going brings us back; what could not be asked for is asked for again.
        let found = observed.remaining.values().sum::<usize>();
        let unseen = found > 0 && self.remaining(name).0.is_empty();
        if unseen || !observed.failures.is_empty() {
            return Err(Error::Api { doing: format!("empty namespace {name}"), code: 409, reason: "Conflict".into(), message: observed.failures.join("; ") });
        }
        Ok(())
    }

    /// Asks for the deletion of everything that is not being deleted yet, a collection at a time; returns what failed.
    async fn delete_contents(&self, name: &str) -> Vec<String> {
        let collections: Vec<(String, bool)> = {
            let world = self.metadata.world();
            // Events come last: what goes before them makes more.
            let last = world.inside(name).next().is_none();
            let wanted = |index: usize| world.inside(name).any(|item| item.kind == index && !item.deleting);
            let kinds = world.kinds().iter().enumerate().filter(|(index, kind)| kind.namespaced && if kind.followed() { wanted(*index) } else { last });
            kinds.map(|(_, kind)| (kind.collection(name), kind.can("deletecollection"))).collect()
        };
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
        let mut failures = Vec::new();
        for (path, at_once) in collections {
            if !at_once {
                continue;
            }
            if let Err(error) = self.cluster.request(Method::DELETE, &path, Some(&options)).await {
                failures.push(error.to_string());
            }
        }
        failures
    }

    /// `plural.group` and how many, and finalizers and how many wait for them.
    fn remaining(&self, name: &str) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
        let world = self.metadata.world();
        let (kinds, finalizers) = world.remaining(name);
        let named = kinds.into_iter().filter_map(|(index, count)| world.kinds().get(index).map(|kind| (format!("{}.{}", kind.plural, kind.group()), count)));
        (named.collect(), finalizers)
    }

    async fn ask(&self, name: &str) -> Result<BTreeMap<String, usize>, Error> {
        let kinds: Vec<(String, String)> = {
            let world = self.metadata.world();
            world.kinds().iter().filter(|kind| kind.namespaced).map(|kind| (format!("{}.{}", kind.plural, kind.group()), kind.collection(name))).collect()
        };
        let mut remaining = BTreeMap::new();
        for (kind, path) in kinds {
            let page = self.cluster.request(Method::GET, &format!("{path}?limit=1"), None).await?;
            let shown = page["items"].as_array().map_or(0, Vec::len);
            let more = page["metadata"]["remainingItemCount"].as_u64().and_then(|more| usize::try_from(more).ok()).unwrap_or(0);
            if shown > 0 {
                remaining.insert(kind, shown + more);
            }
        }
        Ok(remaining)
    }

    async fn write_status(&self, mut namespace: Namespace, status: NamespaceStatus) -> Result<Namespace, Error> {
        namespace.status = Some(status);
        self.cluster.update_status(&namespace).await
    }

    async fn finalize(&self, mut namespace: Namespace) -> Result<(), Error> {
        let finalizers = namespace.spec.get_or_insert_default().finalizers.get_or_insert_default();
        finalizers.retain(|finalizer| finalizer != step::FINALIZER);
        let name = mainstay_client::encode_segment(namespace.metadata.name.as_deref().unwrap_or_default());
        match self.cluster.request(Method::PUT, &format!("/api/v1/namespaces/{name}/finalize"), Some(&namespace.to_value())).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }

    fn enqueue_all(&self) {
        self.namespaces.list().iter().filter(|namespace| step::is_ours(namespace)).for_each(|namespace| self.enqueue(namespace));
    }

    fn enqueue(&self, namespace: &Namespace) {
        if let Some(name) = &namespace.metadata.name {
            self.queue.add(name.clone());
        }
    }
}

/// Runs until the future is dropped.
pub(crate) async fn run(cluster: Cluster, metadata: Metadata) {
    let cluster = cluster.named("namespace-controller");
    let queue = Arc::new(Queue::new());
    let controller = Arc::new(Controller { namespaces: cluster.namespaces(), cluster, metadata, queue: queue.clone() });
    let mut namespaces = controller.namespaces.subscribe();
    let mut changes = controller.metadata.subscribe();
    tokio::join!(controller.namespaces.synced(), controller.metadata.synced());
    controller.enqueue_all();
    let mut group = Group::default();
    let listener = controller.clone();
    group.spawn(async move {
        loop {
            let name = tokio::select! {
                change = namespaces.recv() => change.map(|change| Some(change.name)),
                change = changes.recv() => change.map(|change| change.old.or(change.new).map(|item| Arc::clone(&item.namespace))),
            };
            match name {
                Ok(Some(name)) => {
                    let going = listener.namespaces.get("", &name).filter(|namespace| step::is_ours(namespace));
                    going.iter().for_each(|namespace| listener.enqueue(namespace));
                }
                Ok(None) => {}
                Err(RecvError::Lagged(_)) => listener.enqueue_all(),
                Err(RecvError::Closed) => return,
            }
        }
    });
    group.spawn(work("namespace", WORKERS, queue, move |name: String| {
        let controller = controller.clone();
        async move { controller.sync(&name).await.map(|()| None::<Duration>) }
    }));
    group.wait().await;
}
