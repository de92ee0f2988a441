//! `emptyDir`: a directory on the node's disk, or with `medium: Memory` a tmpfs, that lives as long as the pod.

use super::{Context, Mounted, ownership};
use crate::quantity;
use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use nix::mount::{MsFlags, mount as mount_fs};
use std::io;
use std::os::unix::fs::PermissionsExt;

pub(crate) async fn mount(context: &Context<'_>, name: &str, source: &EmptyDirVolumeSource) -> Result<Mounted, String> {
    let memory = source.medium.as_deref() == Some("Memory");
    let path = if memory { context.paths.sandbox_dir().join("memory").join(name) } else { context.paths.volume("empty-dir", name) };
    let group = context.fs_group();
    let limit = source.size_limit.as_ref().and_then(|q| quantity::units(&q.0)).filter(|v| *v > 0);
    let made = path.clone();
    let make = move || -> io::Result<()> {
        let fresh = !made.exists();
        std::fs::create_dir_all(&made)?;
        if memory && crate::mounts::below(&made)?.is_empty() {
            let options = limit.map_or_else(|| "mode=0777".to_owned(), |bytes| format!("mode=0777,size={bytes}"));
            mount_fs(Some("tmpfs"), &made, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))?;
        }
        if fresh {
            std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o777))?;
            if let Some(group) = group {
                ownership::give(&made, group, false)?;
            }
        }
        Ok(())
    };
    tokio::task::spawn_blocking(make).await.map_err(io::Error::other).flatten().map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(Mounted { path, read_only: false })
}
