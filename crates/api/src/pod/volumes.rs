//! What volumes may say, and which names a container may mount.

use super::fields::{downward_file, local_path, no_backsteps, non_reserved_path};
use crate::quantity::Quantity;
use crate::value::Access;
use crate::{Errors, Path, names};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const MODE_MESSAGE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Every source a pod's volume can have, in the order in which upstream looks for them.
const SOURCES: [&str; 30] = [
    "emptyDir", "hostPath", "gitRepo", "gcePersistentDisk", "awsElasticBlockStore", "secret", "nfs", "iscsi", "glusterfs", "flocker",
    "persistentVolumeClaim", "rbd", "cinder", "cephfs", "quobyte", "downwardAPI", "fc", "flexVolume", "configMap", "azureFile",
    "vsphereVolume", "photonPersistentDisk", "portworxVolume", "azureDisk", "storageos", "projected", "scaleIO", "csi", "ephemeral", "image",
];

/// Sources of which nothing more is asked than that some fields are there.
const REQUIRED_FIELDS: [(&str, &[&str]); 17] = [
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", &["endpoints", "path"]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("quobyte", &["registry", "volume"]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
];

/// The names that containers may mount, each with its volume.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Value>;

/// `spec.volumes`; what is wrong with one keeps it out of the names.
pub(super) fn volumes<'a>(volumes: &'a [Value], path: &Path<'_>, errors: &mut Errors) -> Volumes<'a> {
    let mut known = Volumes::new();
    for (i, volume) in volumes.iter().enumerate() {
        let at = path.index(i);
        let before = errors.0.len();
        let name = volume.text("name");
        source(volume, &at, errors);
        if name.is_empty() {
            errors.required(at.at("name"), "");
        } else {
            errors.rule(at.at("name"), name, names::dns_label);
        }
        if known.contains_key(name) {
            errors.duplicate(at.at("name"), &name.into());
        }
        if errors.0.len() == before {
            known.insert(name, volume);
        }
    }
    known
}

/// Exactly one source, and what each asks for.
fn source(volume: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut found = SOURCES.iter().filter(|name| volume.has(name));
    let Some(first) = found.next() else {
        return errors.required(path, "must specify a volume type");
    };
    one_source(first, volume.at(first), &path.at(first), errors);
    for another in found {
        errors.forbidden(path.at(another), "may not specify more than 1 volume type");
    }
}

fn one_source(name: &str, source: &Value, path: &Path<'_>, errors: &mut Errors) {
    if simple_source(name, source, path, errors) {
        return;
    }
    match name {
        "emptyDir" if Quantity::of(source.at("sizeLimit")).is_negative() => {
            errors.forbidden(path.at("sizeLimit"), "SizeLimit field must be a valid resource quantity");
        }
        "secret" => {
            require(source, "secretName", path, errors);
            mode(source, "defaultMode", path, errors);
            key_to_paths(source, path, errors);
        }
        "configMap" => {
            require(source, "name", path, errors);
            mode(source, "defaultMode", path, errors);
            key_to_paths(source, path, errors);
        }
        "downwardAPI" => {
            mode(source, "defaultMode", path, errors);
            source.list("items").iter().for_each(|file| downward_file(file, path, errors));
        }
        "projected" => projected(source, path, errors),
        "ephemeral" => {
            let at = path.at("volumeClaimTemplate");
            if source.has("volumeClaimTemplate") {
                crate::kinds::core::persistent_volume_claim::validate_spec(source.at("volumeClaimTemplate.spec"), &at.at("spec"), errors);
            } else {
                errors.required(at, "");
            }
        }
        "image" => {
            require(source, "reference", path, errors);
            let policy = source.text("pullPolicy");
            if !policy.is_empty() {
                errors.one_of(path.at("pullPolicy"), policy, &["Always", "IfNotPresent", "Never"]);
            }
        }
        _ => {}
    }
}

