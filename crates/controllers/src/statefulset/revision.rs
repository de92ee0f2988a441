//! Revision data, hash, equality, history.
//!
//! Upstream: pkg/controller/history/controller_history.go and pkg/controller/statefulset/stateful_set_utils.go (1.36). Names and data are
//! the ones that upstream writes, so that `kubectl rollout` works and a set may move between the two without a restart of its pods.

use super::identity::{name_of, owner_ref};
use crate::template::{as_go_writes, go_json, safe_encode};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use mainstay_client::Resource;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Label of a revision: the hash of its data.
const HASH: &str = "controller.kubernetes.io/hash";
/// A revision's name is a label's value (63) only for short sets; upstream cuts at what a name may have.
const PREFIX_LIMIT: usize = 223;
/// `revisionHistoryLimit` when it is not given.
const HISTORY_LIMIT: i32 = 10;

/// `{"spec":{"template":{"$patch":"replace",…}}}`.
pub(crate) fn data(set: &StatefulSet) -> Value {
    let mut value = set.to_value();
    let mut template = value["spec"]["template"].take();
    as_go_writes(&mut template);
    template["$patch"] = json!("replace");
    json!({ "spec": { "template": template } })
}

/// FNV-1 (not 1a), 32 bits, of the data and the collision count; its decimal digits in an alphabet without vowels.
pub(crate) fn hash(data: &Value, collision_count: i32) -> String {
    let text = go_json(data) + &collision_count.to_string();
    let sum = text.bytes().fold(0x811c_9dc5_u32, |sum, byte| sum.wrapping_mul(0x0100_0193) ^ u32::from(byte));
    safe_encode(sum)
}

fn revision_name(set: &StatefulSet, hash: &str) -> String {
    let name = name_of(&set.metadata);
    format!("{}-{hash}", &name[..name.len().min(PREFIX_LIMIT)])
}

/// The revision of the set's template, as it is to be created. The label keeps the hash of the first attempt when names collide, as upstream.
fn new_revision(set: &StatefulSet, data: Value, number: i64, collision_count: i32) -> ControllerRevision {
    let first = set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
    let template = set.spec.as_ref().map(|spec| &spec.template);
    let mut labels = template.and_then(|template| template.metadata.as_ref()).and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    labels.insert(HASH.to_owned(), hash(&data, first));
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(revision_name(set, &hash(&data, collision_count))),
            namespace: set.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: set.metadata.annotations.clone(),
            owner_references: Some(vec![owner_ref(set)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: number,
    }
}

/// The template in a revision's data.
pub(crate) fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    decode(&revision.data.as_ref()?.0)?.spec.map(|spec| spec.template)
}

fn decode(data: &Value) -> Option<StatefulSet> {
    let mut template = data.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    strip_nulls(&mut template);
    StatefulSet::from_value(&json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "spec": { "selector": {}, "serviceName": "", "template": template } })).ok()
}

fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|_, value| {
            strip_nulls(value);
            !value.is_null()
        }),
        Value::Array(list) => list.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

/// Same bytes, or the same template once both are read and written again by one encoder (kubernetes#134773: an upgrade that writes a field
/// differently must not restart every pod).
pub(crate) fn same_data(left: Option<&Value>, right: Option<&Value>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) if left == right => true,
        (Some(left), Some(right)) => match (decode(left), decode(right)) {
            (Some(left), Some(right)) => data(&left) == data(&right),
            _ => false,
        },
        _ => false,
    }
}

fn data_of(revision: &ControllerRevision) -> Option<&Value> {
    revision.data.as_ref().map(|data| &data.0)
}

/// Which revision the set's template is, and what must be written for that.
#[derive(Debug, Clone)]
pub(crate) enum Update {
    /// The newest there is.
    Newest(Arc<ControllerRevision>),
    /// An older one: a roll back, which gives it the highest number.
    Renumber(Arc<ControllerRevision>, i64),
    /// None yet.
    Create(Box<ControllerRevision>),
}

impl Update {
    /// The revision's name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Newest(revision) | Self::Renumber(revision, _) => name_of(&revision.metadata),
            Self::Create(revision) => name_of(&revision.metadata),
        }
    }
}

/// Upstream: `getStatefulSetRevisions`. `revisions` are sorted (see [`sort`]).
pub(crate) fn update(set: &StatefulSet, revisions: &[Arc<ControllerRevision>], collision_count: i32) -> Update {
    let data = data(set);
    let number = revisions.last().map_or(1, |newest| newest.revision + 1);
    let equal = revisions.iter().rposition(|revision| same_data(data_of(revision), Some(&data)));
    match equal {
        Some(found) if found + 1 == revisions.len() => Update::Newest(revisions[found].clone()),
        Some(found) => Update::Renumber(revisions[found].clone(), number),
        None => Update::Create(Box::new(new_revision(set, data, number, collision_count))),
    }
}

