//! The directory: `layers/<half a diffID>/`, `configs/<id>.json`, `index.json`, `lock`, `tmp/`.

use crate::index::{Index, Record, Stamp};
use crate::name::{is_id, parse};
use crate::{Credentials, Error, Image, archive, layer, pull};
use nix::fcntl::{Flock, FlockArg};
use parking_lot::{Mutex, RwLock};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The node's images: layers and configurations below one directory. Cheap to clone. Several processes may use the directory at once.
#[derive(Clone, Debug)]
pub struct Images(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    seen: RwLock<(Index, Stamp)>,
    /// One lock a name, so that pulls of one name share the work.
    pulls: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    next: AtomicU64,
}

/// A layer as it arrives: where its bytes are, and what they must hash to.
pub(crate) struct Blob {
    /// Spooled file.
    pub path: PathBuf,
}

impl Images {
    /// Opens or creates the directory.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        for sub in ["layers", "configs", "tmp"] {
            let path = dir.join(sub);
            fs::create_dir_all(&path).map_err(|source| Error::Io { doing: "create", path, source })?;
        }
        // A process may have installed its provider already; both are ring.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let seen = Index::read(dir)?;
        let images = Self(Arc::new(Inner { dir: dir.to_owned(), seen: RwLock::new(seen), pulls: Mutex::default(), next: AtomicU64::new(0) }));
        images.sweep()?;
        Ok(images)
    }

    /// An image by any name a user may write: `nginx`, `nginx:1.25`, `docker.io/library/nginx@sha256:…`, an id or the beginning of one.
    pub fn find(&self, name: &str) -> Option<Image> {
        self.refresh();
        let seen = self.0.seen.read();
        let id = self.resolve(&seen.0, name)?;
        self.image(&seen.0, &id).ok()
    }

    /// All, by name.
    pub fn list(&self) -> Vec<Image> {
        self.refresh();
        let seen = self.0.seen.read();
        seen.0.images.keys().filter_map(|id| self.image(&seen.0, id).ok()).collect()
    }

    /// Pulls from the name's registry or its mirrors, checking every digest. Pulls of one name share the work.
    pub async fn pull(&self, name: &str, credentials: &[Credentials]) -> Result<Image, Error> {
        let reference = parse(name)?;
        let gate = Arc::clone(self.0.pulls.lock().entry(reference.whole()).or_default());
        let waited = gate.try_lock().is_err();
        let _turn = gate.lock().await;
        if waited && let Some(image) = self.find(name) {
            return Ok(image);
        }
        let pulled = pull::pull(self, &reference, credentials).await;
        self.0.pulls.lock().remove(&reference.whole());
        pulled
    }

    /// Takes a docker or OCI archive (plain, gzip or zstd), from a file or a stream; returns the images in it. Blocking.
    pub fn import(&self, archive: &mut dyn Read, archive_name: &str) -> Result<Vec<Image>, Error> {
        archive::import(self, archive, archive_name)
    }

    /// Removes a name, and what no other name needs. Refuses when a container's root file system is made of what would go.
    /// Returns what it removed: names, then ids.
    pub fn remove(&self, name: &str) -> Result<Vec<String>, Error> {
        let _lock = self.lock()?;
        let (mut index, _) = Index::read(&self.0.dir)?;
        let id = self.resolve(&index, name).ok_or_else(|| Error::NotFound(name.to_owned()))?;
        let mut gone: Vec<String> = if is_id(name) {
            index.names.iter().filter(|(_, i)| **i == id).map(|(n, _)| n.clone()).collect()
        } else {
            vec![parse(name)?.whole()]
        };
        for name in &gone {
            index.names.remove(name);
        }
        let before: Vec<String> = index.layers().into_iter().map(str::to_owned).collect();
        if !index.names.values().any(|i| *i == id) {
            index.images.remove(&id);
            gone.push(id);
        }
        let unused: Vec<PathBuf> = before.iter().filter(|l| !index.layers().contains(l.as_str())).map(|l| self.layer_dir(l)).collect();
        if unused.iter().any(|dir| mounted(dir)) {
            return Err(Error::InUse(name.to_owned()));
        }
        self.put(index)?;
        for dir in unused {
            self.discard(&dir);
        }
        Ok(gone)
    }

    /// Where something that is on its way is kept.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.0.dir.join("tmp").join(format!("{}.{}", std::process::id(), self.0.next.fetch_add(1, Ordering::Relaxed)))
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.0.dir
    }

    /// Whether a layer with this diffID is here already.
    pub(crate) fn has_layer(&self, diff_id: &str) -> bool {
        self.layer_dir(diff_id).is_dir()
    }

    /// Unpacks a layer, checks its digest, makes it durable, and only then gives it its name.
    pub(crate) fn add_layer(&self, blob: &Blob, diff_id: &str) -> Result<(), Error> {
        if self.has_layer(diff_id) {
            return Ok(());
        }
        let fail = |doing: &'static str, path: &Path| { let path = path.to_owned(); move |source| Error::Io { doing, path, source } };
        let (tmp, target) = (self.temporary(), self.layer_dir(diff_id));
        fs::create_dir_all(&tmp).map_err(fail("create", &tmp))?;
        let unpacked = File::open(&blob.path).and_then(|f| layer::unpack(f, &tmp)).map_err(fail("unpack a layer into", &tmp));
        let unpacked = unpacked.inspect_err(|_| self.discard(&tmp))?;
        if unpacked.diff_id != diff_id {
            self.discard(&tmp);
            return Err(Error::Archive { archive: blob.path.display().to_string(), reason: format!("layer is {} but the image says {diff_id}", unpacked.diff_id) });
        }
        fs::write(tmp.with_extension("size"), unpacked.size_bytes.to_string()).map_err(fail("write", &tmp))?;
        let dir = File::open(&tmp).map_err(fail("open", &tmp))?;
        nix::unistd::syncfs(&dir).map_err(|e| Error::Io { doing: "sync", path: tmp.clone(), source: e.into() })?;
        fs::rename(tmp.with_extension("size"), target.with_extension("size")).map_err(fail("name", &target))?;
        match fs::rename(&tmp, &target) {
            Ok(()) => Ok(()),
            Err(_) if target.is_dir() => {
                self.discard(&tmp);
                Ok(())
            }
            Err(source) => Err(Error::Io { doing: "name", path: target, source }),
        }
    }

    /// Records an image whose layers are all here. Returns it.
    pub(crate) fn add_image(&self, config: &[u8], names: &[String], digest: Option<String>) -> Result<Image, Error> {
        let parsed: oci_spec::image::ImageConfiguration =
            serde_json::from_slice(config).map_err(|e| Error::Archive { archive: names.join(", "), reason: format!("image configuration: {e}") })?;
        let id = format!("sha256:{}", layer::hex(&Sha256::digest(config)));
        let layers: Vec<String> = parsed.rootfs().diff_ids().clone();
        let size_bytes = layers.iter().filter_map(|l| fs::read_to_string(self.layer_dir(l).with_extension("size")).ok()?.parse::<u64>().ok()).sum();
        let path = self.config_path(&id);
        fs::write(&path, config).map_err(|source| Error::Io { doing: "write", path, source })?;
        let _lock = self.lock()?;
        let (mut index, _) = Index::read(&self.0.dir)?;
        let record = index.images.entry(id.clone()).or_default();
        *record = Record { layers, size_bytes, digests: record.digests.iter().cloned().chain(digest).collect() };
        for name in names {
            index.names.insert(name.clone(), id.clone());
        }
        if names.is_empty() {
            // Without a name an image is reached by its id; the id is then its name.
            index.names.insert(id.clone(), id.clone());
        }
        index.drop_unnamed();
        let image = self.image(&index, &id)?;
        self.put(index)?;
        Ok(image)
    }

    fn resolve(&self, index: &Index, name: &str) -> Option<String> {
        if let Ok(reference) = parse(name) {
            if let Some(id) = index.names.get(&reference.whole()) {
                return Some(id.clone());
            }
            if let Some(digest) = reference.digest() {
                let full = format!("{}/{}@{digest}", reference.registry(), reference.repository());
                return index.images.iter().find(|(id, r)| id.as_str() == digest || r.digests.contains(&full)).map(|(id, _)| id.clone());
            }
        }
        if is_id(name) {
            let wanted = format!("sha256:{}", name.strip_prefix("sha256:").unwrap_or(name));
            let mut found = index.images.keys().filter(|id| id.starts_with(&wanted));
            return match (found.next(), found.next()) {
                (Some(id), None) => Some(id.clone()),
                _ => None,
            };
        }
        None
    }

    fn image(&self, index: &Index, id: &str) -> Result<Image, Error> {
        let record = index.images.get(id).ok_or_else(|| Error::NotFound(id.to_owned()))?;
        let path = self.config_path(id);
        let bytes = fs::read(&path).map_err(|source| Error::Io { doing: "read", path: path.clone(), source })?;
        let config = serde_json::from_slice(&bytes).map_err(|e| Error::Io { doing: "read", path, source: e.into() })?;
        Ok(Image {
            id: id.to_owned(),
            names: index.names.iter().filter(|(n, i)| i.as_str() == id && *n != id).map(|(n, _)| n.clone()).collect(),
            digests: record.digests.iter().cloned().collect(),
            layers: record.layers.iter().map(|l| self.layer_dir(l)).collect(),
            config: Arc::new(config),
            size_bytes: record.size_bytes,
        })
    }

    /// 32 hexadecimal digits are unique enough, and keep an overlay's list of lower directories short.
    fn layer_dir(&self, diff_id: &str) -> PathBuf {
        let hex = diff_id.strip_prefix("sha256:").unwrap_or(diff_id);
        self.0.dir.join("layers").join(&hex[..hex.len().min(32)])
    }

    fn config_path(&self, id: &str) -> PathBuf {
        self.0.dir.join("configs").join(format!("{}.json", id.trim_start_matches("sha256:")))
    }

    fn refresh(&self) {
        let stamp = Index::stamp(&self.0.dir);
        if self.0.seen.read().1 != stamp && let Ok(newer) = Index::read(&self.0.dir) {
            *self.0.seen.write() = newer;
        }
    }

    fn put(&self, index: Index) -> Result<(), Error> {
        index.write(&self.0.dir)?;
        *self.0.seen.write() = (index, Index::stamp(&self.0.dir));
        Ok(())
    }

    pub(crate) fn lock(&self) -> Result<Flock<File>, Error> {
        let path = self.0.dir.join("lock");
        let file = File::create(&path).map_err(|source| Error::Io { doing: "create", path: path.clone(), source })?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| Error::Io { doing: "lock", path, source: e.into() })
    }

    /// Removes what interrupted work left: temporary files of processes that are gone, layers that no image names.
    fn sweep(&self) -> Result<(), Error> {
        let _lock = self.lock()?;
        for entry in fs::read_dir(self.0.dir.join("tmp")).into_iter().flatten().flatten() {
            let owner = entry.file_name().to_string_lossy().split('.').next().and_then(|p| p.parse::<u32>().ok());
            if owner.is_none_or(|pid| pid == std::process::id() || !Path::new(&format!("/proc/{pid}")).exists()) {
                self.discard(&entry.path());
            }
        }
        Ok(())
    }

    /// Best effort: what stays is swept at the next start.
    pub(crate) fn discard(&self, path: &Path) {
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        let _ = fs::remove_file(path.with_extension("size"));
    }
}

/// Whether an overlay on this machine uses the directory. Reads the mount table: it knows also of containers that another process started.
fn mounted(dir: &Path) -> bool {
    let (Ok(table), Some(dir)) = (fs::read_to_string("/proc/self/mountinfo"), dir.to_str()) else { return false };
    table.lines().any(|line| line.contains(dir))
}
