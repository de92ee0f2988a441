//! Events about a pod, in upstream's words (1.36).

use super::reference::PodRef;
use k8s_openapi::api::core::v1::Pod;
use mainstay_client::{Recorder, Severity};

/// Writes events about one pod.
#[derive(Clone)]
pub(crate) struct Events {
    recorder: Recorder,
    pod: PodRef,
}

impl Events {
    pub(crate) fn new(recorder: Recorder, pod: PodRef) -> Self {
        Self { recorder, pod }
    }
    pub(crate) fn warn(&self, reason: &str, message: impl Into<String>) {
        self.recorder.record(self.pod.object(), Severity::Warning, reason, message);
    }
    pub(crate) fn container(&self, pod: &Pod, container: &str, reason: &str, message: impl Into<String>) {
        self.recorder.record(self.pod.container_object(pod, container), Severity::Normal, reason, message);
    }
    pub(crate) fn warn_container(&self, pod: &Pod, container: &str, reason: &str, message: impl Into<String>) {
        self.recorder.record(self.pod.container_object(pod, container), Severity::Warning, reason, message);
    }
}
