//! Whether this kernel can run pods, found out before anything is promised.

use crate::{Config, Error, mounts};
use crate::container::{cgroup, rootfs};
use std::path::Path;

/// Blocking, a millisecond.
pub(crate) fn probe(config: &Config) -> Result<(), Error> {
    for (kind, what) in [("net", "network namespaces"), ("pid", "process namespaces"), ("ipc", "IPC namespaces"), ("uts", "UTS namespaces"), ("mnt", "mount namespaces")] {
        if !Path::new("/proc/self/ns").join(kind).exists() {
            return Err(Error::Kernel { what, remedy: "run a kernel with CONFIG_NAMESPACES".into() });
        }
    }
    cgroup::probe(&config.instance).map_err(|e| Error::Kernel {
        what: "writable cgroups",
        remedy: format!("mount /sys/fs/cgroup writable, and in a container run it privileged ({e})"),
    })?;
    let dir = config.data_dir.join(".overlay-probe");
    let tried = try_overlay(&dir);
    let cleaned = mounts::unmount_below(&dir).and_then(|()| mounts::remove_tree(&dir));
    tried.and(cleaned).map_err(|e| Error::Kernel {
        what: "overlayfs on the data directory",
        remedy: format!(
            "load the overlay module, or put --data-dir on ext4, btrfs or xfs made with ftype=1; {} is on neither ({e})",
            config.data_dir.display()
        ),
    })
}

fn try_overlay(dir: &Path) -> std::io::Result<()> {
    mounts::unmount_below(dir)?;
    mounts::remove_tree(dir)?;
    let lower = dir.join("lower");
    std::fs::create_dir_all(&lower)?;
    std::fs::write(lower.join("file"), b"")?;
    let root = rootfs::make(&dir.join("upper"), &[lower], &dir.join("links"))?;
    // Needs d_type and white-outs to work below.
    std::fs::remove_file(root.join("file"))?;
    if root.join("file").exists() {
        return Err(std::io::Error::other("a file removed on the overlay is still there"));
    }
    Ok(())
}
