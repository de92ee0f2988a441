//! What the rows create.

use serde_json::{Value, json};

/// Idle, and ends at once when it is told to.
pub(crate) const ENDS_ON_TERM: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done";
/// Idle, and lives until its grace period is over.
pub(crate) const IGNORES_TERM: &str = "trap '' TERM; while :; do sleep 3600; done";
/// Where [`with_shared`] mounts the directory that the host sees too.
pub(crate) const SHARED: &str = "/shared";

/// A busybox that runs a shell command; no probes, so it is Ready when it runs.
pub(crate) fn pod_spec(command: &str, grace_s: u32) -> Value {
    json!({
        "terminationGracePeriodSeconds": grace_s,
        "containers": [{"name": "main", "image": "busybox:latest", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", command]}],
    })
}

/// Mounts a directory of the host at [`SHARED`].
pub(crate) fn with_shared(mut spec: Value, dir: &std::path::Path) -> Value {
    spec["volumes"] = json!([{"name": "shared", "hostPath": {"path": dir}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "shared", "mountPath": SHARED}]);
    spec
}

pub(crate) fn pod(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
}

/// How a set makes its pods.
#[derive(Clone, Copy)]
pub(crate) struct Set {
    pub replicas: u32,
    pub parallel: bool,
    pub claims: bool,
}

/// A StatefulSet of the headless service [`SERVICE`].
pub(crate) fn stateful_set(name: &str, namespace: &str, set: Set, mut spec: Value) -> Value {
    if set.claims {
        spec["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    }
    let claims = if set.claims {
        json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}])
    } else {
        json!([])
    };
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "serviceName": SERVICE, "replicas": set.replicas, "podManagementPolicy": if set.parallel { "Parallel" } else { "OrderedReady" },
            "selector": {"matchLabels": {"set": name}},
            "template": {"metadata": {"labels": {"set": name, "app": SERVICE}}, "spec": spec},
            "volumeClaimTemplates": claims,
        },
    })
}

/// The headless service of every set here.
pub(crate) const SERVICE: &str = "bench";

pub(crate) fn headless_service() -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE}, "spec": {"clusterIP": "None", "selector": {"app": SERVICE}, "ports": [{"port": 80}]}})
}

/// A ConfigMap that is 1.2 KB once stored, as JSON text.
pub(crate) fn config_map(name: &str, mark: u64) -> String {
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"mark":"{mark:08}","text":"{}"}}}}"#, "x".repeat(940))
}
