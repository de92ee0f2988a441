//! The garbage collector: what was owned goes with its last owner, in the background, before its owner (foreground) or not at all (orphan).
//!
//! Upstream: `pkg/controller/garbagecollector`. Ours differs in that one view of all metadata serves it and the namespace controller.
//!
//! * `step.rs` decides, for one object, from its owners' and dependents' states.
//! * this file finds out those states, asks the server where the view does not know an owner, and carries out.

mod step;

use crate::metadata::{Change, Item, Metadata, Owner};
use crate::queue::Queue;
use crate::runner::{Group, work};
use http::Method;
use mainstay_client::{Cluster, Error};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use step::{Dependent, FOREGROUND, ORPHAN, OwnerState, Step, step};
use tokio::sync::broadcast::error::RecvError;

/// Objects looked at at the same time.
const WORKERS: usize = 16;

struct Collector {
    cluster: Cluster,
    metadata: Metadata,
    queue: Arc<Queue<Arc<str>>>,
}

impl Collector {
    /// Whom a change concerns.
    fn enqueue(&self, change: &Change) {
        let world = self.metadata.world();
        match &change.new {
            Some(item) => {
                if matters(item) {
                    self.queue.add(Arc::clone(&item.uid));
                }
                // A foreground deletion begins: the dependents are told by their owner's new state.
                if item.deleting && !change.old.as_ref().is_some_and(|old| old.deleting) {
                    world.dependents(&item.uid).for_each(|dependent| self.queue.add(Arc::clone(&dependent.uid)));
                }
            }
            None => {
                let Some(old) = &change.old else { return };
                world.dependents(&old.uid).for_each(|dependent| self.queue.add(Arc::clone(&dependent.uid)));
            }
        }
        // An owner that waits for its dependents may have waited for this one.
        for owner in change.old.iter().flat_map(|old| &old.owners) {
            if let Some(owner) = world.get(&owner.uid)
                && owner.deleting
            {
                self.queue.add(Arc::clone(&owner.uid));
            }
        }
    }

    fn enqueue_all(&self) {
        self.metadata.world().items().filter(|item| matters(item)).for_each(|item| self.queue.add(Arc::clone(&item.uid)));
    }

    async fn sync(&self, uid: &str) -> Result<(), Error> {
        let Some(item) = self.metadata.world().get(uid).cloned() else { return Ok(()) };
        let mut owners = Vec::with_capacity(item.owners.len());
        for owner in &item.owners {
            owners.push(match self.known(&item, owner) {
                Some(state) => state,
                None => self.ask(&item, owner).await?,
            });
        }
        let dependents: Vec<Dependent> = self
            .metadata
            .world()
            .dependents(uid)
            .map(|dependent| Dependent {
                uid: Arc::clone(&dependent.uid),
                blocks: dependent.owners.iter().any(|owner| owner.uid == *uid && owner.block_owner_deletion == Some(true)),
                foreground: dependent.deleting && dependent.has_finalizer(FOREGROUND),
            })
            .collect();
        let step = step(&item, &owners, &dependents);
        self.carry_out(&item, step).await
    }

    /// An owner's state where the view tells.
    fn known(&self, item: &Item, owner: &Owner) -> Option<OwnerState> {
        let world = self.metadata.world();
        if let Some(found) = world.get(&owner.uid) {
            let namespaced = !found.namespace.is_empty();
            // An owner in another namespace is none; the server is asked whether there is one of that name here.
            if !namespaced || found.namespace == item.namespace {
                let waits = found.deleting && found.has_finalizer(FOREGROUND);
                return Some(if waits { OwnerState::Waiting } else { OwnerState::There });
            }
        } else if world.is_gone(&owner.uid) {
            return Some(OwnerState::Absent);
        }
        let kind = world.kind_of(owner);
        // A kind that is not served cannot be judged, and a cluster-scoped object cannot have a namespaced owner: both are left alone.
        if kind.is_none_or(|kind| kind.namespaced && item.namespace.is_empty()) {
            return Some(OwnerState::There);
        }
        None
    }