/// Sources that pods and PersistentVolumes share. False when `name` is none of them.
pub(crate) fn simple_source(name: &str, source: &Value, path: &Path<'_>, errors: &mut Errors) -> bool {
    if let Some((_, fields)) = REQUIRED_FIELDS.iter().find(|(n, _)| *n == name) {
        fields.iter().for_each(|field| require(source, field, path, errors));
        return true;
    }
    match name {
        "hostPath" => host_path(source, path, errors),
        "nfs" => {
            require(source, "server", path, errors);
            require(source, "path", path, errors);
            if !source.text("path").starts_with('/') {
                errors.invalid_text(path.at("path"), source.text("path"), "must be an absolute path");
            }
        }
        "fc" => {
            let (names, ids) = (source.list("targetWWNs"), source.list("wwids"));
            if names.is_empty() && ids.is_empty() {
                errors.required(path.at("targetWWNs"), "must specify either targetWWNs or wwids, but not both");
            }
            if !names.is_empty() && !source.has("lun") {
                errors.required(path.at("lun"), "lun is required if targetWWNs is specified");
            }
        }
        "flocker" if source.text("datasetName").is_empty() && source.text("datasetUUID").is_empty() => {
            errors.required(path, "one of datasetName and datasetUUID is required");
        }
        "flocker" | "storageos" => {}
        "csi" => csi_driver(source.text("driver"), &path.at("driver"), errors),
        _ => return false,
    }
    true
}

fn host_path(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    if source.text("path").is_empty() {
        return errors.required(path.at("path"), "");
    }
    no_backsteps(source.text("path"), &path.at("path"), errors);
    let kinds = ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    errors.one_of(path.at("type"), source.text("type"), &kinds);
}

/// The name of a CSI driver.
pub(crate) fn csi_driver(driver: &str, path: &Path<'_>, errors: &mut Errors) {
    if driver.is_empty() {
        return errors.required(path, "");
    }
    if driver.len() > 63 {
        errors.too_long(path, 63);
    }
    errors.rule(path, &driver.to_lowercase(), names::dns_subdomain);
}

pub(crate) fn require(source: &Value, field: &str, path: &Path<'_>, errors: &mut Errors) {
    let value = source.at(field);
    if value.as_str().is_some_and(str::is_empty) || value.is_null() || value.as_array().is_some_and(Vec::is_empty) {
        errors.required(path.at(field), "");
    }
}

fn mode(source: &Value, field: &str, path: &Path<'_>, errors: &mut Errors) {
    if let Some(mode) = source.int(field).filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(path.at(field), &mode.into(), MODE_MESSAGE);
    }
}

fn key_to_paths(source: &Value, path: &Path<'_>, errors: &mut Errors) {
    let list = path.at("items");
    for (i, item) in source.list("items").iter().enumerate() {
        let at = list.index(i);
        require(item, "key", &at, errors);
        require(item, "path", &at, errors);
        non_reserved_path(item.text("path"), &at.at("path"), errors);
        mode(item, "mode", &at, errors);
    }
}

fn projected(volume: &Value, path: &Path<'_>, errors: &mut Errors) {
    mode(volume, "defaultMode", path, errors);
    let list = path.at("sources");
    let mut paths = BTreeSet::new();
    for (i, source) in volume.list("sources").iter().enumerate() {
        let at = list.index(i);
        for kind in ["secret", "configMap"] {
            let (one, at) = (source.at(kind), at.at(kind));
            if one.is_null() {
                continue;
            }
            require(one, "name", &at, errors);
            key_to_paths(one, &at, errors);
            for file in one.list("items").iter().map(|item| item.text("path")).filter(|p| !p.is_empty()) {
                if !paths.insert(file) {
                    errors.invalid_text(path, one.text("name"), "conflicting duplicate paths");
                }
            }
        }
        let downward = at.at("downwardAPI");
        for file in source.list("downwardAPI.items") {
            downward_file(file, &downward, errors);
            let name = file.text("path");
            if !name.is_empty() && !paths.insert(name) {
                errors.invalid_text(path, name, "conflicting duplicate paths");
            }
        }
        if source.has("serviceAccountToken") {
            token(source.at("serviceAccountToken"), path, &at.at("serviceAccountToken"), errors);
        }
        if source.as_object().is_some_and(|fields| fields.len() > 1) {
            errors.forbidden(at, "may not specify more than 1 volume type per source");
        }
    }
}

/// The token's own path is reported at the volume's, as upstream does.
fn token(token: &Value, volume_path: &Path<'_>, path: &Path<'_>, errors: &mut Errors) {
    let seconds = token.int("expirationSeconds").unwrap_or(0);
    if seconds < 600 {
        errors.invalid(path.at("expirationSeconds"), &seconds.into(), "may not specify a duration less than 10 minutes");
    }
    if seconds > 1 << 32 {
        errors.invalid(path.at("expirationSeconds"), &seconds.into(), "may not specify a duration larger than 2^32 seconds");
    }
    if token.text("path").is_empty() {
        errors.required(volume_path.at("path"), "");
    } else {
        non_reserved_path(token.text("path"), &volume_path.at("path"), errors);
    }
}

