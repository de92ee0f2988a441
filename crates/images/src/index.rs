//! Which images there are: one small JSON file, replaced atomically, shared by the engine and `mainstay image` through a file lock.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What is on disk as `index.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Index {
    /// Canonical name → image id.
    pub names: BTreeMap<String, String>,
    /// Image id → record.
    pub images: BTreeMap<String, Record>,
}

/// One image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// diffIDs, bottom first.
    pub layers: Vec<String>,
    /// `name@sha256:…`.
    pub digests: BTreeSet<String>,
    /// Unpacked size.
    pub size_bytes: u64,
}

/// Tells one version of the file from the next.
pub(crate) type Stamp = Option<(u64, i64, i64)>;

impl Index {
    pub(crate) fn read(dir: &Path) -> Result<(Self, Stamp), Error> {
        let path = dir.join("index.json");
        let stamp = Self::stamp(dir);
        match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(index) => Ok((index, stamp)),
                Err(e) => Err(Error::Io { doing: "read the image index", path, source: e.into() }),
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok((Self::default(), stamp)),
            Err(source) => Err(Error::Io { doing: "read", path, source }),
        }
    }

    pub(crate) fn stamp(dir: &Path) -> Stamp {
        fs::metadata(dir.join("index.json")).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec()))
    }

    /// Durable when it returns: the layers it names were synced before.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        let (path, next) = (dir.join("index.json"), dir.join("index.json.next"));
        let put = || -> std::io::Result<()> {
            let mut file = File::create(&next)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            fs::rename(&next, &path)?;
            File::open(dir)?.sync_all()
        };
        put().map_err(|source| Error::Io { doing: "write", path: path.clone(), source })
    }

    /// Layers that some image needs.
    pub(crate) fn layers(&self) -> BTreeSet<&str> {
        self.images.values().flat_map(|r| r.layers.iter().map(String::as_str)).collect()
    }

    /// Drops images that no name leads to.
    pub(crate) fn drop_unnamed(&mut self) {
        let named: BTreeSet<String> = self.names.values().cloned().collect();
        self.images.retain(|id, _| named.contains(id));
    }
}
