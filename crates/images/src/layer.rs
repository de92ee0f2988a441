//! Unpacking one layer into a directory that overlayfs can stack.
//!
//! A layer is somebody else's archive: every path is resolved inside the layer's root by the kernel (`openat2`, RESOLVE_IN_ROOT), `..`
//! is refused, device nodes are not made (a container's `/dev` is its own), and the digest is taken over the whole stream, past the
//! archive's end (CVE-2025-62518's shape: what is hashed and what is read must be the same bytes).

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmod, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};
use tar::{Archive, EntryType};
use xattr::FileExt as _;

/// Entries of one layer; past it the archive is refused.
const ENTRIES_LIMIT: usize = 2_000_000;
/// Unpacked bytes of one layer; past it the archive is refused (a gzip bomb).
const BYTES_LIMIT: u64 = 64 << 30;

/// What a layer turned out to be.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// `sha256:…` of the uncompressed archive.
    pub diff_id: String,
    /// Bytes of its files.
    pub size_bytes: u64,
}

/// Reads any of plain, gzip and zstd by its first bytes.
pub(crate) fn decompress<'a>(mut source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = [0u8; 4];
    let mut got = 0;
    while got < magic.len() {
        match source.read(&mut magic[got..])? {
            0 => break,
            n => got += n,
        }
    }
    let whole = io::Cursor::new(magic[..got].to_vec()).chain(source);
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(io::BufReader::with_capacity(1 << 16, whole))),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::new(whole)?),
        _ => Box::new(io::BufReader::with_capacity(1 << 16, whole)),
    })
}