    /// An owner's state, from the server.
    async fn ask(&self, item: &Item, owner: &Owner) -> Result<OwnerState, Error> {
        let path = self.metadata.world().kind_of(owner).map(|kind| kind.object(&item.namespace, &owner.name));
        let Some(path) = path else { return Ok(OwnerState::There) };
        match self.cluster.request(Method::GET, &path, None).await {
            Ok(found) if found["metadata"]["uid"] == *owner.uid => {
                let finalizers = found["metadata"]["finalizers"].as_array().is_some_and(|list| list.iter().any(|name| name == FOREGROUND));
                Ok(if finalizers && !found["metadata"]["deletionTimestamp"].is_null() { OwnerState::Waiting } else { OwnerState::There })
            }
            Ok(_) => Ok(OwnerState::Absent),
            Err(error) if error.is_not_found() => Ok(OwnerState::Absent),
            Err(error) => Err(error),
        }
    }

    async fn carry_out(&self, item: &Item, step: Step) -> Result<(), Error> {
        match step {
            Step::Nothing => Ok(()),
            Step::Look(dependents) => {
                dependents.into_iter().for_each(|uid| self.queue.add(uid));
                Ok(())
            }
            Step::RemoveFinalizer(name) => {
                let rest: Vec<&String> = item.finalizers.iter().filter(|finalizer| *finalizer != name).collect();
                self.patch(item, json!({"finalizers": rest})).await
            }
            Step::Orphan => {
                let dependents: Vec<Arc<Item>> = self.metadata.world().dependents(&item.uid).cloned().collect();
                for dependent in dependents {
                    let rest: Vec<&Owner> = dependent.owners.iter().filter(|owner| *owner.uid != *item.uid).collect();
                    self.patch(&dependent, json!({"ownerReferences": rest})).await?;
                }
                let rest: Vec<&String> = item.finalizers.iter().filter(|finalizer| *finalizer != ORPHAN).collect();
                self.patch(item, json!({"finalizers": rest})).await
            }
            Step::KeepOwners(owners) => self.patch(item, json!({"ownerReferences": owners})).await,
            Step::Unblock => {
                let owners: Vec<Owner> = item.owners.iter().cloned().map(|owner| Owner { block_owner_deletion: Some(false), ..owner }).collect();
                self.patch(item, json!({"ownerReferences": owners})).await
            }
            Step::Delete(policy) => self.delete(item, policy).await,
        }
    }

    fn path(&self, item: &Item) -> Option<String> {
        Some(self.metadata.world().kinds().get(item.kind)?.object(&item.namespace, &item.name))
    }

    /// A merge patch of metadata that fails when the object is no longer as it was seen.
    async fn patch(&self, item: &Item, mut metadata: Value) -> Result<(), Error> {
        metadata["uid"] = json!(&*item.uid);
        metadata["resourceVersion"] = json!(item.revision);
        let Some(path) = self.path(item) else { return Ok(()) };
        gone_is_fine(self.cluster.request(Method::PATCH, &path, Some(&json!({"metadata": metadata}))).await)
    }

    async fn delete(&self, item: &Item, policy: &str) -> Result<(), Error> {
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy,
            "preconditions": {"uid": &*item.uid, "resourceVersion": item.revision},
        });
        let Some(path) = self.path(item) else { return Ok(()) };
        gone_is_fine(self.cluster.request(Method::DELETE, &path, Some(&options)).await)
    }
}

fn gone_is_fine(result: Result<Value, Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

/// Whether there can be anything to do about an object.
fn matters(item: &Item) -> bool {
    !item.owners.is_empty() || item.has_finalizer(FOREGROUND) || item.has_finalizer(ORPHAN)
}

/// Runs until the future is dropped.
pub(crate) async fn run(cluster: Cluster, metadata: Metadata) {
    let queue = Arc::new(Queue::new());
    let collector = Arc::new(Collector { cluster: cluster.named("generic-garbage-collector"), metadata, queue: queue.clone() });
    let mut changes = collector.metadata.subscribe();
    collector.metadata.synced().await;
    collector.enqueue_all();
    let mut group = Group::default();
    let listener = collector.clone();
    group.spawn(async move {
        loop {
            match changes.recv().await {
                Ok(change) => listener.enqueue(&change),
                Err(RecvError::Lagged(_)) => listener.enqueue_all(),
                Err(RecvError::Closed) => return,
            }
        }
    });
    group.spawn(work("garbage", WORKERS, queue, move |uid: Arc<str>| {
        let collector = collector.clone();
        async move { collector.sync(&uid).await.map(|()| None::<Duration>) }
    }));
    group.wait().await;
}