/// `volumeMounts` of one container.
pub(super) fn mounts(container: &Value, volumes: &Volumes<'_>, path: &Path<'_>, errors: &mut Errors) {
    let devices = container.list("volumeDevices");
    let privileged = container.flag("securityContext.privileged");
    let mut seen = BTreeSet::new();
    for (i, mount) in container.list("volumeMounts").iter().enumerate() {
        let at = path.index(i);
        let (name, target) = (mount.text("name"), mount.text("mountPath"));
        if name.is_empty() {
            errors.required(at.at("name"), "");
        }
        if !volumes.contains_key(name) {
            errors.not_found(at.at("name"), &name.into());
        }
        if target.is_empty() {
            errors.required(at.at("mountPath"), "");
        }
        if !seen.insert(target) {
            errors.invalid_text(at.at("mountPath"), target, "must be unique");
        }
        if devices.iter().any(|d| d.text("name") == name) {
            errors.invalid_text(at.at("name"), name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|d| d.text("devicePath") == target) {
            errors.invalid_text(at.at("mountPath"), target, "must not already exist as a path in volumeDevices");
        }
        sub_path(mount, volumes, path, &at, errors);
        propagation(mount, privileged, path, errors);
    }
}

fn sub_path(mount: &Value, volumes: &Volumes<'_>, list: &Path<'_>, path: &Path<'_>, errors: &mut Errors) {
    let image = volumes.get(mount.text("name")).is_some_and(|v| v.has("image"));
    for field in ["subPath", "subPathExpr"] {
        let text = mount.text(field);
        if text.is_empty() {
            continue;
        }
        if image {
            errors.invalid_text(path.at(field), text, "not allowed in image volume sources");
        }
        if field == "subPathExpr" && !mount.text("subPath").is_empty() {
            errors.invalid_text(path.at(field), text, "subPathExpr and subPath are mutually exclusive");
        }
        local_path(text, &list.at(field), errors);
    }
}

fn propagation(mount: &Value, privileged: bool, list: &Path<'_>, errors: &mut Errors) {
    if let Some(mode) = mount.at("mountPropagation").as_str() {
        errors.one_of(list.at("mountPropagation"), mode, &["Bidirectional", "HostToContainer", "None"]);
        if mode == "Bidirectional" && !privileged {
            errors.forbidden(list.at("mountPropagation"), "Bidirectional mount propagation is available only to privileged containers");
        }
    }
    match mount.at("recursiveReadOnly").as_str() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !mount.flag("readOnly") {
                errors.forbidden(list.at("recursiveReadOnly"), "may only be specified when readOnly is true");
            }
            if !matches!(mount.text("mountPropagation"), "" | "None") {
                errors.forbidden(list.at("recursiveReadOnly"), "may only be specified when mountPropagation is None or not specified");
            }
        }
        Some(other) => errors.not_supported(list.at("recursiveReadOnly"), &other.into(), &["Disabled", "Enabled", "IfPossible"]),
    }
}

/// `volumeDevices` of one container.
pub(super) fn devices(container: &Value, volumes: &Volumes<'_>, path: &Path<'_>, errors: &mut Errors) {
    let mounts = container.list("volumeMounts");
    let (mut seen_names, mut seen_paths) = (BTreeSet::new(), BTreeSet::new());
    for (i, device) in container.list("volumeDevices").iter().enumerate() {
        let at = path.index(i);
        let (name, target) = (device.text("name"), device.text("devicePath"));
        if name.is_empty() {
            errors.required(at.at("name"), "");
        }
        if !seen_names.insert(name) {
            errors.invalid_text(at.at("name"), name, "must be unique");
        }
        match volumes.get(name) {
            Some(volume) if volume.has("persistentVolumeClaim") || volume.has("ephemeral") => {}
            Some(_) => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid_text(at.at("name"), name, detail);
            }
            None => errors.not_found(at.at("name"), &name.into()),
        }
        if target.is_empty() {
            errors.required(at.at("devicePath"), "");
        }
        if !seen_paths.insert(target) {
            errors.invalid_text(at.at("devicePath"), target, "must be unique");
        }
        if target.split('/').any(|part| part == "..") {
            errors.invalid_text(at.at("devicePath"), target, "can not contain backsteps ('..')");
        }
        if mounts.iter().any(|m| m.text("name") == name) {
            errors.invalid_text(at.at("name"), name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|m| m.text("mountPath") == target) {
            errors.invalid_text(at.at("devicePath"), target, "must not already exist as a path in volumeMounts");
        }
    }
}
