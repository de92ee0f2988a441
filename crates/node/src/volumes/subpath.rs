//! `subPath`: a path inside a volume, never outside of it, whatever links the volume's owner put there (CVE-2017-1002101, CVE-2021-25741).

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// Binds `below` of `volume` to `target`, making it as a directory where it is missing. The kernel resolves it beneath the volume, and the bind is
/// of what was opened, so nothing can be swapped in between. Blocking.
pub(crate) fn bind(volume: &Path, below: &str, target: &Path) -> io::Result<()> {
    let parts: Vec<&std::ffi::OsStr> = Path::new(below)
        .components()
        .filter(|c| !matches!(c, Component::CurDir))
        .map(|c| match c {
            Component::Normal(part) => Ok(part),
            _ => Err(io::Error::other(format!("subPath {below:?} must be relative and hold no `..`"))),
        })
        .collect::<io::Result<_>>()?;
    let found = resolve(volume, &parts)?;
    let is_dir = nix::sys::stat::fstat(&found)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    crate::mounts::unmount(target)?;
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if is_dir {
        std::fs::create_dir_all(target)?;
    } else {
        std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(target)?;
    }
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    mount(Some(source.as_str()), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    Ok(())
}

fn resolve(volume: &Path, parts: &[&std::ffi::OsStr]) -> io::Result<OwnedFd> {
    let root = open(volume, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mode = Mode::from_bits_truncate(nix::sys::stat::fstat(&root)?.st_mode & 0o2777);
    let how = |flags| OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let mut walked = PathBuf::new();
    let mut parent = root.try_clone()?;
    for part in parts {
        walked.push(part);
        parent = match openat2(&root, &walked, how(OFlag::O_PATH)) {
            Ok(next) => next,
            Err(Errno::ENOENT) => {
                mkdirat(&parent, *part, mode)?;
                // The volume's own mode, whatever our umask is: what fsGroup may write to, it may write to below as well.
                fchmod(openat2(&root, &walked, how(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW))?, mode)?;
                openat2(&root, &walked, how(OFlag::O_PATH))?
            }
            Err(Errno::EXDEV | Errno::ELOOP) => return Err(io::Error::other(format!("subPath {} leads out of its volume", walked.display()))),
            Err(e) => return Err(e.into()),
        };
    }
    Ok(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_out_of_the_volume_is_refused_and_one_within_followed() {
        let dir = std::env::temp_dir().join(format!("mainstay-subpath-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("inside")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.join("out")).unwrap();
        std::os::unix::fs::symlink("../..", dir.join("up")).unwrap();
        std::os::unix::fs::symlink("inside", dir.join("in")).unwrap();
        let check = |path: &str| resolve(&dir, &path.split('/').map(std::ffi::OsStr::new).collect::<Vec<_>>()).map(drop).map_err(|e| e.to_string());
        assert_eq!(check("out/passwd"), Err("subPath out leads out of its volume".into()));
        assert_eq!(check("up"), Err("subPath up leads out of its volume".into()));
        assert_eq!(check("in"), Ok(()));
        assert_eq!(check("new/deeper"), Ok(()));
        assert!(dir.join("new/deeper").is_dir());
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o2775)).unwrap();
        assert_eq!(check("group"), Ok(()));
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(dir.join("group")).unwrap().permissions()) & 0o7777, 0o2775);
        assert!(bind(&dir, "../x", &dir.join("t")).unwrap_err().to_string().contains("must be relative"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
