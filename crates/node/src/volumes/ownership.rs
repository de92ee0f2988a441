//! `fsGroup`: files of a volume belong to the pod's group.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

/// Upstream: `SetVolumeOwnership` (pkg/volume/volume_linux.go): group, rw for it, directories setgid. Symbolic links are not followed.
pub(crate) fn give(path: &Path, group: u32, read_only: bool) -> io::Result<()> {
    let meta = std::fs::symlink_metadata(path)?;
    if meta.gid() != group {
        lchown(path, None, Some(group))?;
    }
    if meta.is_symlink() {
        return Ok(());
    }
    let mut add = if read_only { 0o440 } else { 0o660 };
    if meta.is_dir() {
        add |= 0o110 | 0o2000;
    }
    let mode = meta.mode() & 0o7777;
    if mode & add != add || meta.gid() != group {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode | add))?;
    }
    if meta.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give(&entry?.path(), group, read_only)?;
        }
    }
    Ok(())
}

/// Whether the root of the volume already is as `give` leaves it (`fsGroupChangePolicy: OnRootMismatch`).
pub(crate) fn root_matches(path: &Path, group: u32) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|m| m.gid() == group && m.mode() & 0o2770 == 0o2770)
}