/// By number, then age, then name.
pub(crate) fn sort(revisions: &mut [Arc<ControllerRevision>]) {
    revisions.sort_by(|a, b| {
        let key = |revision: &ControllerRevision| (revision.revision, revision.metadata.creation_timestamp.clone().map(|time| time.0), revision.metadata.name.clone());
        key(a).cmp(&key(b))
    });
}

/// The revisions to delete so that `revisionHistoryLimit` holds: the oldest of those that nothing uses. A negative limit keeps all.
pub(crate) fn beyond_limit(set: &StatefulSet, revisions: &[Arc<ControllerRevision>], live: &BTreeSet<&str>) -> Vec<Arc<ControllerRevision>> {
    let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(HISTORY_LIMIT);
    let Ok(limit) = usize::try_from(limit) else { return Vec::new() };
    let unused: Vec<_> = revisions.iter().filter(|revision| !live.contains(name_of(&revision.metadata))).collect();
    let excess = unused.len().saturating_sub(limit);
    unused.into_iter().take(excess).cloned().collect()
}

/// Whether a re-created pod takes the current revision instead of the new one. Upstream: `newVersionedStatefulSetPod`.
pub(crate) fn takes_current(set: &StatefulSet, index: i32) -> bool {
    let Some(spec) = &set.spec else { return false };
    let strategy = spec.update_strategy.as_ref();
    match strategy.and_then(|strategy| strategy.rolling_update.as_ref()) {
        Some(rolling) => index < rolling.partition.unwrap_or(0),
        None => {
            let rolling = strategy.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate") == "RollingUpdate";
            rolling && index < set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_with(metadata: Value) -> Value {
        json!({"spec": {"template": {"$patch": "replace", "metadata": metadata, "spec": {
            "containers": [{"image": "test", "imagePullPolicy": "Always", "name": "test", "resources": {},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
            "securityContext": {}, "terminationGracePeriodSeconds": 30}}}})
    }

    fn set_with(template: Value) -> StatefulSet {
        StatefulSet::from_value(&json!({"metadata": {"name": "test"}, "spec": {"selector": {}, "serviceName": "", "template": template}})).expect("a set")
    }

    /// The values that upstream's compatibility_revision_1.33.0.json and 1.34.0.json carry.
    #[test]
    fn hashes_are_the_ones_that_upstream_wrote() {
        let (labels, annotations) = (json!({"app": "foo"}), json!({"test": "value"}));
        let old = data_with(json!({"annotations": annotations, "creationTimestamp": null, "labels": labels}));
        let new = data_with(json!({"annotations": annotations, "labels": labels}));
        assert_eq!(hash(&old, 0), "c77f6d978");
        assert_eq!(hash(&new, 0), "776999688b");
        assert!(same_data(Some(&old), Some(&new)), "the same template, written by two versions");
    }

    #[test]
    fn the_data_of_a_defaulted_set_is_what_upstream_writes() {
        let mut template = data_with(json!({"annotations": {"test": "value"}, "labels": {"app": "foo"}}))["spec"]["template"].take();
        template.as_object_mut().expect("a map").remove("$patch");
        template["spec"]["containers"][0].as_object_mut().expect("a map").remove("resources");
        template["spec"]["containers"][0]["env"] = json!([]);
        template["spec"]["containers"][0]["tty"] = json!(false);
        assert_eq!(hash(&data(&set_with(template)), 0), "776999688b");
    }

    #[test]
    fn a_changed_image_is_another_revision_and_the_old_image_again_a_roll_back() {
        let image = |image: &str| set_with(json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": image}]}}));
        let Update::Create(one) = update(&image("a"), &[], 0) else { panic!("created") };
        let Update::Create(two) = update(&image("b"), &[Arc::new(*one.clone())], 0) else { panic!("created") };
        assert_eq!((one.revision, two.revision), (1, 2));
        let history = [Arc::new(*one.clone()), Arc::new(*two)];
        assert!(matches!(update(&image("b"), &history, 0), Update::Newest(_)));
        let Update::Renumber(back, number) = update(&image("a"), &history, 0) else { panic!("renumbered") };
        assert_eq!((name_of(&back.metadata), number), (name_of(&one.metadata), 3));
        assert_eq!(template(&one).and_then(|template| template.spec).and_then(|spec| spec.containers[0].image.clone()).as_deref(), Some("a"));
    }
}
