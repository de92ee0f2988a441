//! A container's root: an overlay of its image's layers and a directory of its own.

use crate::mounts;
use nix::mount::{MsFlags, mount};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

/// mount(2) takes one page of options.
const OPTIONS_LIMIT_BYTES: usize = 4000;

/// Mounts `layers` (bottom first) below a fresh upper directory in `dir`, at `dir/rootfs`. `links`: where short names for layers may be kept when
/// their paths do not fit into one page. Blocking, 0.1 ms.
pub(crate) fn make(dir: &Path, layers: &[PathBuf], links: &Path) -> io::Result<PathBuf> {
    let root = dir.join("rootfs");
    discard(dir)?;
    for name in ["upper", "work", "rootfs"] {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir.join(name))?;
    }
    let lower = lower_option(layers, links)?;
    let plain = format!("lowerdir={lower},upperdir={},workdir={}", text(&dir.join("upper"))?, text(&dir.join("work"))?);
    // `volatile`: nothing here outlives the container, and without it each unmount syncs the whole disk below (kernel 5.10).
    let volatile = format!("{plain},volatile");
    let flags = MsFlags::MS_NOATIME & MsFlags::empty();
    let done = mount(Some("overlay"), &root, Some("overlay"), flags, Some(volatile.as_str()))
        .or_else(|_| mount(Some("overlay"), &root, Some("overlay"), flags, Some(plain.as_str())));
    done.map_err(io::Error::from)?;
    Ok(root)
}

fn lower_option(layers: &[PathBuf], links: &Path) -> io::Result<String> {
    let long: Vec<String> = layers.iter().rev().map(|l| text(l)).collect::<io::Result<_>>()?;
    let joined = long.join(":");
    if joined.len() <= OPTIONS_LIMIT_BYTES - 600 {
        return Ok(joined);
    }
    std::fs::create_dir_all(links)?;
    let short: Vec<String> = layers.iter().rev().map(|layer| short_name(layer, links)).collect::<io::Result<_>>()?;
    let joined = short.join(":");
    if joined.len() > OPTIONS_LIMIT_BYTES - 600 {
        return Err(io::Error::other(format!("an image of {} layers is more than one overlay mount takes", layers.len())));
    }
    Ok(joined)
}

/// A symbolic link named by a hash of the layer's path.
fn short_name(layer: &Path, links: &Path) -> io::Result<String> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    layer.hash(&mut hasher);
    let link = links.join(format!("{:x}", hasher.finish()));
    match symlink(layer, &link) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && std::fs::read_link(&link)? == layer => {}
        other => other?,
    }
    text(&link)
}

fn text(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some(text) if !text.contains([':', ',', '\\']) => Ok(text.to_owned()),
        _ => Err(io::Error::other(format!("{}: overlay mounts take no path with a colon, comma or backslash", path.display()))),
    }
}

/// Unmounts and removes what `make` made; nothing is there: fine.
pub(crate) fn discard(dir: &Path) -> io::Result<()> {
    mounts::unmount(&dir.join("rootfs"))?;
    mounts::remove_tree(dir)
}

/// Makes a directory inside the root as the runtime's working directory; a link in the image never leads out of it.
pub(crate) fn make_working_directory(root: &Path, cwd: &str, uid: u32, gid: u32) -> io::Result<()> {
    use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
    use nix::sys::stat::{Mode, mkdirat};
    let mut dir = open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let base = dir.try_clone()?;
    let mut walked = PathBuf::new();
    for part in Path::new(cwd).components().filter_map(|c| if let std::path::Component::Normal(p) = c { Some(p) } else { None }) {
        walked.push(part);
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        dir = match openat2(&base, &walked, how) {
            Ok(next) => next,
            Err(nix::errno::Errno::ENOENT) => {
                mkdirat(&dir, part, Mode::from_bits_truncate(0o755))?;
                nix::unistd::fchownat(&dir, part, Some(uid.into()), Some(gid.into()), nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)?;
                openat2(&base, &walked, how)?
            }
            Err(e) => return Err(e.into()),
        };
    }
    Ok(())
}
