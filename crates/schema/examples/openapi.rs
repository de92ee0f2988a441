//! Writes the documents that `kubectl` reads to a directory, and prints what they, the arena and the walk cost.
//!
//! `cargo run --release -p mainstay-schema --example openapi -- /tmp/openapi`

use mainstay_schema::{GroupVersion, Operation, check, document, root};
use serde_json::json;
use std::time::Instant;

const fn kind(kind: &'static str, plural: &'static str, namespaced: bool, subresources: &'static [&'static str]) -> Operation {
    Operation { kind, plural, namespaced, subresources }
}

const CORE: &[Operation] = &[
    kind("ConfigMap", "configmaps", true, &[]),
    kind("Endpoints", "endpoints", true, &[]),
    kind("Event", "events", true, &[]),
    kind("Namespace", "namespaces", false, &["status", "finalize"]),
    kind("Node", "nodes", false, &["status"]),
    kind("PersistentVolume", "persistentvolumes", false, &["status"]),
    kind("PersistentVolumeClaim", "persistentvolumeclaims", true, &["status"]),
    kind("Pod", "pods", true, &["status", "log", "exec", "attach", "binding", "eviction"]),
    kind("PodTemplate", "podtemplates", true, &[]),
    kind("Secret", "secrets", true, &[]),
    kind("Service", "services", true, &["status"]),
    kind("ServiceAccount", "serviceaccounts", true, &["token"]),
];
const APPS: &[Operation] = &[kind("StatefulSet", "statefulsets", true, &["status", "scale"]), kind("ControllerRevision", "controllerrevisions", true, &[])];

fn main() {
    let directory = std::env::args().nth(1).expect("a directory to write to");
    let started = Instant::now();
    let ty = root("v1", "Pod").expect("pods are known");
    println!("arena: {:?}", started.elapsed());
    for (group, kinds) in [("", CORE), ("apps", APPS)] {
        for _ in 0..3 {
            let started = Instant::now();
            let bytes = document(&GroupVersion { group, version: "v1", kinds });
            println!("document {group:?}: {} bytes in {:?}", bytes.len(), started.elapsed());
            std::fs::write(format!("{directory}/{}.json", if group.is_empty() { "core" } else { group }), bytes).expect("write the document");
        }
    }
    let container = |name: &str| json!({"name": name, "image": "registry.example.com/team/postgres:18.1", "command": ["/bin/sh", "-c", "exec postgres"], "ports": [{"containerPort": 5432, "name": "pg", "protocol": "TCP"}],
        "env": [{"name": "POSTGRES_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "pg", "key": "password"}}}, {"name": "PGDATA", "value": "/var/lib/postgresql/data"}],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}, "volumeMounts": [{"name": "data", "mountPath": "/var/lib/postgresql"}],
        "readinessProbe": {"exec": {"command": ["pg_isready"]}, "periodSeconds": 1, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3}, "imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log"});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "postgres-0", "namespace": "default", "labels": {"app": "postgres", "statefulset.kubernetes.io/pod-name": "postgres-0"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [container("postgres"), container("sidecar")], "initContainers": [container("init")], "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data-postgres-0"}}], "restartPolicy": "Always"}});
    let mut best = std::time::Duration::MAX;
    for _ in 0..50 {
        let mut copies = vec![pod.clone(); 50];
        let started = Instant::now();
        for copy in &mut copies {
            check(ty, copy).expect("a valid pod");
        }
        best = best.min(started.elapsed() / 50);
    }
    println!("walk: {best:?} for a pod of {} bytes (best of 50)", pod.to_string().len());
}
