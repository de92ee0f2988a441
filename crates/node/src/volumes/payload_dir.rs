//! Files that change all at once: a directory whose visible names are links through `..data`, which is swapped by one rename.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

/// A file's permission bits and bytes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) mode: u32,
    pub(crate) bytes: Vec<u8>,
}

/// By path below the volume.
pub(crate) type Files = BTreeMap<String, File>;

/// Upstream: `AtomicWriter` (pkg/volume/util/atomic_writer.go). Readers see all of the old or all of the new. Does nothing when nothing changed. Blocking.
pub(crate) fn write(dir: &Path, files: &Files, group: Option<u32>) -> io::Result<bool> {
    for path in files.keys() {
        let ok = !path.is_empty() && Path::new(path).components().all(|c| matches!(c, Component::Normal(_))) && !path.starts_with("..");
        if !ok {
            return Err(io::Error::other(format!("path {path:?} leads out of the volume")));
        }
    }
    std::fs::create_dir_all(dir)?;
    let data = dir.join("..data");
    let old = std::fs::read_link(&data).ok().map(|target| dir.join(target));
    if old.as_ref().is_some_and(|old| same(old, files)) {
        return Ok(false);
    }
    let fresh = new_directory(dir)?;
    for (path, file) in files {
        write_file(&fresh.join(path), file, group)?;
    }
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o755))?;
    own(dir, group)?;
    own(&fresh, group)?;
    let swap = dir.join("..data_tmp");
    let _ = std::fs::remove_file(&swap);
    symlink(fresh.file_name().unwrap_or_default(), &swap)?;
    std::fs::rename(&swap, &data)?;
    link_names(dir, files)?;
    if let Some(old) = old {
        let _ = std::fs::remove_dir_all(old);
    }
    Ok(true)
}

fn new_directory(dir: &Path) -> io::Result<PathBuf> {
    let stamp = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    for n in 0..10_000u32 {
        let path = dir.join(format!("{stamp}.{n}"));
        match std::fs::DirBuilder::new().mode(0o755).create(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map(|()| path),
        }
    }
    Err(io::Error::other("too many updates in one second"))
}

fn write_file(path: &Path, file: &File, group: Option<u32>) -> io::Result<()> {
    use std::io::Write;
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    out.write_all(&file.bytes)?;
    // After fsGroup the group may read what the owner may.
    let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
    out.set_permissions(std::fs::Permissions::from_mode(mode))?;
    own(path, group)
}

fn own(path: &Path, group: Option<u32>) -> io::Result<()> {
    group.map_or(Ok(()), |group| chown(path, None, Some(group)))
}

fn same(old: &Path, files: &Files) -> bool {
    let mut found = BTreeSet::new();
    list(old, Path::new(""), &mut found);
    found.len() == files.len()
        && files.iter().all(|(path, file)| found.contains(path) && std::fs::read(old.join(path)).is_ok_and(|bytes| bytes == file.bytes))
}

fn list(dir: &Path, below: &Path, into: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = below.join(entry.file_name());
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            list(&entry.path(), &name, into);
        } else {
            into.insert(name.to_string_lossy().into_owned());
        }
    }
}

/// One link a first path part; links to what is gone go.
fn link_names(dir: &Path, files: &Files) -> io::Result<()> {
    let wanted: BTreeSet<OsString> =
        files.keys().filter_map(|p| Path::new(p).components().next().map(|c| c.as_os_str().to_owned())).collect();
    for name in &wanted {
        let link = dir.join(name);
        if std::fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(name), &link)?;
        }
    }
    for entry in std::fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with("..") && !wanted.contains(&name) && entry.file_type()?.is_symlink() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter().map(|(p, t)| ((*p).to_owned(), File { mode: 0o640, bytes: t.as_bytes().to_vec() })).collect()
    }

    #[test]
    fn an_update_swaps_all_files_and_removes_what_is_gone() {
        let dir = std::env::temp_dir().join(format!("mainstay-payload-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        assert!(write(&dir, &files(&[("a", "1"), ("sub/b", "2")]), None).unwrap());
        assert!(!write(&dir, &files(&[("a", "1"), ("sub/b", "2")]), None).unwrap(), "the same again is no change");
        assert_eq!(std::fs::read_to_string(dir.join("sub/b")).unwrap(), "2");
        assert_eq!(std::fs::metadata(dir.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(write(&dir, &files(&[("a", "3"), ("c", "4")]), None).unwrap());
        assert_eq!(std::fs::read_to_string(dir.join("a")).unwrap(), "3");
        assert!(!dir.join("sub").exists());
        let stamped = std::fs::read_dir(&dir).unwrap().filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("..2")).count();
        assert_eq!(stamped, 1, "old versions go");
        for bad in ["../x", "/x", "..x", ""] {
            assert!(write(&dir, &files(&[(bad, "")]), None).is_err(), "{bad}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
