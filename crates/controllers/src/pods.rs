//! What controllers read from pods, and how they make and delete them.

use crate::owners::{name_of, uid_of};
use crate::runner::{Name, OwnWrites};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use mainstay_client::{Cluster, Error, Recorder, Severity};
use serde_json::json;

/// The most pods made or deleted in one step. Upstream: `BurstReplicas`, `MaxPodCreateDeletePerSync`.
pub(crate) const BURST_LIMIT: usize = 500;

/// `status.phase`, empty before the node has seen the pod.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Being deleted.
pub(crate) fn terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Succeeded or failed.
pub(crate) fn ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither ended nor being deleted. Upstream: `IsPodActive`.
pub(crate) fn active(pod: &Pod) -> bool {
    !ended(pod) && !terminating(pod)
}

/// Condition Ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    ready_since(pod).is_some()
}

/// Running, with condition Ready.
pub(crate) fn running_and_ready(pod: &Pod) -> bool {
    phase(pod) == "Running" && is_ready(pod)
}

/// When condition Ready became true; `Some(None)` when it is true and says no time.
pub(crate) fn ready_since(pod: &Pod) -> Option<Option<Timestamp>> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    (ready.status == "True").then(|| ready.last_transition_time.as_ref().map(|time| time.0))
}

/// When a pod that is ready will have been so for `minReadySeconds`.
pub(crate) fn available_at(pod: &Pod, min_ready_seconds: i32) -> Option<Timestamp> {
    let since = ready_since(pod).filter(|_| phase(pod) == "Running")?;
    if min_ready_seconds == 0 {
        return Some(Timestamp::MIN);
    }
    since?.checked_add(SignedDuration::from_secs(i64::from(min_ready_seconds))).ok()
}

/// Running and Ready for `minReadySeconds`.
pub(crate) fn available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    available_at(pod, min_ready_seconds).is_some_and(|at| at <= now)
}

/// How often its containers were restarted: the most of any. Upstream: `maxContainerRestarts`.
pub(crate) fn most_restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    statuses.iter().map(|status| status.restart_count).max().unwrap_or(0)
}

