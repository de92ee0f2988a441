//! The three lists of containers.

use super::volumes::{self, Volumes};
use super::{fields, probes, resources, security};
use crate::value::Access;
use crate::{Errors, Path, names};
use serde_json::Value;
use std::collections::BTreeSet;

/// What a container's rules need to know of its pod.
pub(super) struct Pod<'a> {
    /// Volumes by name.
    pub volumes: &'a Volumes<'a>,
    /// The spec.
    pub spec: &'a Value,
    /// A real pod, not a template: a little stricter.
    pub real: bool,
}

impl Pod<'_> {
    fn grace(&self) -> Option<i64> {
        self.spec.int("terminationGracePeriodSeconds")
    }
}

/// `spec.containers`.
pub(super) fn regular(pod: &Pod<'_>, path: &Path<'_>, errors: &mut Errors) {
    let containers = pod.spec.list("containers");
    if containers.is_empty() {
        return errors.required(path, "");
    }
    let mut seen = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        let at = path.index(i);
        common(container, pod, &at, errors);
        let name = container.text("name");
        if !seen.insert(name) {
            errors.duplicate(at.at("name"), &name.into());
        }
        probes::all(container, pod.grace(), &at, errors);
        restart_policy(container, &at, errors);
    }
    host_ports(containers, path, errors);
}

/// `spec.initContainers`; one that restarts always (a sidecar) may have what a regular one has.
pub(super) fn init(pod: &Pod<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mut seen: BTreeSet<&str> = pod.spec.list("containers").iter().map(|c| c.text("name")).collect();
    for (i, container) in pod.spec.list("initContainers").iter().enumerate() {
        let at = path.index(i);
        common(container, pod, &at, errors);
        let policy = container.text("restartPolicy");
        restart_policy(container, &at, errors);
        let name = container.text("name");
        if !seen.insert(name) && !name.is_empty() {
            errors.duplicate(at.at("name"), &name.into());
        }
        host_ports(std::slice::from_ref(container), path, errors);
        if policy == "Always" {
            probes::all(container, pod.grace(), &at, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.has(field) {
                errors.forbidden(at.at(field), "may not be set for init containers without restartPolicy=Always");
            }
        }
    }
}

/// `spec.ephemeralContainers`.
pub(super) fn ephemeral(pod: &Pod<'_>, path: &Path<'_>, errors: &mut Errors) {
    let others: Vec<&str> =
        pod.spec.list("containers").iter().chain(pod.spec.list("initContainers")).map(|c| c.text("name")).collect();
    let mut seen: BTreeSet<&str> = others.iter().copied().collect();
    for (i, container) in pod.spec.list("ephemeralContainers").iter().enumerate() {
        let at = path.index(i);
        common(container, pod, &at, errors);
        let name = container.text("name");
        if !seen.insert(name) {
            errors.duplicate(at.at("name"), &name.into());
        }
        let target = container.text("targetContainerName");
        if !target.is_empty() && !others.contains(&target) {
            errors.not_found(at.at("targetContainerName"), &target.into());
        }
        for field in ["ports", "resources", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resizePolicy", "restartPolicy"] {
            if !crate::value::is_empty(container.at(field)) {
                errors.forbidden(at.at(field), "cannot be set for an Ephemeral Container");
            }
        }
        let list = at.at("volumeMounts");
        for (j, mount) in container.list("volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.text(field).is_empty() {
                    errors.forbidden(list.index(j).at(field), "cannot be set for an Ephemeral Container");
                }
            }
        }
    }
}

/// A container's own policy (KEP-5307, on by default since 1.35).
fn restart_policy(container: &Value, path: &Path<'_>, errors: &mut Errors) {
    if container.has("restartPolicy") {
        errors.one_of(path.at("restartPolicy"), container.text("restartPolicy"), &["Always", "Never", "OnFailure"]);
    } else if !container.list("restartPolicyRules").is_empty() {
        errors.required(path.at("restartPolicy"), "must specify restartPolicy when restart rules are used");
    }
}

