//! What a namespace's deletion has come to: its conditions, and whether it can go.

use jiff::Timestamp;
use mainstay_client::k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus};
use mainstay_client::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;

/// The finalizer in `spec.finalizers` that is this controller's.
pub(super) const FINALIZER: &str = "kubernetes";

/// What there is.
pub(super) struct Observed<'a> {
    pub(super) namespace: &'a Namespace,
    /// `plural.group` and how many are left.
    pub(super) remaining: BTreeMap<String, usize>,
    /// Finalizers and how many objects wait for them.
    pub(super) finalizers: BTreeMap<String, usize>,
    /// What could not be deleted, in the server's words.
    pub(super) failures: Vec<String>,
}

/// What to do.
pub(super) struct Step {
    /// `None`: it says so already.
    pub(super) status: Option<NamespaceStatus>,
    pub(super) finalize: bool,
}

/// Whether a namespace is being deleted and waits for this controller.
pub(super) fn is_ours(namespace: &Namespace) -> bool {
    let waits = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref()).is_some_and(|list| list.iter().any(|name| name == FINALIZER));
    namespace.metadata.deletion_timestamp.is_some() && waits
}

/// Pure. Upstream's words: `namespaceConditionUpdater` (`pkg/controller/namespace/deletion/status_condition_utils.go`).
pub(super) fn step(observed: &Observed<'_>, now: Timestamp) -> Step {
    let finalize = observed.remaining.is_empty() && observed.failures.is_empty();
    let old = observed.namespace.status.clone().unwrap_or_default();
    let before = old.conditions.clone().unwrap_or_default();
    let conditions = conditions(observed).into_iter().map(|(kind, status, reason, message)| {
        let same = before.iter().find(|condition| condition.type_ == kind && condition.status == status);
        let last_transition_time = same.and_then(|condition| condition.last_transition_time.clone()).or_else(|| Some(Time(whole_seconds(now))));
        NamespaceCondition { type_: kind.into(), status: status.into(), reason: Some(reason.into()), message: Some(message), last_transition_time }
    });
    let status = NamespaceStatus { conditions: Some(conditions.collect()), phase: Some("Terminating".into()) };
    // Conditions of a namespace that goes this instant would be read by nobody.
    let worth_writing = status != old && !(finalize && before.is_empty());
    Step { status: worth_writing.then_some(status), finalize }
}

fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

fn conditions(observed: &Observed<'_>) -> [(&'static str, &'static str, &'static str, String); 5] {
    let list = |map: &BTreeMap<String, usize>, word: &str| {
        map.iter().map(|(name, count)| format!("{name} {word} {count} resource instances")).collect::<Vec<_>>().join(", ")
    };
    let failure = if observed.failures.is_empty() {
        ("False", "ContentDeleted", "All content successfully deleted, may be waiting on finalization".to_owned())
    } else {
        ("True", "ContentDeletionFailed", format!("Failed to delete all resource types, {} remaining: {}", observed.failures.len(), observed.failures.join(", ")))
    };
    let remaining = if observed.remaining.is_empty() {
        ("False", "ContentRemoved", "All content successfully removed".to_owned())
    } else {
        ("True", "SomeResourcesRemain", format!("Some resources are remaining: {}", list(&observed.remaining, "has")))
    };
    let finalizers = if observed.finalizers.is_empty() {
        ("False", "ContentHasNoFinalizers", "All content-preserving finalizers finished".to_owned())
    } else {
        ("True", "SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {}", list(&observed.finalizers, "in")))
    };
    [
        ("NamespaceDeletionDiscoveryFailure", "False", "ResourcesDiscovered", "All resources successfully discovered".to_owned()),
        ("NamespaceDeletionGroupVersionParsingFailure", "False", "ParsedGroupVersions", "All legacy kube types successfully parsed".to_owned()),
        ("NamespaceDeletionContentFailure", failure.0, failure.1, failure.2),
        ("NamespaceContentRemaining", remaining.0, remaining.1, remaining.2),
        ("NamespaceFinalizersRemaining", finalizers.0, finalizers.1, finalizers.2),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn namespace(status: serde_json::Value) -> Namespace {
        serde_json::from_value(json!({
            "metadata": {"name": "x", "deletionTimestamp": "2026-01-31T12:00:00Z"}, "spec": {"finalizers": ["kubernetes"]}, "status": status,
        }))
        .expect("a namespace")
    }

    fn check(status: serde_json::Value, remaining: &[(&str, usize)], finalizers: &[(&str, usize)], failures: &[&str], expected: &str) {
        let named = |list: &[(&str, usize)]| list.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let namespace = namespace(status);
        let observed = Observed {
            namespace: &namespace,
            remaining: named(remaining),
            finalizers: named(finalizers),
            failures: failures.iter().map(|text| (*text).to_owned()).collect(),
        };
        let step = step(&observed, Timestamp::UNIX_EPOCH);
        let mut said: Vec<String> = step.status.iter().flat_map(|status| status.conditions.iter().flatten()).filter(|condition| condition.status == "True").map(|condition| format!("{}: {}", condition.reason.as_deref().unwrap_or_default(), condition.message.as_deref().unwrap_or_default())).collect();
        if step.finalize {
            said.push("finalize".into());
        }
        assert_eq!(said.join("\n"), expected);
    }

    #[test]
    fn a_namespace_tells_what_it_waits_for_and_goes_when_it_is_empty() {
        let active = || json!({"phase": "Terminating"});
        check(active(), &[], &[], &[], "finalize");
        check(
            active(),
            &[("persistentvolumeclaims.", 1), ("statefulsets.apps", 2)],
            &[("kubernetes.io/pvc-protection", 1)],
            &[],
            "SomeResourcesRemain: Some resources are remaining: persistentvolumeclaims. has 1 resource instances, statefulsets.apps has 2 resource instances\n\
             SomeFinalizersRemain: Some content in the namespace has finalizers remaining: kubernetes.io/pvc-protection in 1 resource instances",
        );
        check(active(), &[], &[], &["no"], "ContentDeletionFailed: Failed to delete all resource types, 1 remaining: no");
    }

    #[test]
    fn conditions_are_written_once() {
        let mut living = namespace(json!({"phase": "Terminating"}));
        let observe = |namespace: &Namespace| {
            let observed = Observed { namespace, remaining: [("pods.".to_owned(), 1)].into(), finalizers: BTreeMap::new(), failures: Vec::new() };
            step(&observed, Timestamp::UNIX_EPOCH).status
        };
        living.status = observe(&living);
        assert!(living.status.is_some());
        assert!(observe(&living).is_none());
        living.metadata.deletion_timestamp = None;
        assert!(!is_ours(&living));
    }
}