/// Hashes what passes.
pub(crate) struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashing<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new() }
    }
    pub(crate) fn finish(self) -> String {
        format!("sha256:{}", hex(&self.hash.finalize()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        Ok(n)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Unpacks a layer (compressed or not) into `root`, which must be empty.
pub(crate) fn unpack(source: impl Read, root: &Path) -> io::Result<Unpacked> {
    let mut hashing = Hashing::new(decompress(source)?);
    let mut layer = Layer { root: File::open(root)?.into(), size_bytes: 0, directories: Vec::new() };
    {
        let mut archive = Archive::new(&mut hashing);
        for (count, entry) in archive.entries()?.enumerate() {
            if count >= ENTRIES_LIMIT || layer.size_bytes > BYTES_LIMIT {
                return Err(refused(format!("more than {ENTRIES_LIMIT} entries or {BYTES_LIMIT} bytes")));
            }
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            layer.entry(&mut entry, &path).map_err(|e| io::Error::new(e.kind(), format!("entry {}: {e}", path.display())))?;
        }
    }
    io::copy(&mut hashing, &mut io::sink())?;
    layer.finish()?;
    Ok(Unpacked { diff_id: hashing.finish(), size_bytes: layer.size_bytes })
}

fn refused(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

struct Layer {
    root: OwnedFd,
    size_bytes: u64,
    /// Directories and their times, set last: making their children changes them.
    directories: Vec<(PathBuf, i64)>,
}

/// Owner and mode of what had to be made without an entry of its own.
const IMPLIED: Mode = Mode::from_bits_truncate(0o755);

impl Layer {
    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, path: &Path) -> io::Result<()> {
        let Some(clean) = inside(path)? else { return Ok(()) };
        let (parent, name) = self.parent(&clean)?;
        if let Some(rest) = name.strip_prefix(".wh.") {
            return Self::whiteout(&parent, rest);
        }
        let header = entry.header().clone();
        let kind = header.entry_type();
        if kind != EntryType::Directory {
            Self::clear(&parent, &name)?;
        }
        match kind {
            EntryType::Directory => self.directory(&parent, &name, &clean, &header)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => return self.file(entry, &parent, &name),
            EntryType::Symlink => {
                let target = entry.link_name()?.ok_or_else(|| refused("symbolic link without target".into()))?;
                symlinkat(target.as_os_str(), &parent, name.as_str())?;
            }
            EntryType::Link => {
                let target = entry.link_name()?.ok_or_else(|| refused("hard link without target".into()))?;
                let target = inside(&target)?.ok_or_else(|| refused("hard link to the root".into()))?;
                let (from, from_name) = self.parent(&target)?;
                linkat(&from, from_name.as_str(), &parent, name.as_str(), AtFlags::empty())?;
                return Ok(());
            }
            EntryType::Fifo => mknodat(&parent, name.as_str(), SFlag::S_IFIFO, mode(&header), 0)?,
            _ => return Ok(()),
        }
        let (uid, gid) = owner(&header)?;
        fchownat(&parent, name.as_str(), Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if kind == EntryType::Directory {
            let dir = open_in(&parent, Path::new(&name), OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW)?;
            fchmod(&dir, mode(&header))?;
            extended(entry, &File::from(dir))?;
        } else {
            let _ = utimensat(&parent, name.as_str(), &time(&header), &time(&header), UtimensatFlags::NoFollowSymlink);
        }
        Ok(())
    }

    /// The directory that holds `path`, made if need be, and the last component.
    fn parent(&self, path: &Path) -> io::Result<(OwnedFd, String)> {
        let name = path.file_name().and_then(|n| n.to_str()).ok_or_else(|| refused("name is not UTF-8".into()))?.to_owned();
        let above = path.parent().filter(|p| !p.as_os_str().is_empty());
        let Some(above) = above else { return Ok((self.root.try_clone()?, name)) };
        match open_in(&self.root, above, OFlag::O_DIRECTORY) {
            Ok(fd) => Ok((fd, name)),
            Err(Errno::ENOENT) => {
                let mut at = PathBuf::new();
                for part in above.components() {
                    let (fd, here) = (if at.as_os_str().is_empty() { self.root.try_clone()? } else { open_in(&self.root, &at, OFlag::O_DIRECTORY)? }, part.as_os_str());
                    match mkdirat(&fd, here, IMPLIED) {
                        Ok(()) | Err(Errno::EEXIST) => {}
                        Err(e) => return Err(e.into()),
                    }
                    at.push(here);
                }
                Ok((open_in(&self.root, above, OFlag::O_DIRECTORY)?, name))
            }
            Err(e) => Err(e.into()),
        }
    }

    fn whiteout(parent: &OwnedFd, rest: &str) -> io::Result<()> {
        if rest == ".wh..opq" {
            return File::from(parent.try_clone()?).set_xattr("trusted.overlay.opaque", b"y");
        }
        if rest.is_empty() || rest.starts_with(".wh.") {
            return Ok(());
        }
        Self::clear(parent, rest)?;
        Ok(mknodat(parent, rest, SFlag::S_IFCHR, Mode::empty(), 0)?)
    }

    /// A later entry replaces an earlier one of the same name.
    fn clear(parent: &OwnedFd, name: &str) -> io::Result<()> {
        match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(Errno::EISDIR) => remove_tree(parent, name),
            Err(e) => Err(e.into()),
        }
    }

    fn directory(&mut self, parent: &OwnedFd, name: &str, clean: &Path, header: &tar::Header) -> io::Result<()> {
        match mkdirat(parent, name, IMPLIED) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                if open_in(parent, Path::new(name), OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).is_err() {
                    Self::clear(parent, name)?;
                    mkdirat(parent, name, IMPLIED)?;
                }
            }
            Err(e) => return Err(e.into()),
        }
        self.directories.push((clean.to_owned(), header.mtime().unwrap_or(0) as i64));
        Ok(())
    }

    fn file<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, parent: &OwnedFd, name: &str) -> io::Result<()> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(nix::fcntl::openat(parent, name, flags, Mode::from_bits_truncate(0o600))?);
        self.size_bytes += io::copy(entry, &mut file)?;
        if self.size_bytes > BYTES_LIMIT {
            return Err(refused(format!("layer unpacks to more than {BYTES_LIMIT} bytes")));
        }
        let header = entry.header().clone();
        let (uid, gid) = owner(&header)?;
        // The owner first: chown clears setuid bits and file capabilities.
        nix::unistd::fchown(&file, Some(uid), Some(gid))?;
        fchmod(&file, mode(&header))?;
        extended(entry, &file)?;
        let _ = nix::sys::stat::futimens(&file, &time(&header), &time(&header));
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        for (path, seconds) in self.directories.drain(..).rev() {
            if let Ok(dir) = open_in(&self.root, &path, OFlag::O_DIRECTORY) {
                let at = TimeSpec::new(seconds, 0);
                let _ = nix::sys::stat::futimens(&dir, &at, &at);
            }
        }
        Ok(())
    }
}

/// A path inside the layer, or `None` for the root itself. `..` is refused, a leading `/` or `.` dropped.
fn inside(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(refused(format!("path {} leaves the layer", path.display()))),
        }
    }
    Ok((!clean.as_os_str().is_empty()).then_some(clean))
}

fn open_in(root: impl AsFd, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(flags | OFlag::O_RDONLY | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, path, how)
}

fn remove_tree(parent: &OwnedFd, name: &str) -> io::Result<()> {
    let fd = open_in(parent, Path::new(name), OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW)?;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/self/fd/{}", fd.as_raw_fd()))? {
        names.push(entry?.file_name().into_string().map_err(|_| refused("name is not UTF-8".into()))?);
    }
    for child in names {
        Layer::clear(&fd, &child)?;
    }
    Ok(unlinkat(parent, name, UnlinkatFlags::RemoveDir)?)
}

fn owner(header: &tar::Header) -> io::Result<(Uid, Gid)> {
    let narrow = |n: u64| u32::try_from(n).map_err(|_| refused(format!("owner {n} is out of range")));
    Ok((Uid::from_raw(narrow(header.uid()?)?), Gid::from_raw(narrow(header.gid()?)?)))
}

fn mode(header: &tar::Header) -> Mode {
    Mode::from_bits_truncate(header.mode().unwrap_or(0o644) & 0o7777)
}