/// A pod of a template, its name still to be chosen. Upstream: `GetPodFromTemplate`.
pub(crate) fn from_template(template: &PodTemplateSpec, owner: &ObjectMeta, reference: OwnerReference) -> Pod {
    let from = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", name_of(owner))),
            namespace: owner.namespace.clone(),
            labels: from.labels,
            annotations: from.annotations,
            finalizers: from.finalizers,
            owner_references: Some(vec![reference]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// `log2` of an age in nanoseconds: pods of about the same age are alike. Upstream: LogarithmicScaleDown.
fn bucket(now: Timestamp, since: Option<Timestamp>) -> i64 {
    // Without a time it counts as old, as upstream.
    since.map_or(i64::MAX, |since| i64::try_from(now.duration_since(since).as_nanos()).ok().filter(|age| *age > 0).map_or(-1, |age| i64::from(age.ilog2())))
}

/// The order in which pods go: not on a node, not running, not ready, cheap by annotation, ready for a short time, often restarted, young.
///
/// Upstream: `ActivePodsWithRanks` (pkg/controller/controller_utils.go). Left out is its rank by doubles on a node: there is one node. Pods of
/// about one age are told apart by restarts before uid, where upstream takes the uid at once: a comparison of three must not contradict itself.
pub(crate) fn first_to_go(pod: &Pod, now: Timestamp) -> impl Ord + use<> {
    let on_node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty());
    let phase = match phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let cost = pod.metadata.annotations.as_ref().and_then(|all| all.get("controller.kubernetes.io/pod-deletion-cost")?.parse::<i32>().ok()).unwrap_or(0);
    let ready = ready_since(pod);
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let ages = (ready.map(|since| bucket(now, since)), std::cmp::Reverse(most_restarts(pod)), bucket(now, created));
    (on_node, phase, ready.is_some(), cost, ages, uid_of(&pod.metadata).to_owned())
}

/// Makes and deletes pods for one controller, and tells of it in events.
pub(crate) struct PodControl {
    cluster: Cluster,
    recorder: Recorder,
}

impl PodControl {
    pub(crate) fn new(cluster: Cluster) -> Self {
        let recorder = cluster.recorder();
        Self { cluster, recorder }
    }

    /// Batches of 1, 2, 4, …: the first failure of a broken template costs one request, not five hundred. How many were made, and the first failure.
    pub(crate) async fn create_slowly(&self, owner: &ObjectReference, pods: &[Pod], name: &Name, written: &OwnWrites) -> (usize, Result<(), Error>) {
        let (mut made, mut size, mut rest) = (0, 1, pods);
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(size.min(rest.len()));
            let outcomes = join_all(batch.iter().map(|pod| self.create(owner, pod, name, written))).await;
            made += outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            if let Some(error) = outcomes.into_iter().find_map(Result::err) {
                return (made, Err(error));
            }
            (rest, size) = (later, size * 2);
        }
        (made, Ok(()))
    }

    async fn create(&self, owner: &ObjectReference, pod: &Pod, name: &Name, written: &OwnWrites) -> Result<(), Error> {
        match self.cluster.create(pod).await {
            Ok(created) => {
                written.note(name, &created.metadata);
                self.recorder.record(owner.clone(), Severity::Normal, "SuccessfulCreate", format!("Created pod: {}", name_of(&created.metadata)));
                Ok(())
            }
            Err(error) => {
                // In a namespace that is going away nothing is made, and nobody needs to hear of it.
                if !error.message().ends_with("because it is being terminated") {
                    self.recorder.record(owner.clone(), Severity::Warning, "FailedCreate", format!("Error creating: {}", error.message()));
                }
                Err(error)
            }
        }
    }

    /// Exactly this pod, gracefully; one that is gone, or has become another, is as good as deleted.
    pub(crate) async fn delete(&self, owner: &ObjectReference, pod: &Pod, name: &Name, written: &OwnWrites) -> Result<(), Error> {
        let pod_name = name_of(&pod.metadata);
        let options = json!({ "preconditions": { "uid": uid_of(&pod.metadata) } });
        match self.cluster.delete_returning::<Pod>(&name.namespace, pod_name, &options).await {
            Ok(left) => {
                written.note_revision(name, left.as_deref());
                self.recorder.record(owner.clone(), Severity::Normal, "SuccessfulDelete", format!("Deleted pod: {pod_name}"));
                Ok(())
            }
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => {
                self.recorder.record(owner.clone(), Severity::Warning, "FailedDelete", format!("Error deleting: {}", error.message()));
                Err(error)
            }
        }
    }

    /// All of them at a time; the first failure.
    pub(crate) async fn delete_all(&self, owner: &ObjectReference, pods: &[std::sync::Arc<Pod>], name: &Name, written: &OwnWrites) -> Result<(), Error> {
        let outcomes = join_all(pods.iter().map(|pod| self.delete(owner, pod, name, written))).await;
        outcomes.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_client::Resource;
    use serde_json::Value;

    fn pod(name: &str, words: &str) -> Pod {
        let mut value = json!({"metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-31T11:00:00Z"}, "spec": {"nodeName": "n", "containers": []}, "status": {"phase": "Running"}});
        for word in words.split_whitespace() {
            match word.split_once('=').unwrap_or((word, "")) {
                ("unbound", _) => value["spec"]["nodeName"] = Value::Null,
                ("Pending", _) => value["status"]["phase"] = json!("Pending"),
                ("cost", cost) => value["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"] = json!(cost),
                ("ready", since) => value["status"]["conditions"] = json!([{"type": "Ready", "status": "True", "lastTransitionTime": since}]),
                ("created", at) => value["metadata"]["creationTimestamp"] = json!(at),
                ("restarts", count) => {
                    let count: i32 = count.parse().expect("a number");
                    value["status"]["containerStatuses"] = json!([{"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": count}]);
                }
                (other, _) => panic!("no such word: {other}"),
            }
        }
        Pod::from_value(&value).expect("a pod")
    }

    #[test]
    fn the_least_useful_pods_go_first() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().expect("a time");
        let pods = [
            pod("old", "ready=2026-01-31T11:00:00Z"),
            pod("young", "ready=2026-01-31T11:59:50Z"),
            pod("cheap", "ready=2026-01-31T11:00:00Z cost=-5"),
            pod("dear", "ready=2026-01-31T11:59:59Z cost=5"),
            pod("unready", ""),
            pod("unready-restarted", "restarts=3"),
            pod("unready-young", "created=2026-01-31T11:59:59Z"),
            pod("pending", "Pending"),
            pod("unbound", "Pending unbound"),
        ];
        let mut order: Vec<&Pod> = pods.iter().collect();
        order.sort_by_cached_key(|pod| first_to_go(pod, now));
        let names: Vec<&str> = order.iter().map(|pod| name_of(&pod.metadata)).collect();
        assert_eq!(names, ["unbound", "pending", "unready-restarted", "unready-young", "unready", "cheap", "young", "old", "dear"]);
    }
}
