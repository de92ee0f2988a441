//! A job's pods: how they are made, and what is read from them.

use crate::owners::{name_of, owner_ref};
use crate::pods::{from_template, phase, terminating};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use mainstay_client::selector::Labels;

/// Finalizer of a pod that is not counted yet.
pub(crate) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Label: the job's name.
pub(crate) const NAME_LABEL: &str = "batch.kubernetes.io/job-name";
/// Annotation and label: which of the completions it is.
pub(crate) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Annotation: how often this index has failed before, with a limit of its own for every index.
pub(crate) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// Annotation: how often it has failed by a rule that does not count.
pub(crate) const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// What the pod reads its index from.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// A name is at most 63 bytes, five of them random.
const PREFIX_MAX: usize = 58;

/// Whether a pod still waits to be counted.
pub(crate) fn tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == TRACKING)
}

/// A pod's finalizers without ours.
pub(crate) fn other_finalizers(pod: &Pod) -> Vec<String> {
    pod.metadata.finalizers.iter().flatten().filter(|finalizer| *finalizer != TRACKING).cloned().collect()
}

/// Whether a job's selector matches.
pub(crate) fn selects(job: &Job, labels: Option<&Labels>, matches: fn(&LabelSelector, Option<&Labels>) -> bool) -> bool {
    job.spec.as_ref().and_then(|spec| spec.selector.as_ref()).is_some_and(|selector| matches(selector, labels))
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Which completion a pod is for.
pub(crate) fn index(pod: &Pod) -> Option<i32> {
    annotation(pod, INDEX)?.parse().ok().filter(|index| *index >= 0)
}

/// What an annotation counts.
pub(crate) fn counted(pod: &Pod, key: &str) -> i32 {
    annotation(pod, key).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Failed, or on its way out without having succeeded: it will never come to an end that can be seen. Upstream: `isPodFailed`.
pub(crate) fn failed(pod: &Pod, only_ended: bool) -> bool {
    phase(pod) == "Failed" || (!only_ended && terminating(pod) && phase(pod) != "Succeeded")
}

/// A pod of the job; for an index with its failures so far (counted, ignored).
pub(crate) fn new_pod(job: &Job, index: Option<i32>, failures: Option<(i32, i32)>) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut pod = from_template(&template, &job.metadata, owner_ref(job));
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == TRACKING) {
        finalizers.push(TRACKING.to_owned());
    }
    let Some(index) = index else { return pod };
    let text = index.to_string();
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), text.clone());
    if let Some((counted, ignored)) = failures {
        annotations.insert(FAILURES.to_owned(), counted.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED_FAILURES.to_owned(), ignored.to_string());
        }
    }
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), text);
    let (name, suffix) = (name_of(&job.metadata), format!("-{index}-"));
    pod.metadata.generate_name = Some(format!("{}{suffix}", &name[..name.len().min(PREFIX_MAX - suffix.len())]));
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(format!("{name}-{index}"));
        spec.init_containers.iter_mut().flatten().chain(&mut spec.containers).for_each(tell_index);
    }
    pod
}

fn tell_index(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == INDEX_VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector { api_version: None, field_path: format!("metadata.labels['{INDEX}']") };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    variables.push(EnvVar { name: INDEX_VARIABLE.to_owned(), value: None, value_from: Some(source) });
}
