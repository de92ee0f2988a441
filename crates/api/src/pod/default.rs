//! What a pod says when it does not say it (pkg/apis/core/v1/defaults.go).

use crate::value::{Access, dig, fill, fill_number, fill_text, find_mut, items_mut, put, take};
use serde_json::{Value, json};

const CONTAINER_LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];
/// 0644.
const DEFAULT_MODE: i64 = 420;

/// A Pod: its spec, and what only a pod gets, not a template.
pub(crate) fn pod(pod: &mut Value) {
    let pod_spec = dig(pod, "spec");
    spec(pod_spec);
    fill(pod_spec, "enableServiceLinks", true);
    let host_network = pod_spec.flag("hostNetwork");
    for list in ["containers", "initContainers"] {
        for container in items_mut(pod_spec, list) {
            requests_from_limits(container);
            if host_network {
                for port in items_mut(container, "ports") {
                    let number = port.int("containerPort").unwrap_or(0);
                    fill_number(port, "hostPort", number);
                }
            }
        }
    }
    dig(pod, "status");
}

/// A pod template: `metadata` and `spec`.
pub(crate) fn template(template: &mut Value) {
    dig(template, "metadata");
    spec(dig(template, "spec"));
}

/// A PodSpec.
pub(crate) fn spec(spec: &mut Value) {
    fill_text(spec, "restartPolicy", "Always");
    fill_text(spec, "dnsPolicy", "ClusterFirst");
    fill_text(spec, "schedulerName", "default-scheduler");
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill(spec, "securityContext", json!({}));
    fill(spec, "containers", json!([]));
    service_account(spec);
    for list in CONTAINER_LISTS {
        items_mut(spec, list).for_each(container);
    }
    items_mut(spec, "volumes").for_each(volume);
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are shown.
fn service_account(spec: &mut Value) {
    let old = take(spec, "serviceAccount");
    if spec.text("serviceAccountName").is_empty()
        && let Some(name) = old.filter(|n| n != "")
    {
        put(spec, "serviceAccountName", name);
    }
    let name = spec.text("serviceAccountName").to_owned();
    if !name.is_empty() {
        put(spec, "serviceAccount", name);
    }
}

fn container(container: &mut Value) {
    fill(container, "resources", json!({}));
    fill_text(container, "terminationMessagePath", "/dev/termination-log");
    fill_text(container, "terminationMessagePolicy", "File");
    let policy = pull_policy(container.text("image"));
    fill_text(container, "imagePullPolicy", policy);
    for port in items_mut(container, "ports") {
        fill_text(port, "protocol", "TCP");
    }
    for variable in items_mut(container, "env") {
        if let Some(field) = find_mut(variable, "valueFrom.fieldRef") {
            fill_text(field, "apiVersion", "v1");
        }
    }
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = find_mut(container, kind) {
            self::probe(probe);
        }
    }
    for handler in ["lifecycle.postStart", "lifecycle.preStop"] {
        if let Some(get) = find_mut(container, handler).and_then(|h| find_mut(h, "httpGet")) {
            http_get(get);
        }
    }
}

/// What may change under its name is pulled each time.
fn pull_policy(image: &str) -> &'static str {
    if tag(image) == "latest" { "Always" } else { "IfNotPresent" }
}

/// The tag of an image; `latest` when it has neither tag nor digest.
fn tag(image: &str) -> &str {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, tag)) => tag,
        None if digest || image.is_empty() => "",
        None => "latest",
    }
}

fn probe(probe: &mut Value) {
    fill_number(probe, "timeoutSeconds", 1);
    fill_number(probe, "periodSeconds", 10);
    fill_number(probe, "successThreshold", 1);
    fill_number(probe, "failureThreshold", 3);
    if let Some(get) = find_mut(probe, "httpGet") {
        http_get(get);
    }
    if let Some(grpc) = find_mut(probe, "grpc") {
        fill(grpc, "service", "");
    }
}

fn http_get(get: &mut Value) {
    fill_text(get, "path", "/");
    fill_text(get, "scheme", "HTTP");
}

fn requests_from_limits(container: &mut Value) {
    let limits = container.object("resources.limits").clone();
    if limits.is_empty() {
        return;
    }
    let requests = dig(container, "resources.requests");
    for (resource, limit) in limits {
        fill(requests, &resource, limit);
    }
}

/// A volume of a pod; without any source it is an `emptyDir`.
pub(crate) fn volume(volume: &mut Value) {
    if volume.as_object().is_some_and(|fields| fields.keys().all(|k| k == "name")) {
        put(volume, "emptyDir", json!({}));
    }
    for source in ["configMap", "secret", "downwardAPI", "projected"] {
        if let Some(source) = find_mut(volume, source) {
            fill(source, "defaultMode", DEFAULT_MODE);
        }
    }
    if let Some(source) = find_mut(volume, "hostPath") {
        fill(source, "type", "");
    }
    if let Some(source) = find_mut(volume, "image") {
        let policy = pull_policy(source.text("reference"));
        fill_text(source, "pullPolicy", policy);
    }
    if let Some(source) = find_mut(volume, "iscsi") {
        fill_text(source, "iscsiInterface", "default");
    }
    if let Some(source) = find_mut(volume, "ephemeral.volumeClaimTemplate") {
        fill(source, "metadata", json!({}));
        fill_text(dig(source, "spec"), "volumeMode", "Filesystem");
    }
    items_mut(volume, "downwardAPI.items").for_each(downward_item);
    for source in items_mut(volume, "projected.sources") {
        items_mut(source, "downwardAPI.items").for_each(downward_item);
        if let Some(token) = find_mut(source, "serviceAccountToken") {
            fill_number(token, "expirationSeconds", 3600);
        }
    }
}

fn downward_item(item: &mut Value) {
    if let Some(field) = find_mut(item, "fieldRef") {
        fill_text(field, "apiVersion", "v1");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tag_of_an_image_decides_the_pull_policy() {
        let table = [
            ("nginx", "latest"), ("nginx:1.25", "1.25"), ("localhost:5000/nginx", "latest"), ("localhost:5000/a/nginx:2", "2"),
            ("nginx@sha256:abc", ""), ("nginx:1@sha256:abc", "1"), ("", ""),
        ];
        for (image, tag) in table {
            assert_eq!(super::tag(image), tag, "{image}");
        }
    }
}
