//! What a service says when it does not say it, and what an update keeps.

use super::{HEADLESS, has_node_ports};
use crate::Admission;
use crate::value::{Access, dig, fill, fill_text, items_mut, put, take};
use serde_json::{Value, json};

const AFFINITY_SECONDS: i64 = 10_800;

pub(in super::super) fn default(service: &mut Value) {
    let spec = dig(service, "spec");
    fill_text(spec, "type", "ClusterIP");
    fill_text(spec, "sessionAffinity", "None");
    match spec.text("sessionAffinity") {
        "ClientIP" => fill(dig(spec, "sessionAffinityConfig.clientIP"), "timeoutSeconds", AFFINITY_SECONDS),
        _ => drop(take(spec, "sessionAffinityConfig")),
    }
    for port in items_mut(spec, "ports") {
        fill_text(port, "protocol", "TCP");
        let target = port.at("targetPort");
        if target.is_null() || *target == 0 || *target == "" {
            let number = port.at("port").clone();
            put(port, "targetPort", number);
        }
    }
    let kind = spec.text("type").to_owned();
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        fill_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        fill_text(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
    }
    fill(dig(service, "status"), "loadBalancer", json!({}));
}

pub(in super::super) fn prepare_create(service: &mut Value, _: &dyn Admission) {
    put(service, "status", json!({"loadBalancer": {}}));
    first_cluster_ip(dig(service, "spec"));
}

/// `clusterIP` and the first of `clusterIPs` are one: who gives only one gets the other.
fn first_cluster_ip(spec: &mut Value) {
    let (one, many) = (spec.text("clusterIP").to_owned(), spec.list("clusterIPs").to_vec());
    if !one.is_empty() && many.is_empty() {
        put(spec, "clusterIPs", json!([one]));
    } else if let ("", Some(first)) = (one.as_str(), many.first()) {
        put(spec, "clusterIP", first.clone());
    }
}

/// Keeps what was allocated when the new object does not say (`kubectl replace` of the original manifest), and drops what
/// the new type no longer has (pkg/registry/core/service/strategy.go, `patchAllocatedValues`, `dropTypeDependentFields`).
pub(in super::super) fn prepare_update(service: &mut Value, old: &Value) {
    keep_cluster_ips(service, old);
    keep_node_ports(service, old);
    drop_dependent(service, old);
    first_cluster_ip(dig(service, "spec"));
}

fn keep_cluster_ips(service: &mut Value, old: &Value) {
    let needs = |kind: &str| matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer");
    if !needs(service.text("spec.type")) || !needs(old.text("spec.type")) {
        return;
    }
    let (old_one, old_many) = (old.text("spec.clusterIP").to_owned(), old.at("spec.clusterIPs").clone());
    let spec = dig(service, "spec");
    let one_changed = spec.text("clusterIP") != old_one && !spec.text("clusterIP").is_empty();
    // A client that knows only `clusterIP` sends the old list with its new value: the value wins.
    if one_changed && *spec.at("clusterIPs") == old_many {
        drop(take(spec, "clusterIPs"));
    }
    if spec.text("clusterIP").is_empty() && spec.list("clusterIPs").is_empty() && !old_one.is_empty() {
        put(spec, "clusterIP", old_one);
        put(spec, "clusterIPs", old_many);
    }
    for field in ["ipFamilies", "ipFamilyPolicy"] {
        if old.at("spec").has(field) {
            fill(spec, field, old.at("spec").at(field).clone());
        }
    }
}

/// A port is the same as an old one when its name (or, unnamed, its number) and protocol are.
fn keep_node_ports(service: &mut Value, old: &Value) {
    if !has_node_ports(service) || !has_node_ports(old) {
        return;
    }
    let key = |port: &Value| (port.text("protocol").to_owned(), port.int("port"));
    let taken: Vec<i64> = service.list("spec.ports").iter().filter_map(|p| p.int("nodePort")).filter(|p| *p != 0).collect();
    for port in items_mut(service, "spec.ports") {
        if port.int("nodePort").unwrap_or(0) != 0 {
            continue;
        }
        let before = old.list("spec.ports").iter().find(|p| key(p) == key(port)).and_then(|p| p.int("nodePort"));
        if let Some(number) = before.filter(|n| *n != 0 && !taken.contains(n)) {
            put(port, "nodePort", number);
        }
    }
    if old.has("spec.healthCheckNodePort") && service.text("spec.externalTrafficPolicy") == "Local" {
        let number = old.at("spec.healthCheckNodePort").clone();
        fill(dig(service, "spec"), "healthCheckNodePort", number);
    }
}

fn drop_dependent(service: &mut Value, old: &Value) {
    let kind = service.text("spec.type").to_owned();
    let changed = kind != old.text("spec.type");
    let unchanged = |field: &str, service: &Value| service.at("spec").at(field) == old.at("spec").at(field);
    if kind == "ExternalName" && changed {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            if unchanged(field, service) {
                drop(take(dig(service, "spec"), field));
            }
        }
    }
    if !has_node_ports(service) && has_node_ports(old) {
        let before: Vec<i64> = old.list("spec.ports").iter().filter_map(|p| p.int("nodePort")).collect();
        for port in items_mut(service, "spec.ports") {
            if port.int("nodePort").is_some_and(|n| before.contains(&n)) {
                drop(take(port, "nodePort"));
            }
        }
    }
    if !matches!(kind.as_str(), "NodePort" | "LoadBalancer") && unchanged("externalTrafficPolicy", service) {
        drop(take(dig(service, "spec"), "externalTrafficPolicy"));
    }
    if kind != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if unchanged(field, service) {
                drop(take(dig(service, "spec"), field));
            }
        }
    }
    let local = kind == "LoadBalancer" && service.text("spec.externalTrafficPolicy") == "Local";
    if !local && unchanged("healthCheckNodePort", service) {
        drop(take(dig(service, "spec"), "healthCheckNodePort"));
    }
}

/// The list of a headless service.
pub(super) fn headless_list() -> Value {
    json!([HEADLESS])
}