fn common(container: &Value, pod: &Pod<'_>, path: &Path<'_>, errors: &mut Errors) {
    let (name, image) = (container.text("name"), container.text("image"));
    if name.is_empty() {
        errors.required(path.at("name"), "");
    } else {
        errors.rule(path.at("name"), name, names::dns_label);
    }
    if image.is_empty() {
        errors.required(path.at("image"), "");
    }
    errors.one_of(path.at("terminationMessagePolicy"), container.text("terminationMessagePolicy"), &["File", "FallbackToLogsOnError"]);
    ports(container.list("ports"), &path.at("ports"), errors);
    environment(container.list("env"), &path.at("env"), errors);
    environment_from(container.list("envFrom"), &path.at("envFrom"), errors);
    volumes::mounts(container, pod.volumes, &path.at("volumeMounts"), errors);
    volumes::devices(container, pod.volumes, &path.at("volumeDevices"), errors);
    errors.one_of(path.at("imagePullPolicy"), container.text("imagePullPolicy"), &["Always", "IfNotPresent", "Never"]);
    resources::requirements(container.at("resources"), pod.spec, &path.at("resources"), errors);
    let host_users = pod.spec.at("hostUsers").as_bool().unwrap_or(true);
    security::container(container.at("securityContext"), host_users, &path.at("securityContext"), errors);
    if pod.real && image.trim() != image {
        errors.invalid_text(path.at("image"), image, "must not have leading or trailing whitespace");
    }
}

fn ports(ports: &[Value], path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at = path.index(i);
        let name = port.text("name");
        if !name.is_empty() {
            let wrong = names::port_name(name);
            if wrong.is_empty() && !seen.insert(name) {
                errors.duplicate(at.at("name"), &name.into());
            }
            for detail in wrong {
                errors.invalid_text(at.at("name"), name, &detail);
            }
        }
        match port.int("containerPort").unwrap_or(0) {
            0 => errors.required(at.at("containerPort"), ""),
            number => probes::port_number(number, &at.at("containerPort"), errors),
        }
        if let Some(number) = port.int("hostPort").filter(|n| *n != 0) {
            probes::port_number(number, &at.at("hostPort"), errors);
        }
        errors.one_of(at.at("protocol"), port.text("protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

/// No two containers of a pod want the same port of the host.
fn host_ports(containers: &[Value], path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        let at = path.index(i);
        let list = at.at("ports");
        for (j, port) in container.list("ports").iter().enumerate() {
            let Some(number) = port.int("hostPort").filter(|n| *n != 0) else { continue };
            let key = format!("{}/{}/{number}", port.text("protocol"), port.text("hostIP"));
            if seen.contains(&key) {
                errors.duplicate(list.index(j).at("hostPort"), &key.into());
            } else {
                seen.insert(key);
            }
        }
    }
}

fn environment(variables: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (i, variable) in variables.iter().enumerate() {
        let at = path.index(i);
        if variable.text("name").is_empty() {
            errors.required(at.at("name"), "");
        } else {
            errors.rule(at.at("name"), variable.text("name"), names::environment_name);
        }
        if variable.has("valueFrom") {
            fields::value_from(variable, &at.at("valueFrom"), errors);
        }
    }
}

fn environment_from(sources: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (i, source) in sources.iter().enumerate() {
        let at = path.index(i);
        let prefix = source.text("prefix");
        if !prefix.is_empty() {
            errors.rule(at.at("prefix"), prefix, names::environment_name);
        }
        let mut count = 0;
        for kind in ["configMapRef", "secretRef"] {
            if !source.has(kind) {
                continue;
            }
            count += 1;
            let (name, at) = (source.at(kind).text("name"), at.at(kind));
            if name.is_empty() {
                errors.required(at.at("name"), "");
            } else {
                errors.rule(at.at("name"), name, names::dns_subdomain);
            }
        }
        match count {
            0 => errors.invalid_text(path, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid_text(path, "", "may not have more than one field specified at a time"),
        }
    }
}
