//! Writes a pod's status to the API: the newest only, one write at a time, off everyone's path.

use super::reference::PodRef;
use super::status::is_urgent;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use mainstay_client::Cluster;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a change that is not urgent waits for company: a pod that starts in less writes its status once.
const COALESCE: Duration = Duration::from_millis(40);

/// Hands statuses to the task that writes them.
pub(crate) struct StatusWriter {
    newest: watch::Sender<Wanted>,
    written: watch::Receiver<u64>,
    task: tokio::task::AbortHandle,
}

#[derive(Clone, Default)]
struct Wanted {
    version: u64,
    status: Option<Arc<PodStatus>>,
    /// Somebody waits for everything up to this version.
    flush: u64,
}

impl Drop for StatusWriter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl StatusWriter {
    /// `current`: what the API holds.
    pub(crate) fn start(cluster: Cluster, pod: PodRef, current: Option<PodStatus>) -> Self {
        let (newest, receiver) = watch::channel(Wanted::default());
        let (told, written) = watch::channel(0);
        let task = tokio::spawn(write_all(cluster, pod, current, receiver, told)).abort_handle();
        Self { newest, written, task }
    }

    /// The status to be there next.
    pub(crate) fn set(&self, status: PodStatus) {
        self.newest.send_modify(|wanted| {
            wanted.version += 1;
            wanted.status = Some(Arc::new(status));
        });
    }

    /// A wait for everything set so far to be written (or for the object to be gone).
    pub(crate) fn flushed(&self) -> impl Future<Output = ()> + Send + 'static {
        self.newest.send_modify(|wanted| wanted.flush = wanted.version);
        let version = self.newest.borrow().version;
        let mut written = self.written.clone();
        async move {
            let _ = written.wait_for(|v| *v >= version).await;
        }
    }
}

async fn write_all(cluster: Cluster, pod: PodRef, current: Option<PodStatus>, mut newest: watch::Receiver<Wanted>, told: watch::Sender<u64>) {
    let mut held = current.as_ref().map(value).unwrap_or_default();
    let mut held_status = current.map(Arc::new);
    let mut pause = Duration::from_millis(50);
    while newest.changed().await.is_ok() {
        let cannot_wait = |w: &Wanted| w.flush >= w.version || w.status.as_ref().is_some_and(|s| is_urgent(held_status.as_deref(), s));
        // Its time is the same whether more comes in or not.
        let _ = tokio::time::timeout(COALESCE, newest.wait_for(cannot_wait)).await;
        loop {
            let wanted = newest.borrow_and_update().clone();
            let Some(status) = &wanted.status else { break };
            let next = value(status);
            let result = write(&cluster, &pod, &held, &next).await;
            match result {
                Ok(()) => {
                    held = next;
                    held_status = Some(status.clone());
                    pause = Duration::from_millis(50);
                    let _ = told.send(wanted.version);
                    break;
                }
                Err(error) if error.is_not_found() || (error.code() == Some(409) && is_another(&cluster, &pod).await) => {
                    // There is nobody to tell any more.
                    let _ = told.send(u64::MAX);
                    return;
                }
                Err(error) => {
                    tracing::warn!(%pod, %error, "the pod's status could not be written; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            }
        }
    }
}

/// Whether the object of this name is not, or no longer, this pod's.
async fn is_another(cluster: &Cluster, pod: &PodRef) -> bool {
    match cluster.get::<Pod>(&pod.namespace, &pod.name).await {
        Ok(found) => found.metadata.uid.as_deref() != Some(pod.uid.as_str()),
        Err(error) => error.is_not_found(),
    }
}

fn value(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

async fn write(cluster: &Cluster, pod: &PodRef, held: &Map<String, Value>, next: &Map<String, Value>) -> Result<(), mainstay_client::Error> {
    let changes = changes(held, next);
    if changes.is_empty() {
        return Ok(());
    }
    // The uid keeps a status from reaching another pod of the same name.
    let patch = json!({"metadata": {"uid": pod.uid}, "status": changes});
    cluster.merge_patch::<Pod>(&pod.namespace, &pod.name, Some("status"), &patch).await.map(drop)
}

/// A merge patch's worth of difference at the top level; what is gone is null.
fn changes(held: &Map<String, Value>, next: &Map<String, Value>) -> Map<String, Value> {
    let gone = held.keys().filter(|k| !next.contains_key(*k)).map(|k| (k.clone(), Value::Null));
    let changed = next.iter().filter(|(k, v)| held.get(*k) != Some(v)).map(|(k, v)| (k.clone(), v.clone()));
    gone.chain(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_sent() {
        let map = |v: Value| v.as_object().cloned().unwrap();
        let held = map(json!({"phase": "Pending", "hostIP": "1", "message": "m"}));
        let next = map(json!({"phase": "Running", "hostIP": "1"}));
        assert_eq!(Value::Object(changes(&held, &next)), json!({"phase": "Running", "message": null}));
        assert!(changes(&next, &next).is_empty());
    }
}
