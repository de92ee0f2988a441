//! This machine as a Node: its object, its lease.

use crate::context::Node as Context;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use mainstay_client::{Error, Resource};
use serde_json::{Value, json};
use std::time::Duration;

/// Upstream's: a lease of 40 s, renewed every 10; the status at least every 5 minutes.
pub(crate) const RENEW_EVERY: Duration = Duration::from_secs(10);
pub(crate) const STATUS_EVERY: Duration = Duration::from_secs(300);
const LEASE_SECONDS: i32 = 40;
const LEASES: &str = "kube-node-lease";
/// What the API says it is.
const KUBELET_VERSION: &str = "v1.36.3";

/// Makes the Node or takes over the one there is, and reports it Ready. Returns its uid.
pub(crate) async fn register(context: &Context) -> Result<String, Error> {
    let name = &context.config.name;
    let wanted = object(context);
    let node = match context.cluster.get::<Node>("", name).await {
        Ok(found) => {
            let patch = json!({"metadata": {"labels": wanted["metadata"]["labels"]}, "spec": wanted["spec"]});
            let same = found.to_value();
            let labels_there = wanted["metadata"]["labels"].as_object().into_iter().flatten().all(|(k, v)| same["metadata"]["labels"][k] == *v);
            if labels_there && same["spec"]["podCIDR"] == wanted["spec"]["podCIDR"] { found } else { context.cluster.merge_patch::<Node>("", name, None, &patch).await? }
        }
        Err(error) if error.is_not_found() => {
            let node = Node::from_value(&wanted).map_err(|source| Error::Decode { doing: "make the Node object".into(), source })?;
            context.cluster.create::<Node>(&node).await?
        }
        Err(error) => return Err(error),
    };
    report(context).await?;
    Ok(node.metadata.uid.unwrap_or_default())
}

fn object(context: &Context) -> Value {
    let name = &context.config.name;
    let (address, bits) = context.network.ranges().pods;
    let cidr = format!("{address}/{bits}");
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": architecture(),
                "beta.kubernetes.io/os": "linux",
                "beta.kubernetes.io/arch": architecture(),
                "node-role.kubernetes.io/control-plane": "",
            },
        },
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        "status": status(context, None),
    })
}

/// Writes the Node's status: Ready since it first was.
pub(crate) async fn report(context: &Context) -> Result<(), Error> {
    let name = &context.config.name;
    let before = context.cluster.get::<Node>("", name).await?.to_value();
    let patch = json!({"status": status(context, Some(&before))});
    context.cluster.merge_patch::<Node>("", name, Some("status"), &patch).await.map(drop)
}

fn status(context: &Context, before: Option<&Value>) -> Value {
    let capacity = context.capacity;
    let resources = json!({
        "cpu": capacity.cpus.to_string(),
        "memory": format!("{}Ki", capacity.memory_bytes / 1024),
        "ephemeral-storage": format!("{}Ki", capacity.disk_bytes / 1024),
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
        "pods": "110",
    });
    json!({
        "capacity": resources,
        "allocatable": resources,
        "addresses": [{"type": "InternalIP", "address": context.ip.to_string()}, {"type": "Hostname", "address": context.config.name}],
        "conditions": conditions(before),
        "nodeInfo": node_info(),
        "images": images(context),
    })
}

fn conditions(before: Option<&Value>) -> Value {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let since = |kind: &str, status: &str| {
        let old = before.and_then(|b| b["status"]["conditions"].as_array()).into_iter().flatten();
        let same = old.into_iter().find(|c| c["type"] == kind && c["status"] == status);
        same.and_then(|c| c["lastTransitionTime"].as_str()).unwrap_or(&now).to_owned()
    };
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message, "lastHeartbeatTime": now, "lastTransitionTime": since(kind, status)})
    };
    json!([
        condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ])
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn node_info() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let release = read("/etc/os-release");
    let os = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux").trim_matches('"').to_owned();
    json!({
        "architecture": architecture(),
        "bootID": read("/proc/sys/kernel/random/boot_id"),
        "containerRuntimeVersion": concat!("mainstay://", env!("CARGO_PKG_VERSION")),
        "kernelVersion": read("/proc/sys/kernel/osrelease"),
        "kubeProxyVersion": "",
        "kubeletVersion": KUBELET_VERSION,
        "machineID": read("/etc/machine-id"),
        "operatingSystem": "linux",
        "osImage": os,
        "systemUUID": read("/sys/class/dmi/id/product_uuid"),
    })
}

/// Upstream's bound: 50 images.
fn images(context: &Context) -> Value {
    let list = context.images.list();
    let shown = list.iter().take(50).map(|image| json!({"names": image.names.iter().chain(&image.digests).take(5).collect::<Vec<_>>(), "sizeBytes": image.size_bytes}));
    Value::Array(shown.collect())
}

/// Renews the node's lease, making it where it is missing.
pub(crate) async fn renew(context: &Context, uid: &str) -> Result<(), Error> {
    let name = &context.config.name;
    let now = MicroTime(Timestamp::now());
    let patch = json!({"spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}});
    match context.cluster.merge_patch::<Lease>(LEASES, name, None, &patch).await {
        Err(error) if error.is_not_found() => {}
        other => return other.map(drop),
    }
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(LEASES.into()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: name.clone(),
                uid: uid.to_owned(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    match context.cluster.create(&lease).await {
        Err(error) if !error.is_already_exists() => Err(error),
        _ => Ok(()),
    }
}
