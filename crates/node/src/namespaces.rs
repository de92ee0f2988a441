//! A pod's IPC and UTS namespaces, kept by bind mounts instead of by a pause process.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::io;
use std::path::Path;

/// Of the filesystem that namespaces are files of.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Whether a namespace is pinned at `path`.
pub(crate) fn is_pinned(path: &Path) -> bool {
    #[allow(clippy::unnecessary_cast)] // Its type differs between C libraries.
    nix::sys::statfs::statfs(path).is_ok_and(|s| s.filesystem_type().0 as i64 == NSFS_MAGIC)
}

/// Makes an IPC namespace and a UTS namespace with this host name, and pins them. On a thread of its own, that ends: `unshare` is per thread. Blocking.
pub(crate) fn pin(ipc: &Path, uts: &Path, hostname: &str) -> io::Result<()> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespaces".into()).stack_size(64 * 1024);
        let handle = thread.spawn_scoped(scope, || -> io::Result<()> {
            unshare(CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)?;
            nix::unistd::sethostname(hostname)?;
            for (kind, path) in [("ipc", ipc), ("uts", uts)] {
                crate::mounts::unmount(path)?;
                std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
                let source = format!("/proc/thread-self/ns/{kind}");
                mount(Some(source.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            }
            Ok(())
        })?;
        handle.join().unwrap_or_else(|_| Err(io::Error::other("the thread that makes namespaces panicked")))
    })
}
