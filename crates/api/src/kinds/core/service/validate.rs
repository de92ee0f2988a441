//! What a service may say (`ValidateService`), and what of it may change.

use super::is_headless;
use crate::kinds::core::validate_endpoint_ip;
use crate::pod::probes::{port, port_number};
use crate::pod::validate::ip;
use crate::value::Access;
use crate::{Errors, Path, meta, names};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const AFFINITY_MAX_SECONDS: i64 = 86_400;

pub(in super::super) fn validate(service: &Value, errors: &mut Errors) {
    let (spec, path) = (service.at("spec"), Path::new("spec"));
    let kind = spec.text("type");
    if spec.list("ports").is_empty() && !is_headless(service) && kind != "ExternalName" {
        errors.required(path.at("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(service) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.invalid_text(path.at("clusterIPs").index(0), "None", &detail);
        }
        "ExternalName" => external_name(spec, &path, errors),
        _ => {}
    }
    ports(spec, &path.at("ports"), errors);
    meta::labels(spec.at("selector"), &path.at("selector"), errors);
    affinity(spec, &path, errors);
    if kind != "ExternalName" {
        cluster_ips(service, &path, errors);
    }
    let list = path.at("externalIPs");
    for (i, address) in spec.list("externalIPs").iter().enumerate() {
        validate_endpoint_ip(address.as_str().unwrap_or(""), &list.index(i), errors);
    }
    errors.one_of(path.at("type"), kind, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    distinct_ports(spec, &path.at("ports"), errors);
    load_balancer(spec, &path, errors);
    traffic(spec, &path, errors);
}

fn external_name(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !crate::value::is_empty(spec.at(field)) {
            errors.forbidden(path.at(field), "may not be set for ExternalName services");
        }
    }
    let name = spec.text("externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.required(path.at("externalName"), "");
    } else {
        errors.rule(path.at("externalName"), name, names::dns_subdomain);
    }
}

fn ports(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let ports = spec.list("ports");
    let mut seen = BTreeSet::new();
    for (i, one) in ports.iter().enumerate() {
        let at = path.index(i);
        let name = one.text("name");
        if name.is_empty() && ports.len() > 1 {
            errors.required(at.at("name"), "");
        } else if !name.is_empty() {
            errors.rule(at.at("name"), name, names::dns_label);
            if !seen.insert(name) {
                errors.duplicate(at.at("name"), &name.into());
            }
        }
        port_number(one.int("port").unwrap_or(0), &at.at("port"), errors);
        errors.one_of(at.at("protocol"), one.text("protocol"), &["SCTP", "TCP", "UDP"]);
        port(one.at("targetPort"), &at.at("targetPort"), errors);
        if let Some(protocol) = one.at("appProtocol").as_str() {
            errors.rules(&at.at("appProtocol"), protocol, names::qualified_name);
        }
    }
}

/// No two ports of one protocol share a number, inside or on the nodes.
fn distinct_ports(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let ports = spec.list("ports");
    let mut on_nodes = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let number = port.int("nodePort").unwrap_or(0);
        if number == 0 {
            continue;
        }
        let at = path.index(i);
        if spec.text("type") == "ClusterIP" {
            errors.forbidden(at.at("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
        if !on_nodes.insert((port.text("protocol"), number)) {
            errors.duplicate(at.at("nodePort"), &number.into());
        }
    }
    let mut inside = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let (protocol, number) = (port.text("protocol"), port.int("port").unwrap_or(0));
        if !inside.insert((protocol, number)) {
            errors.duplicate(path.index(i), &json!({"protocol": protocol, "port": number}));
        }
    }
}

fn affinity(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    errors.one_of(path.at("sessionAffinity"), spec.text("sessionAffinity"), &["ClientIP", "None"]);
    if spec.text("sessionAffinity") == "ClientIP" {
        let seconds = spec.int("sessionAffinityConfig.clientIP.timeoutSeconds").unwrap_or(0);
        if !(1..=AFFINITY_MAX_SECONDS).contains(&seconds) {
            let detail = format!("must be greater than 0 and less than {AFFINITY_MAX_SECONDS}");
            errors.invalid(path.at("sessionAffinityConfig.clientIP.timeoutSeconds"), &seconds.into(), &detail);
        }
    }
}

fn cluster_ips(service: &Value, path: &Path<'_>, errors: &mut Errors) {
    let spec = service.at("spec");
    let (one, many, list) = (spec.text("clusterIP"), spec.list("clusterIPs"), path.at("clusterIPs"));
    if !one.is_empty() && many.is_empty() {
        errors.required(list, "");
    } else if one.is_empty() && !many.is_empty() {
        errors.invalid(list, spec.at("clusterIPs"), "must be empty when `clusterIP` is not specified");
    } else if many.first().is_some_and(|first| first != one) {
        errors.invalid(list, spec.at("clusterIPs"), "first value must match `clusterIP`");
    }
    let families = path.at("ipFamilies");
    for (i, family) in spec.list("ipFamilies").iter().enumerate() {
        errors.one_of(families.index(i), family.as_str().unwrap_or(""), &["IPv4", "IPv6"]);
        if spec.list("ipFamilies")[..i].contains(family) {
            errors.duplicate(families.index(i), family);
        }
    }
    if let Some(policy) = spec.at("ipFamilyPolicy").as_str() {
        errors.one_of(path.at("ipFamilyPolicy"), policy, &["PreferDualStack", "RequireDualStack", "SingleStack"]);
    }
    for (i, address) in many.iter().filter_map(Value::as_str).enumerate() {
        match address {
            "None" if i == 0 && many.len() > 1 => errors.invalid(list, spec.at("clusterIPs"), "'None' must be the first and only value"),
            "None" if i == 0 => {}
            address => ip(address, &list.index(i), errors),
        }
    }
    if many.len() > 2 {
        errors.invalid(list, spec.at("clusterIPs"), "may only hold up to 2 values");
    }
}

fn load_balancer(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    if spec.text("type") == "LoadBalancer" {
        if let Some(class) = spec.at("loadBalancerClass").as_str() {
            errors.rules(&path.at("loadBalancerClass"), class, names::qualified_name);
        }
        return;
    }
    let only = "may only be used when `type` is 'LoadBalancer'";
    if !spec.list("loadBalancerSourceRanges").is_empty() {
        errors.forbidden(path.at("LoadBalancerSourceRanges"), only);
    }
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if spec.has(field) {
            errors.forbidden(path.at(field), only);
        }
    }
}

fn traffic(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (kind, external) = (spec.text("type"), spec.text("externalTrafficPolicy"));
    let reachable = matches!(kind, "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && !spec.list("externalIPs").is_empty());
    if !reachable && !external.is_empty() {
        errors.invalid_text(path.at("externalTrafficPolicy"), external, "may only be set for externally-accessible services");
    } else if reachable && kind != "ClusterIP" {
        errors.one_of(path.at("externalTrafficPolicy"), external, &["Cluster", "Local"]);
    }
    let check = spec.int("healthCheckNodePort").unwrap_or(0);
    if check != 0 && !(kind == "LoadBalancer" && external == "Local") {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid(path.at("healthCheckNodePort"), &check.into(), detail);
    }
    if let Some(policy) = spec.at("internalTrafficPolicy").as_str() {
        errors.one_of(path.at("internalTrafficPolicy"), policy, &["Cluster", "Local"]);
    }
    if let Some(distribution) = spec.at("trafficDistribution").as_str() {
        errors.one_of(path.at("trafficDistribution"), distribution, &["PreferClose", "PreferSameNode", "PreferSameZone"]);
    }
}

pub(in super::super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let external = |service: &Value| service.text("spec.type") == "ExternalName";
    if external(new) || external(old) {
        return;
    }
    let path = Path::new("spec");
    let list = path.at("clusterIPs");
    let (now, before) = (new.list("spec.clusterIPs"), old.list("spec.clusterIPs"));
    if now.is_empty() && !before.is_empty() {
        errors.invalid(list.index(0), new.at("spec.clusterIPs"), "primary clusterIP can not be unset");
    }
    for (i, _) in before.iter().zip(now).enumerate().filter(|(_, (old, new))| old != new) {
        errors.invalid(list.index(i), new.at("spec.clusterIPs"), "may not change once set");
    }
    let families = (new.list("spec.ipFamilies").first(), old.list("spec.ipFamilies").first());
    if let (Some(now), Some(before)) = families
        && now != before
        && !is_headless(new)
        && !is_headless(old)
    {
        errors.invalid(path.at("ipFamilies").index(0), new.at("spec.ipFamilies"), "may not change once set");
    }
    let balanced = |service: &Value| service.text("spec.type") == "LoadBalancer";
    if balanced(new) && balanced(old) && new.at("spec.loadBalancerClass") != old.at("spec.loadBalancerClass") {
        errors.invalid(path.at("loadBalancerClass"), new.at("spec.loadBalancerClass"), "may not change once set");
    }
    let check = |service: &Value| service.int("spec.healthCheckNodePort").filter(|_| balanced(service));
    if let (Some(now), Some(before)) = (check(new), check(old))
        && now != before
    {
        errors.forbidden(path.at("healthCheckNodePort"), "field is immutable");
    }
}

pub(in super::super) fn warnings(service: &Value) -> Vec<String> {
    let mut all = Vec::new();
    if is_headless(service) && service.text("spec.sessionAffinity") != "None" {
        all.push("spec.SessionAffinity is ignored for headless services".to_owned());
    }
    if !service.text("spec.loadBalancerIP").is_empty() {
        all.push("spec.loadBalancerIP is deprecated since v1.24; use an implementation-specific annotation instead".to_owned());
    }
    all
}
