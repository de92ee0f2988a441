//! The pods that have a worker, as others may see them: the service that answers for logs and exec, the agent that hands out changes.

use crate::pod::reference::PodRef;
use crate::pod::state::State;
use k8s_openapi::api::core::v1::Pod;
use mainstay_supervisor::Container;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// What a worker shows of its pod.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) pod: Arc<Pod>,
    pub(crate) state: Arc<State>,
    /// The newest run of each container that the supervisor knows of.
    pub(crate) containers: Arc<HashMap<String, Container>>,
}

/// One pod's worker, from outside.
pub(crate) struct Entry {
    pub(crate) pod: PodRef,
    /// The newest object; `None`: gone from the API.
    pub(crate) object: watch::Sender<Option<Arc<Pod>>>,
    /// An object the pod refers to has changed.
    pub(crate) referenced: Notify,
    pub(crate) view: Mutex<View>,
    /// Counts changes of the view, for those who wait for a container to start or end.
    pub(crate) changed: watch::Sender<u64>,
}

impl Entry {
    pub(crate) fn view(&self) -> View {
        self.view.lock().clone()
    }
    pub(crate) fn show(&self, view: View) {
        *self.view.lock() = view;
        self.changed.send_modify(|n| *n += 1);
    }
}

/// All workers, by uid.
#[derive(Default)]
pub(crate) struct Registry {
    entries: RwLock<HashMap<String, Arc<Entry>>>,
}

impl Registry {
    pub(crate) fn insert(&self, entry: Arc<Entry>) {
        self.entries.write().insert(entry.pod.uid.clone(), entry);
    }
    pub(crate) fn remove(&self, uid: &str) {
        self.entries.write().remove(uid);
    }
    pub(crate) fn get(&self, uid: &str) -> Option<Arc<Entry>> {
        self.entries.read().get(uid).cloned()
    }
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        self.entries.read().values().cloned().collect()
    }
    /// Every worker for pods of this name: more than one while a replacement waits for its predecessor.
    pub(crate) fn named(&self, namespace: &str, name: &str) -> Vec<Arc<Entry>> {
        self.entries.read().values().filter(|e| e.pod.namespace == namespace && e.pod.name == name).cloned().collect()
    }
}
