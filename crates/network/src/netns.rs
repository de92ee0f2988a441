//! Network namespaces without a process: made by a thread that leaves, kept by a bind mount.

use crate::{Error, wire::Wire};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::path::Path;

/// A new namespace, seen from outside.
pub(crate) struct Netns {
    /// For the kernel to put an interface into it.
    pub file: File,
    /// Route netlink inside it.
    pub wire: Wire,
}

/// What containerd sets in a pod's namespace too (`enable_unprivileged_ports`, `enable_unprivileged_icmp`), so that images which bind
/// port 80 as another user work; and no IPv6 beyond `::1`, which would be offered without leading anywhere.
const SYSCTLS: [(&str, &str); 3] = [
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
    ("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"),
];

/// Makes a namespace and pins it at `path`, in a thread of its own: `unshare` moves the calling thread, and a thread that ends needs no way back.
pub(crate) fn create(path: &Path) -> Result<Netns, Error> {
    let path = path.to_owned();
    let worker = std::thread::Builder::new().name("netns".into()).spawn(move || -> Result<Netns, Error> {
        let fail = |doing: &str| {
            let doing = format!("{doing} {}", path.display());
            move |e: std::io::Error| Error::kernel(doing, e)
        };
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| fail("make the network namespace")(e.into()))?;
        File::create(&path).map_err(fail("create"))?;
        mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|e| fail("pin the network namespace at")(e.into()))?;
        for (file, value) in SYSCTLS {
            // Absent where the kernel lacks the feature (IPv6): nothing to switch off.
            if let Err(error) = std::fs::write(file, value) {
                tracing::debug!(file, %error, "sysctl not set in the pod's namespace");
            }
        }
        let file = File::open("/proc/thread-self/ns/net").map_err(fail("open the network namespace"))?;
        Ok(Netns { file, wire: Wire::open()? })
    });
    let worker = worker.map_err(|e| Error::kernel("start a thread", e))?;
    worker.join().unwrap_or_else(|_| Err(Error::kernel("make the network namespace", "its thread panicked")))
}

/// Unpins and removes the file. Absent is done.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    use nix::errno::Errno;
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(e) => return Err(Error::kernel(format!("unpin {}", path.display()), e)),
        }
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::kernel(format!("remove {}", path.display()), e)),
        _ => Ok(()),
    }
}

/// Whether a namespace is pinned there.
pub(crate) fn is_pinned(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::FsType(libc::NSFS_MAGIC))
}
