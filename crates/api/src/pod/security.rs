//! Security contexts, of pods and of containers.

use super::fields::local_path;
use crate::value::Access;
use crate::{Errors, Path};
use serde_json::Value;
use std::collections::BTreeSet;

const ID_MAX: i64 = 0xffff_ffff;
const SYSCTL_PATTERN: &str = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

fn id(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(id) = value.as_i64().filter(|id| !(0..=ID_MAX).contains(id)) {
        errors.invalid(path, &id.into(), &format!("must be between 0 and {ID_MAX}, inclusive"));
    }
}

/// `spec.securityContext`.
pub(super) fn pod(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let context = spec.at("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(context.at(field), &path.at(field), errors);
    }
    let list = path.at("supplementalGroups");
    for (i, group) in context.list("supplementalGroups").iter().enumerate() {
        id(group, &list.index(i), errors);
    }
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        errors.invalid(path.at("shareProcessNamespace"), &true.into(), "ShareProcessNamespace and HostPID cannot both be enabled");
    }
    sysctls(spec, &path.at("sysctls"), errors);
    let choices: [(&str, &[&str]); 3] = [
        ("fsGroupChangePolicy", &["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", &["Merge", "Strict"]),
        ("seLinuxChangePolicy", &["MountOption", "Recursive"]),
    ];
    for (field, supported) in choices {
        if let Some(value) = context.at(field).as_str() {
            errors.one_of(path.at(field), value, supported);
        }
    }
    profiles(context, path, errors);
}

fn sysctls(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, sysctl) in spec.list("securityContext.sysctls").iter().enumerate() {
        let at = path.index(i);
        let at = at.at("name");
        let name = sysctl.text("name");
        let segment = |s: &str| {
            let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
            let bytes = s.as_bytes();
            bytes.first().is_some_and(|c| edge(*c)) && bytes.last().is_some_and(|c| edge(*c)) && bytes.iter().all(|c| edge(*c) || b"-_".contains(c))
        };
        if name.is_empty() {
            errors.required(at, "");
        } else if name.len() > 253 || !name.split(['.', '/']).all(segment) {
            errors.invalid_text(at, name, SYSCTL_PATTERN);
        } else if !seen.insert(name) {
            errors.duplicate(at, &name.into());
        }
        let dotted = name.replace('/', ".");
        if spec.flag("hostNetwork") && dotted.starts_with("net.") {
            errors.invalid_text(at, name, "may not be specified when 'hostNetwork' is true");
        }
        let ipc = ["kernel.sem", "kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| dotted.starts_with(p));
        if spec.flag("hostIPC") && ipc {
            errors.invalid_text(at, name, "may not be specified when 'hostIPC' is true");
        }
    }
}

/// `securityContext` of a container.
pub(super) fn container(context: &Value, host_users: bool, path: &Path<'_>, errors: &mut Errors) {
    if context.is_null() {
        return;
    }
    for field in ["runAsUser", "runAsGroup"] {
        id(context.at(field), &path.at(field), errors);
    }
    if let Some(kind) = context.at("procMount").as_str() {
        errors.one_of(path.at("procMount"), kind, &["Default", "Unmasked"]);
        if host_users && kind == "Unmasked" {
            errors.invalid_text(path.at("procMount"), kind, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    if context.at("allowPrivilegeEscalation") == false {
        if context.flag("privileged") {
            errors.invalid(path, context, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        if context.list("capabilities.add").iter().any(|c| c == "CAP_SYS_ADMIN") {
            errors.invalid(path, context, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
        }
    }
    profiles(context, path, errors);
}

fn profiles(context: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (seccomp, at) = (context.at("seccompProfile"), path.at("seccompProfile"));
    if !seccomp.is_null() {
        profile_type(seccomp, "type is required when seccompProfile is set", &at, errors);
        let localhost = seccomp.text("type") == "Localhost";
        match seccomp.at("localhostProfile").as_str() {
            Some(file) if localhost => local_path(file, &at.at("localhostProfile"), errors),
            None if localhost => errors.required(at.at("localhostProfile"), "must be set when seccomp type is Localhost"),
            Some(_) => errors.invalid(at.at("localhostProfile"), seccomp, "can only be set when seccomp type is Localhost"),
            None => {}
        }
    }
    let (armor, at) = (context.at("appArmorProfile"), path.at("appArmorProfile"));
    if !armor.is_null() {
        profile_type(armor, "type is required when appArmorProfile is set", &at, errors);
        let localhost = armor.text("type") == "Localhost";
        match armor.at("localhostProfile").as_str() {
            Some(name) if localhost && name.trim() != name => {
                errors.invalid_text(at.at("localhostProfile"), name, "must not be padded with whitespace");
            }
            Some("") | None if localhost => errors.required(at.at("localhostProfile"), "must be set when AppArmor type is Localhost"),
            Some(name) if !localhost => errors.invalid_text(at.at("localhostProfile"), name, "can only be set when AppArmor type is Localhost"),
            _ => {}
        }
    }
}

fn profile_type(profile: &Value, missing: &str, path: &Path<'_>, errors: &mut Errors) {
    match profile.text("type") {
        "" => errors.required(path.at("type"), missing),
        kind => errors.one_of(path.at("type"), kind, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}
