//! Writing a docker archive from overlay directories.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Hashes what is written.
struct Hashing<W>(W, Sha256);

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.0.write(bytes)?;
        self.1.update(&bytes[..n]);
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes the archive under another name first, so that a file of its name is always whole.
pub(super) fn write(path: &Path, layers: &[PathBuf], config: &Value, names: &[String]) -> Result<()> {
    let next = path.with_extension("tar.next");
    let mut out = Builder::new(BufWriter::new(File::create(&next)?));
    let (mut diff_ids, mut paths) = (Vec::new(), Vec::new());
    for (number, layer) in layers.iter().enumerate() {
        let file = path.with_extension(format!("layer{number}"));
        let digest = layer_archive(layer, &file).with_context(|| format!("pack {}", layer.display()))?;
        let name = format!("{digest}/layer.tar");
        out.append_path_with_name(&file, &name)?;
        fs::remove_file(&file)?;
        diff_ids.push(format!("sha256:{digest}"));
        paths.push(name);
    }
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = serde_json::to_vec(&json!({"architecture": architecture, "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": diff_ids}}))?;
    let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
    document(&mut out, &config_name, &config)?;
    let manifest = serde_json::to_vec(&json!([{"Config": config_name, "RepoTags": names, "Layers": paths}]))?;
    document(&mut out, "manifest.json", &manifest)?;
    out.into_inner()?.flush()?;
    fs::rename(&next, path)?;
    Ok(())
}

fn document(out: &mut Builder<impl Write>, name: &str, bytes: &[u8]) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    Ok(out.append_data(&mut header, name, bytes)?)
}

fn layer_archive(root: &Path, file: &Path) -> Result<String> {
    let mut out = Builder::new(Hashing(BufWriter::new(File::create(file)?), Sha256::new()));
    out.mode(tar::HeaderMode::Complete);
    let mut links = HashMap::new();
    walk(&mut out, root, Path::new(""), &mut links)?;
    let mut hashing = out.into_inner()?;
    hashing.flush()?;
    Ok(hex(&hashing.1.finalize()))
}

fn walk<W: Write>(out: &mut Builder<W>, root: &Path, below: &Path, links: &mut HashMap<(u64, u64), PathBuf>) -> Result<()> {
    let mut names: Vec<_> = fs::read_dir(root.join(below))?.collect::<io::Result<Vec<_>>>()?;
    names.sort_by_key(fs::DirEntry::file_name);
    for entry in names {
        let (path, meta) = (below.join(entry.file_name()), entry.metadata()?);
        let kind = meta.file_type();
        let mut header = Header::new_gnu();
        header.set_metadata(&meta);
        header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
        if kind.is_char_device() && meta.rdev() == 0 {
            document(out, &below.join(format!(".wh.{}", entry.file_name().to_string_lossy())).to_string_lossy(), b"")?;
        } else if kind.is_dir() {
            out.append_data(&mut header, &path, io::empty())?;
            if xattr::get(entry.path(), "trusted.overlay.opaque")?.is_some_and(|v| v == b"y") {
                document(out, &path.join(".wh..wh..opq").to_string_lossy(), b"")?;
            }
            walk(out, root, &path, links)?;
        } else if kind.is_symlink() {
            header.set_size(0);
            out.append_link(&mut header, &path, fs::read_link(entry.path())?)?;
        } else if kind.is_file() {
            if meta.nlink() > 1 && let Some(first) = links.get(&(meta.dev(), meta.ino())) {
                header.set_entry_type(EntryType::Link);
                header.set_size(0);
                out.append_link(&mut header, &path, first)?;
                continue;
            }
            links.insert((meta.dev(), meta.ino()), path.clone());
            if let Some(capability) = xattr::get(entry.path(), "security.capability")? {
                out.append_pax_extensions([("SCHILY.xattr.security.capability", capability.as_slice())])?;
            }
            out.append_data(&mut header, &path, File::open(entry.path())?)?;
        }
    }
    Ok(())
}
