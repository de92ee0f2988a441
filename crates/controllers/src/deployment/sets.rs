//! A deployment's ReplicaSets as they are and as a step wants them.

use super::limits::{max_surge, replicas};
use crate::owners::{name_of, owner_ref};
use crate::template::{HASH_LABEL, comparable, hash};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mainstay_client::Resource;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Annotation: a template's place in the history.
pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Annotation: earlier places of the same template.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Annotation: `spec.replicas` of the deployment when the set was last scaled.
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// Annotation: that and maxSurge.
const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations that a set does not take over from its deployment.
const OWN_ANNOTATIONS: [&str; 6] =
    ["kubectl.kubernetes.io/last-applied-configuration", REVISION, REVISION_HISTORY, DESIRED, MAX, "deprecated.deployment.rollback.to"];
/// Bytes of history kept in an annotation.
const HISTORY_LIMIT_BYTES: usize = 2_000;

/// One ReplicaSet: as it is, and as it is to be.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) set: Arc<ReplicaSet>,
    /// It is still to be made.
    pub(crate) new: bool,
    pub(crate) replicas: i32,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) min_ready_seconds: Option<i32>,
}

fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

impl Member {
    pub(crate) fn new(set: Arc<ReplicaSet>) -> Self {
        let annotations = set.metadata.annotations.clone().unwrap_or_default();
        let min_ready_seconds = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        Self { new: false, replicas: size(&set), annotations, min_ready_seconds, set }
    }

    pub(crate) fn name(&self) -> &str {
        name_of(&self.set.metadata)
    }

    /// Before this step.
    pub(crate) fn size_before(&self) -> i32 {
        if self.new { 0 } else { size(&self.set) }
    }

    fn count(&self, of: impl Fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32) -> i32 {
        self.set.status.as_ref().map_or(0, of)
    }

    /// `status.replicas`.
    pub(crate) fn actual(&self) -> i32 {
        self.count(|status| status.replicas)
    }

    /// `status.readyReplicas`.
    pub(crate) fn ready(&self) -> i32 {
        self.count(|status| status.ready_replicas.unwrap_or(0))
    }

    /// `status.availableReplicas`.
    pub(crate) fn available(&self) -> i32 {
        self.count(|status| status.available_replicas.unwrap_or(0))
    }

    /// `status.terminatingReplicas`, where the set's controller has said it.
    pub(crate) fn terminating(&self) -> Option<i32> {
        self.set.status.as_ref().and_then(|status| status.terminating_replicas)
    }

    /// By age, then name.
    pub(crate) fn age(&self) -> (Option<Timestamp>, &str) {
        (self.set.metadata.creation_timestamp.as_ref().map(|time| time.0), self.name())
    }

    fn number(&self, annotation: &str) -> Option<i64> {
        self.annotations.get(annotation)?.parse().ok()
    }

    /// Its place in the history; 0 when it has none.
    pub(crate) fn revision(&self) -> i64 {
        self.number(REVISION).unwrap_or(0)
    }

    /// The deployment's wish when this set was last scaled.
    pub(crate) fn desired(&self) -> Option<i64> {
        self.number(DESIRED)
    }

    /// The most pods there could be when this set was last scaled.
    pub(crate) fn max(&self) -> Option<i64> {
        self.number(MAX)
    }

    /// Asks for this many.
    pub(crate) fn scale(&mut self, deployment: &Deployment, to: i32) {
        self.replicas = to;
        self.annotations.insert(DESIRED.to_owned(), replicas(deployment).to_string());
        self.annotations.insert(MAX.to_owned(), replicas(deployment).saturating_add(max_surge(deployment)).to_string());
    }

    /// Whether anything differs from what is.
    pub(crate) fn changed(&self) -> bool {
        let spec = self.set.spec.as_ref();
        self.replicas != size(&self.set)
            || Some(&self.annotations).filter(|all| !all.is_empty()) != self.set.metadata.annotations.as_ref().filter(|all| !all.is_empty())
            || self.min_ready_seconds.unwrap_or(0) != spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    /// Takes the deployment's annotations, and the newest number. Upstream: `SetNewReplicaSetAnnotations`.
    pub(crate) fn follow(&mut self, deployment: &Deployment, number: i64) {
        for (key, value) in deployment.metadata.annotations.iter().flatten().filter(|(key, _)| !OWN_ANNOTATIONS.contains(&key.as_str())) {
            self.annotations.insert(key.clone(), value.clone());
        }
        self.min_ready_seconds = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        let before = self.annotations.get(REVISION).cloned();
        if self.revision() >= number {
            return;
        }
        self.annotations.insert(REVISION.to_owned(), number.to_string());
        if let Some(before) = before {
            let history = self.annotations.entry(REVISION_HISTORY.to_owned()).or_default();
            if !history.is_empty() {
                history.push(',');
            }
            history.push_str(&before);
            while history.len() > HISTORY_LIMIT_BYTES {
                *history = history.split_once(',').map_or_else(String::new, |(_, rest)| rest.to_owned());
            }
        }
    }
}

/// The set of the deployment's template: of several the oldest, as after an upgrade there may be two.
pub(crate) fn newest(deployment: &Deployment, members: &[Member]) -> Option<usize> {
    let template = comparable(&deployment.to_value());
    let equal = (0..members.len()).filter(|i| comparable(&members[*i].set.to_value()) == template);
    equal.min_by(|a, b| members[*a].age().cmp(&members[*b].age()))
}

/// A ReplicaSet of the deployment's template, without pods yet.
pub(crate) fn create(deployment: &Deployment, collision_count: Option<i32>) -> Member {
    let mut template = deployment.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let hash = hash(&comparable(&deployment.to_value()), collision_count);
    let mut selector = deployment.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default();
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let min_ready_seconds = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
    let set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", name_of(&deployment.metadata))),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![owner_ref(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec { replicas: Some(0), min_ready_seconds, selector, template: Some(template) }),
        status: None,
    };
    Member { set: Arc::new(set), new: true, replicas: 0, annotations: BTreeMap::new(), min_ready_seconds }
}

/// Whether a ReplicaSet that has the name of a new one is that very one.
pub(crate) fn is_same(deployment: &Deployment, set: &ReplicaSet) -> bool {
    crate::owners::controller_of(&set.metadata).is_some_and(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref())
        && comparable(&deployment.to_value()) == comparable(&set.to_value())
}
