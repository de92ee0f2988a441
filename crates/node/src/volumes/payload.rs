//! Volumes whose files come from objects: `configMap`, `secret`, `downwardAPI`, `projected`.

use super::Context;
use super::payload_dir::{self, File, Files};
use crate::container::fields;
use crate::objects;
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Volume, VolumeProjection};
use std::collections::BTreeMap;
use std::path::PathBuf;

const DEFAULT_MODE: i32 = 0o644;

pub(crate) fn is_payload(volume: &Volume) -> bool {
    volume.config_map.is_some() || volume.secret.is_some() || volume.downward_api.is_some() || volume.projected.is_some()
}

/// Brings the volume's files up to date and returns its directory.
pub(crate) async fn write(context: &Context<'_>, volume: &Volume) -> Result<PathBuf, String> {
    let (files, secret) = files(context, volume).await?;
    let path = if secret { context.paths.secret_volumes().join(&volume.name) } else { context.paths.volume("objects", &volume.name) };
    let (dir, group) = (path.clone(), context.fs_group());
    tokio::task::spawn_blocking(move || payload_dir::write(&dir, &files, group)).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    Ok(path)
}

/// The files, and whether they must not touch a disk.
async fn files(context: &Context<'_>, volume: &Volume) -> Result<(Files, bool), String> {
    let mut files = Files::new();
    if let Some(source) = &volume.config_map {
        let mode = mode(None, source.default_mode);
        config_map(context, &source.name, source.items.as_deref(), source.optional, mode, &mut files).await?;
        return Ok((files, false));
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        secret(context, name, source.items.as_deref(), source.optional, mode(None, source.default_mode), &mut files).await?;
        return Ok((files, true));
    }
    if let Some(source) = &volume.downward_api {
        downward(context, source.items.as_deref(), mode(None, source.default_mode), &mut files)?;
        return Ok((files, false));
    }
    let Some(projected) = &volume.projected else { return Ok((files, false)) };
    let default = mode(None, projected.default_mode);
    let mut is_secret = false;
    for (at, source) in projected.sources.iter().flatten().enumerate() {
        is_secret |= source.secret.is_some() || source.service_account_token.is_some();
        project(context, &format!("{}/{at}", volume.name), source, default, &mut files).await?;
    }
    Ok((files, is_secret))
}

async fn project(context: &Context<'_>, key: &str, source: &VolumeProjection, default: u32, files: &mut Files) -> Result<(), String> {
    if let Some(map) = &source.config_map {
        return config_map(context, &map.name, map.items.as_deref(), map.optional, default, files).await;
    }
    if let Some(from) = &source.secret {
        return secret(context, &from.name, from.items.as_deref(), from.optional, default, files).await;
    }
    if let Some(from) = &source.downward_api {
        return downward(context, from.items.as_deref(), default, files);
    }
    if let Some(from) = &source.service_account_token {
        let token = context.tokens.get(context.cluster, context.pod, key, from).await?;
        files.insert(from.path.clone(), File { mode: default, bytes: token.into_bytes() });
        return Ok(());
    }
    Err("this projected source is not supported on this node".to_owned())
}

fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    u32::try_from(own.or(default).unwrap_or(DEFAULT_MODE)).unwrap_or(0o644) & 0o777
}

async fn config_map(
    context: &Context<'_>,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    default: u32,
    files: &mut Files,
) -> Result<(), String> {
    let Some(map) = objects::config_map(context.cluster, context.namespace(), name).await? else {
        return if optional == Some(true) { Ok(()) } else { Err(format!("configmap {name:?} not found")) };
    };
    let mut data: BTreeMap<String, Vec<u8>> = map.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone().into_bytes())).collect();
    data.extend(map.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone())));
    select(data, items, optional, default, "configmap", files)
}

async fn secret(
    context: &Context<'_>,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    default: u32,
    files: &mut Files,
) -> Result<(), String> {
    let Some(secret) = objects::secret(context.cluster, context.namespace(), name).await? else {
        return if optional == Some(true) { Ok(()) } else { Err(format!("secret {name:?} not found")) };
    };
    let data = secret.data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone())).collect();
    select(data, items, optional, default, "secret", files)
}

fn select(
    mut data: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    default: u32,
    kind: &str,
    files: &mut Files,
) -> Result<(), String> {
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        files.extend(data.into_iter().map(|(name, bytes)| (name, File { mode: default, bytes })));
        return Ok(());
    };
    for item in items {
        match data.get_mut(&item.key) {
            Some(bytes) => {
                let file = File { mode: item.mode.map_or(default, |m| mode(Some(m), None)), bytes: bytes.clone() };
                files.insert(item.path.clone(), file);
            }
            None if optional == Some(true) => {}
            None => return Err(format!("references non-existent {kind} key: {}", item.key)),
        }
    }
    Ok(())
}

fn downward(context: &Context<'_>, items: Option<&[DownwardAPIVolumeFile]>, default: u32, files: &mut Files) -> Result<(), String> {
    for item in items.into_iter().flatten() {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => fields::field(context.pod, field, context.around)?,
            (None, Some(resource)) => fields::resource(context.pod, "", resource, context.around)?,
            (None, None) => continue,
        };
        files.insert(item.path.clone(), File { mode: item.mode.map_or(default, |m| mode(Some(m), None)), bytes: text.into_bytes() });
    }
    Ok(())
}