fn time(header: &tar::Header) -> TimeSpec {
    TimeSpec::new(header.mtime().unwrap_or(0) as i64, 0)
}

/// `SCHILY.xattr.*` of a PAX header; only what a root file system needs (overlay's own names are ours to give).
fn extended<R: Read>(entry: &mut tar::Entry<'_, R>, file: &File) -> io::Result<()> {
    let Some(pax) = entry.pax_extensions()? else { return Ok(()) };
    for pair in pax.flatten() {
        let Ok(key) = pair.key() else { continue };
        let Some(name) = key.strip_prefix("SCHILY.xattr.") else { continue };
        if name == "security.capability" || name.starts_with("user.") {
            // user.* is refused on some file systems; an image must not fail for it.
            match file.set_xattr(name, pair.value_bytes()) {
                Err(e) if name == "security.capability" => return Err(e),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

    fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().unwrap()
    }

    fn put(builder: &mut tar::Builder<Vec<u8>>, kind: EntryType, path: &str, link: &str, data: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(data.len() as u64);
        header.set_mtime(1_000_000);
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        if !link.is_empty() {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }

    /// Needs root: owners, whiteouts and trusted attributes.
    #[test]
    fn a_layer_unpacks_with_modes_links_and_whiteouts() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = archive(|b| {
            put(b, EntryType::Regular, "bin/su", "", b"#!");
            put(b, EntryType::Symlink, "bin/sh", "su", b"");
            put(b, EntryType::Link, "bin/hard", "bin/su", b"");
            put(b, EntryType::Regular, "etc/.wh.gone", "", b"");
            put(b, EntryType::Regular, "opt/.wh..wh..opq", "", b"");
            put(b, EntryType::Char, "dev/null", "", b"");
        });
        let unpacked = unpack(&bytes[..], dir.path()).unwrap();
        assert_eq!(unpacked.diff_id, format!("sha256:{}", hex(&Sha256::digest(&bytes))));
        assert_eq!(dir.path().join("bin/su").metadata().unwrap().mode() & 0o7777, 0o4755);
        assert_eq!(dir.path().join("bin/hard").metadata().unwrap().nlink(), 2);
        assert_eq!(std::fs::read_link(dir.path().join("bin/sh")).unwrap(), Path::new("su"));
        assert!(dir.path().join("etc/gone").symlink_metadata().unwrap().file_type().is_char_device());
        assert_eq!(xattr::get(dir.path().join("opt"), "trusted.overlay.opaque").unwrap().unwrap(), b"y");
        assert!(!dir.path().join("dev/null").exists(), "device nodes are not made");
    }

    #[test]
    fn gzip_and_zstd_give_the_same_diff_id_as_the_plain_archive() {
        let bytes = archive(|b| put(b, EntryType::Regular, "a", "", b"text"));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut gzip, &bytes).unwrap();
        let zst = zstd::encode_all(&bytes[..], 1).unwrap();
        let ids: Vec<String> = [bytes, gzip.finish().unwrap(), zst].iter().map(|b| unpack(&b[..], tempfile::tempdir().unwrap().path()).unwrap().diff_id).collect();
        assert!(ids.windows(2).all(|w| w[0] == w[1]), "{ids:?}");
    }

    #[test]
    fn nothing_leaves_the_layer() {
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().to_str().unwrap();
        for (what, bytes) in [
            ("dot dot", archive(|b| put(b, EntryType::Regular, "../evil", "", b"x"))),
            ("dot dot inside", archive(|b| put(b, EntryType::Regular, "a/../../evil", "", b"x"))),
            ("hard link out", archive(|b| put(b, EntryType::Link, "passwd", "../../etc/passwd", b""))),
            (
                "through a symbolic link",
                archive(|b| {
                    put(b, EntryType::Symlink, "out", target, b"");
                    put(b, EntryType::Regular, "out/evil", "", b"x");
                }),
            ),
            (
                "whiteout through a symbolic link",
                archive(|b| {
                    put(b, EntryType::Symlink, "out", target, b"");
                    put(b, EntryType::Regular, "out/.wh.kept", "", b"");
                }),
            ),
        ] {
            std::fs::write(outside.path().join("kept"), b"kept").unwrap();
            let dir = tempfile::tempdir().unwrap();
            let _ = unpack(&bytes[..], dir.path());
            assert!(!outside.path().join("evil").exists(), "{what}");
            assert_eq!(std::fs::read(outside.path().join("kept")).unwrap(), b"kept", "{what}");
        }
    }

    #[test]
    fn bytes_after_the_end_of_the_archive_are_hashed_too() {
        let mut bytes = archive(|b| put(b, EntryType::Regular, "a", "", b"text"));
        bytes.extend_from_slice(b"hidden");
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(unpack(&bytes[..], dir.path()).unwrap().diff_id, format!("sha256:{}", hex(&Sha256::digest(&bytes))));
    }
}
