//! OCI images: pull, import, unpack, keep.

use oci_spec::image::ImageConfiguration;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An image on this node, ready to be a root file system. Holding it keeps its layers from being removed.
#[derive(Clone, Debug)]
pub struct Image {
    /// `sha256:…` of the image configuration: the image's id.
    pub id: String,
    /// Names it goes by: `docker.io/library/nginx:1.25`.
    pub names: Vec<String>,
    /// `name@sha256:…` where it came from a registry.
    pub digests: Vec<String>,
    /// Unpacked layers, bottom first: overlay lower directories.
    pub layers: Vec<PathBuf>,
    /// Entrypoint, Cmd, Env, User, WorkingDir, StopSignal, Volumes …
    pub config: Arc<ImageConfiguration>,
    /// Bytes on disk.
    pub size_bytes: u64,
}

/// User and password for a registry, from an imagePullSecret.
#[derive(Clone)]
pub struct Credentials {
    /// Registry host the credentials are for: `registry.example.com`, `https://index.docker.io/v1/`.
    pub registry: String,
    /// User.
    pub user: String,
    /// Password or token.
    pub password: String,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name does not parse. Event reason `InvalidImageName`.
    #[error("couldn't parse image name {name:?}: {reason}")]
    Name {
        /// As the user wrote it.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Not on this node, and the registry does not have it, refuses or does not answer.
    #[error("failed to pull image {image:?}: {reason}; import it with `mainstay image import FILE`")]
    Pull {
        /// Full name.
        image: String,
        /// What the registry said.
        reason: String,
    },
    /// An archive that cannot be taken.
    #[error("{archive}: {reason}")]
    Archive {
        /// File or `standard input`.
        archive: String,
        /// Why.
        reason: String,
    },
    /// No such image.
    #[error("no image {0:?}; `mainstay image list` shows what there is")]
    NotFound(String),
    /// The disk.
    #[error("{doing} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// The node's images: blobs and layers below one directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Images {}

impl Images {
    /// Opens or creates; removes what an interrupted import left. `mirrors`: registry host → endpoints to try first, read from `<dir>/../registries.json` if there.
    pub fn open(_dir: &Path) -> Result<Self, Error> {
        todo!()
    }
    /// An image by any name a user may write (`nginx`, `nginx:1.25`, `docker.io/library/nginx@sha256:…`, an id).
    pub fn find(&self, _name: &str) -> Option<Image> {
        todo!()
    }
    /// All, by name.
    pub fn list(&self) -> Vec<Image> {
        todo!()
    }
    /// Pulls from the name's registry or its mirrors, checking every digest. Pulls of one name share the work.
    pub async fn pull(&self, _name: &str, _credentials: &[Credentials]) -> Result<Image, Error> {
        todo!()
    }
    /// Takes a docker or OCI archive (plain, gzip or zstd), from a file or a stream; returns the images in it. Blocking.
    pub fn import(&self, _archive: &mut dyn std::io::Read, _archive_name: &str) -> Result<Vec<Image>, Error> {
        todo!()
    }
    /// Removes a name, and what no other name or running container needs.
    pub fn remove(&self, _name: &str) -> Result<Vec<String>, Error> {
        todo!()
    }
}

/// The canonical form of what a user wrote: `nginx` → `docker.io/library/nginx:latest`.
pub fn canonical(_name: &str) -> Result<String, Error> {
    todo!()
}
