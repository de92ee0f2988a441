//! `persistentVolumeClaim`: the volume the claim is bound to, if its identity on disk is the expected one.

use super::{Context, Mounted, host_path, ownership};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(crate) async fn mount(context: &Context<'_>, name: &str, read_only: bool) -> Result<Mounted, String> {
    let claim = claim(context, name).await?;
    let uid = claim.metadata.uid.clone().unwrap_or_default();
    let volume_name = claim.spec.as_ref().and_then(|s| s.volume_name.clone()).filter(|n| !n.is_empty());
    let bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    let Some(volume_name) = volume_name.filter(|_| bound) else {
        return Err(format!("persistentvolumeclaim {name:?} is not bound"));
    };
    let volume = volume(context, &volume_name).await?;
    let spec = volume.spec.as_ref().ok_or_else(|| format!("persistentvolume {volume_name:?} has no spec"))?;
    if spec.claim_ref.as_ref().and_then(|r| r.uid.as_deref()) != Some(uid.as_str()) {
        return Err(format!("persistentvolume {volume_name:?} is bound to another claim than {name:?} ({uid})"));
    }
    let path = if let Some(local) = &spec.local {
        PathBuf::from(&local.path)
    } else if let Some(host) = &spec.host_path {
        host_path::mount(&host.path, host.type_.as_deref().unwrap_or_default()).await?.path
    } else {
        return Err(format!("persistentvolume {volume_name:?}: volumes of this type are not supported on this node; `local` and `hostPath` are"));
    };
    let ours = context.config.data_dir.join("volumes");
    // Once, before the first container: what a program restricted since (a key, a cookie) stays so while it runs. Upstream: localVolumeMounter's
    // SetUpAt (pkg/volume/local/local.go) leaves alone what is mounted already.
    let group = context.fs_group().filter(|_| !context.begun);
    let on_mismatch = context.pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|s| s.fs_group_change_policy.as_deref())
        == Some("OnRootMismatch");
    let checked = path.clone();
    let check = move || -> Result<(), String> {
        check_identity(&checked, &ours, &volume_name)?;
        if let Some(group) = group.filter(|_| !read_only)
            && !(on_mismatch && ownership::root_matches(&checked, group)) {
                ownership::give(&checked, group, false).map_err(|e| format!("fsGroup {group} of {}: {e}", checked.display()))?;
            }
        Ok(())
    };
    tokio::task::spawn_blocking(check).await.map_err(|e| e.to_string())??;
    Ok(Mounted { path, read_only })
}

/// How long a claim may take from its pod's binding to its own: the scheduler decides first, the provisioner writes a moment later.
const BOUND_WITHIN: Duration = Duration::from_secs(3);

/// The claim, once it is Bound; the cache tells of that, so that nothing waits for a retry.
async fn claim(context: &Context<'_>, name: &str) -> Result<Arc<PersistentVolumeClaim>, String> {
    let claims = context.cluster.persistent_volume_claims();
    let mut changes = claims.subscribe();
    let is_bound = |claim: &PersistentVolumeClaim| claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    let waited = tokio::time::timeout(BOUND_WITHIN, async {
        loop {
            match claims.get(context.namespace(), name) {
                Some(claim) if is_bound(&claim) => return Some(claim),
                _ => {}
            }
            if let Err(tokio::sync::broadcast::error::RecvError::Closed) = changes.recv().await {
                return None;
            }
        }
    });
    if let Ok(Some(claim)) = waited.await {
        return Ok(claim);
    }
    match context.cluster.get::<PersistentVolumeClaim>(context.namespace(), name).await {
        Ok(claim) => Ok(Arc::new(claim)),
        Err(e) if e.is_not_found() => Err(format!("persistentvolumeclaim {name:?} not found")),
        Err(e) => Err(e.to_string()),
    }
}

async fn volume(context: &Context<'_>, name: &str) -> Result<Arc<PersistentVolume>, String> {
    let cached = context.cluster.persistent_volumes().get("", name);
    match cached.filter(|v| v.spec.as_ref().and_then(|s| s.claim_ref.as_ref()).is_some_and(|r| r.uid.is_some())) {
        Some(volume) => Ok(volume),
        None => match context.cluster.get::<PersistentVolume>("", name).await {
            Ok(volume) => Ok(Arc::new(volume)),
            Err(e) if e.is_not_found() => Err(format!("persistentvolume {name:?} not found")),
            Err(e) => Err(e.to_string()),
        },
    }
}

/// A volume of our provisioner carries `volume.json` beside its `data` directory; without it, or with another's name in it, what is there is
/// not this claim's data: an unmounted disk, a restored or moved directory. A volume made by hand must at least exist.
fn check_identity(path: &Path, ours: &Path, volume: &str) -> Result<(), String> {
    let shown = path.display();
    if !std::fs::symlink_metadata(path).is_ok_and(|m| m.is_dir()) && path.starts_with(ours) {
        return Err(format!("the data directory {shown} of volume {volume:?} is missing; if its disk is not mounted, mount it (the pod does not start on an empty one)"));
    }
    if !path.exists() {
        return Err(format!("path {shown} does not exist"));
    }
    if !path.starts_with(ours) {
        return Ok(());
    }
    let file = path.parent().unwrap_or(path).join("volume.json");
    let text = std::fs::read(&file).map_err(|e| format!("the identity of volume {volume:?} cannot be read from {}: {e}; the pod does not start on data that may be another's", file.display()))?;
    let found: serde_json::Value = serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", file.display()))?;
    match found["volume"].as_str() {
        Some(found) if found == volume => Ok(()),
        found => Err(format!("{} names volume {:?}, not {volume:?}: this is another volume's data", file.display(), found.unwrap_or("none"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_missing_or_another_volumes_is_refused() {
        let dir = std::env::temp_dir().join(format!("mainstay-claim-{}", std::process::id()));
        let volume = dir.join("pvc-1");
        let data = volume.join("data");
        let check = || check_identity(&data, &dir, "pvc-1").map_err(|e| e.split(&*dir.to_string_lossy()).collect::<Vec<_>>().join("…"));
        assert!(check().unwrap_err().contains("is missing; if its disk is not mounted"));
        std::fs::create_dir_all(&data).unwrap();
        assert!(check().unwrap_err().contains("identity of volume \"pvc-1\" cannot be read"));
        std::fs::write(volume.join("volume.json"), r#"{"volume":"pvc-2"}"#).unwrap();
        assert!(check().unwrap_err().contains("names volume \"pvc-2\", not \"pvc-1\""));
        std::fs::write(volume.join("volume.json"), r#"{"volume":"pvc-1","claim":"a/b","claimUID":"x"}"#).unwrap();
        assert_eq!(check(), Ok(()));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
