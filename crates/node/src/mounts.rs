//! The kernel's mount table, and removing trees without ever reaching through a mount.

use nix::mount::{MntFlags, umount2};
use std::io;
use std::path::{Path, PathBuf};

/// Mount points at or below `path`, in the order they were made.
pub(crate) fn below(path: &Path) -> io::Result<Vec<PathBuf>> {
    // The table has no symbolic links in it.
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(points(&table).filter(|point| point.starts_with(&path)).collect())
}

fn points(table: &str) -> impl Iterator<Item = PathBuf> + '_ {
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(|field| PathBuf::from(unescape(field)))
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> String {
    let mut out: Vec<u8> = Vec::with_capacity(field.len());
    let bytes = field.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\').then(|| field.get(at + 1..at + 4)).flatten().and_then(|d| u8::from_str_radix(d, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Unmounts `path` if something is mounted there, however often, even in use.
pub(crate) fn unmount(path: &Path) -> io::Result<()> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Unmounts everything at and below `path`, the newest first.
pub(crate) fn unmount_below(path: &Path) -> io::Result<()> {
    for point in below(path)?.iter().rev() {
        unmount(point)?;
    }
    Ok(())
}

/// Removes a directory tree; refuses while anything is mounted in it, since what is mounted there may be a claim's data.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    if let Some(point) = below(path)?.first() {
        return Err(io::Error::other(format!("{} is still mounted", point.display())));
    }
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_is_found_through_a_link() {
        let link = std::env::temp_dir().join(format!("mainstay-mounts-{}", std::process::id()));
        std::os::unix::fs::symlink("/proc", &link).unwrap();
        let found = below(&link);
        std::fs::remove_file(&link).unwrap();
        assert!(found.unwrap().contains(&PathBuf::from("/proc")));
        assert_eq!(below(&link).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn mount_points_with_spaces_are_read_back() {
        let table = "27 1 254:0 / / rw - ext4 /dev/vda rw\n30 27 0:9 / /a/b\\040c rw - tmpfs t rw\n";
        assert_eq!(points(table).collect::<Vec<_>>(), [PathBuf::from("/"), PathBuf::from("/a/b c")]);
    }
}
