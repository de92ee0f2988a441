//! What a pod may say (pkg/apis/core/validation/validation.go, `ValidatePodSpec`; errors in its order).

use super::containers::{self, Pod};
use super::{scheduling, security, volumes};
use crate::value::Access;
use crate::{Errors, Path, meta, names};
use serde_json::Value;

const DEADLINE_MAX: i64 = 2_147_483_647;
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A Pod.
pub(crate) fn pod(pod: &Value, errors: &mut Errors) {
    let (path, spec) = (Path::new("spec"), pod.at("spec"));
    annotations(pod.at("metadata.annotations"), spec, &Path::new("metadata.annotations"), errors);
    self::spec(spec, &[], true, &path, errors);
    if spec.text("serviceAccountName").is_empty() {
        token_without_account(spec, &path.at("volumes"), errors);
    }
    if !spec.text("nodeName").is_empty() && !spec.list("schedulingGates").is_empty() {
        errors.forbidden(path.at("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
}

/// A pod template. `claims` are the names of volumes that its owner will add.
pub(crate) fn template(template: &Value, claims: &[Value], path: &Path<'_>, errors: &mut Errors) {
    meta::labels(template.at("metadata.labels"), &path.at("labels"), errors);
    meta::annotations(template.at("metadata.annotations"), &path.at("annotations"), errors);
    annotations(template.at("metadata.annotations"), template.at("spec"), &path.at("annotations"), errors);
    let at = path.at("spec");
    spec(template.at("spec"), claims, false, &at, errors);
    if !template.list("spec.ephemeralContainers").is_empty() {
        errors.forbidden(at.at("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}

fn annotations(annotations: &Value, spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (key, value) in annotations.object("") {
        let value = value.as_str().unwrap_or("");
        match key.as_str() {
            MIRROR if spec.text("nodeName").is_empty() => {
                errors.invalid_text(path.key(key), value, "must set spec.nodeName if mirror pod annotation is set");
            }
            "controller.kubernetes.io/pod-deletion-cost" if value.parse::<i32>().is_err() => {
                errors.invalid_text(path.key(key), value, "must be a 32bit integer");
            }
            _ => {}
        }
    }
}

fn token_without_account(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (i, volume) in spec.list("volumes").iter().enumerate() {
        let at = path.index(i);
        let at = at.at("projected.sources");
        for (j, source) in volume.list("projected.sources").iter().enumerate() {
            if source.has("serviceAccountToken") {
                errors.forbidden(at.index(j).at("serviceAccountToken"), "must not be specified when serviceAccountName is not set");
            }
        }
    }
}

/// A PodSpec.
fn spec(spec: &Value, claims: &[Value], real: bool, path: &Path<'_>, errors: &mut Errors) {
    if !spec.has("terminationGracePeriodSeconds") {
        errors.required(path.at("terminationGracePeriodSeconds"), "");
    }
    let with_claims = with_claims(spec.list("volumes"), claims);
    let own = with_claims.as_deref().unwrap_or(spec.list("volumes"));
    let volumes = volumes::volumes(own, &path.at("volumes"), errors);
    let pod = Pod { volumes: &volumes, spec, real };
    containers::regular(&pod, &path.at("containers"), errors);
    containers::init(&pod, &path.at("initContainers"), errors);
    containers::ephemeral(&pod, &path.at("ephemeralContainers"), errors);
    host_network(spec, real, &path.at("containers"), errors);
    errors.one_of(path.at("restartPolicy"), spec.text("restartPolicy"), &["Always", "OnFailure", "Never"]);
    errors.one_of(path.at("dnsPolicy"), spec.text("dnsPolicy"), &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    meta::labels(spec.at("nodeSelector"), &path.at("nodeSelector"), errors);
    security::pod(spec, &path.at("securityContext"), errors);
    scheduling::affinity(spec.at("affinity"), &path.at("affinity"), errors);
    dns_config(spec, &path.at("dnsConfig"), errors);
    gates(spec, path, errors);
    scheduling::topology_spread(spec.list("topologySpreadConstraints"), &path.at("topologySpreadConstraints"), errors);
    host_users(spec, path, errors);
    simple_fields(spec, path, errors);
    scheduling::tolerations(spec.list("tolerations"), &path.at("tolerations"), errors);
    host_aliases(spec.list("hostAliases"), &path.at("hostAliases"), errors);
    late_fields(spec, path, errors);
}

/// The claims' volumes instead of own ones of the same name, and after the rest; `None` when there are none to add.
fn with_claims(own: &[Value], claims: &[Value]) -> Option<Vec<Value>> {
    let free = |volume: &&Value| !claims.iter().any(|c| c.text("name") == volume.text("name"));
    (!claims.is_empty()).then(|| own.iter().filter(free).chain(claims).cloned().collect())
}

/// With the host's network a container's port is the host's.
fn host_network(spec: &Value, real: bool, path: &Path<'_>, errors: &mut Errors) {
    if !spec.flag("hostNetwork") {
        return;
    }
    for (i, container) in spec.list("containers").iter().enumerate() {
        let at = path.index(i);
        let list = at.at("ports");
        for (j, port) in container.list("ports").iter().enumerate() {
            let (host, own) = (port.int("hostPort").unwrap_or(0), port.int("containerPort").unwrap_or(0));
            if (real || host != 0) && host != own {
                errors.invalid(list.index(j).at("hostPort"), &host.into(), "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

fn dns_config(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let config = spec.at("dnsConfig");
    let servers = config.list("nameservers");
    if spec.text("dnsPolicy") == "None" {
        if config.is_null() {
            return errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if servers.is_empty() {
            return errors.required(path.at("nameservers"), "must provide at least one DNS nameserver when `dnsPolicy` is None");
        }
    }
    if servers.len() > 3 {
        errors.invalid(path.at("nameservers"), config.at("nameservers"), "must not have more than 3 nameservers");
    }
    let list = path.at("nameservers");
    for (i, server) in servers.iter().enumerate() {
        ip(server.as_str().unwrap_or(""), &list.index(i), errors);
    }
    let searches = config.list("searches");
    if searches.len() > 32 {
        errors.invalid(path.at("searches"), config.at("searches"), "must not have more than 32 search paths");
    }
    let length: usize = searches.iter().map(|s| s.as_str().map_or(0, str::len) + 1).sum();
    if length > 2049 {
        let detail = "must not have more than 2048 characters (including spaces) in the search list";
        errors.invalid(path.at("searches"), config.at("searches"), detail);
    }
    let list = path.at("searches");
    for (i, search) in searches.iter().filter_map(Value::as_str).enumerate() {
        if search != "." {
            errors.rule(list.index(i), &search.trim_end_matches('.').replace('_', "a"), names::dns_subdomain);
        }
    }
    let list = path.at("options");
    for (i, option) in config.list("options").iter().enumerate() {
        if option.text("name").is_empty() {
            errors.required(list.index(i), "must not be empty");
        }
    }
}

/// An IPv4 or IPv6 address.
pub(crate) fn ip(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.parse::<std::net::IpAddr>().is_err() {
        errors.invalid_text(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
}

fn gates(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let list = path.at("readinessGates");
    for (i, gate) in spec.list("readinessGates").iter().enumerate() {
        errors.rules(&list.index(i).at("conditionType"), gate.text("conditionType"), names::qualified_name);
    }
    let list = path.at("schedulingGates");
    let gates = spec.list("schedulingGates");
    for (i, gate) in gates.iter().enumerate() {
        errors.rules(&list.index(i), gate.text("name"), names::qualified_name);
        if gates[..i].contains(gate) {
            errors.duplicate(list.index(i), gate.at("name"));
        }
    }
}

fn host_users(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    if spec.at("hostUsers") != false {
        return;
    }
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.flag(field) {
            errors.forbidden(path.at(shown), "when `pod.Spec.HostUsers` is false");
        }
    }
}

fn simple_fields(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["serviceAccountName", "nodeName"] {
        if !spec.text(field).is_empty() {
            errors.rule(path.at(field), spec.text(field), names::dns_subdomain);
        }
    }
    if let Some(seconds) = spec.int("activeDeadlineSeconds").filter(|s| !(1..=DEADLINE_MAX).contains(s)) {
        errors.invalid(path.at("activeDeadlineSeconds"), &seconds.into(), &format!("must be between 1 and {DEADLINE_MAX}, inclusive"));
    }
    for field in ["hostname", "subdomain"] {
        if !spec.text(field).is_empty() {
            errors.rule(path.at(field), spec.text(field), names::dns_label);
        }
    }
}

fn host_aliases(aliases: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (i, alias) in aliases.iter().enumerate() {
        let at = path.index(i);
        ip(alias.text("ip"), &at.at("ip"), errors);
        let list = at.at("hostnames");
        for (j, name) in alias.list("hostnames").iter().filter_map(Value::as_str).enumerate() {
            errors.rule(list.index(j), name, names::dns_subdomain);
        }
    }
}

fn late_fields(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["priorityClassName", "runtimeClassName"] {
        if !spec.text(field).is_empty() {
            errors.rule(path.at(field), spec.text(field), names::dns_subdomain);
        }
    }
    if let Some(policy) = spec.at("preemptionPolicy").as_str() {
        errors.one_of(path.at("preemptionPolicy"), policy, &["PreemptLowerPriority", "Never"]);
    }
    if spec.has("os") {
        match spec.text("os.name") {
            "" => errors.required(path.at("os.name"), "cannot be empty"),
            name => errors.one_of(path.at("os"), name, &["linux", "windows"]),
        }
    }
}
