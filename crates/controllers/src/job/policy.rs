//! What a pod's failure means for its job. Upstream: pkg/controller/job/pod_failure_policy.go and success_policy.go.

use super::indexes;
use crate::owners::name_of;
use k8s_openapi::api::batch::v1::{Job, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use std::collections::BTreeSet;

/// What the first rule that matches says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It counts against the limit: also where no rule matches.
    Count,
    /// It does not count.
    Ignore,
    /// Its index has failed.
    FailIndex,
    /// The job has failed; why.
    FailJob(String),
}

/// Reads a pod that has failed.
pub(crate) fn judge(job: &Job, pod: &Pod) -> Verdict {
    let rules = job.spec.as_ref().and_then(|spec| spec.pod_failure_policy.as_ref()).map(|policy| policy.rules.as_slice()).unwrap_or_default();
    for (number, rule) in rules.iter().enumerate() {
        let Some(what) = matched(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(format!("{what} matching FailJob rule at index {number}")),
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

/// In words, if it matches.
fn matched(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let who = format!("{}/{}", pod.metadata.namespace.as_deref().unwrap_or_default(), name_of(&pod.metadata));
    if let Some(requirement) = &rule.on_exit_codes {
        let mut statuses = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
        let (container, code) = statuses.find_map(|status| Some((&status.name, wanted_code(requirement, status)?)))?;
        return Some(format!("Container {container} for pod {who} failed with exit code {code}"));
    }
    let patterns = rule.on_pod_conditions.iter().flatten();
    let holds = |kind: &str, wanted: &str| status.conditions.iter().flatten().any(|condition| condition.type_ == kind && condition.status == wanted);
    let pattern = patterns.into_iter().find(|pattern| holds(&pattern.type_, pattern.status.as_deref().unwrap_or("True")))?;
    Some(format!("Pod {who} has condition {}", pattern.type_))
}

fn wanted_code(requirement: &PodFailurePolicyOnExitCodesRequirement, status: &ContainerStatus) -> Option<i32> {
    let code = status.state.as_ref()?.terminated.as_ref()?.exit_code;
    let named = requirement.container_name.as_ref().is_none_or(|name| *name == status.name);
    let listed = requirement.values.contains(&code);
    (named && code != 0 && listed == (requirement.operator == "In")).then_some(code)
}

/// Which rule of the success policy is met, in words.
pub(crate) fn success(job: &Job, completions: i32, succeeded: &BTreeSet<i32>) -> Option<String> {
    let policy = job.spec.as_ref()?.success_policy.as_ref()?;
    let met = |rule: &k8s_openapi::api::batch::v1::SuccessPolicyRule| {
        let count = |of: usize| rule.succeeded_count.is_some_and(|count| usize::try_from(count).is_ok_and(|count| of >= count));
        match &rule.succeeded_indexes {
            Some(text) => {
                let wanted = indexes::parse(text, completions);
                let done = wanted.intersection(succeeded).count();
                if rule.succeeded_count.is_some() { count(done) } else { done == wanted.len() }
            }
            None => count(succeeded.len()),
        }
    };
    policy.rules.iter().position(met).map(|number| format!("Matched rules at index {number}"))
}
