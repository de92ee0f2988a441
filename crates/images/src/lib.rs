//! OCI images: pull, import, unpack, keep.

mod archive;
mod index;
mod layer;
mod name;
mod pull;
mod store;

pub use name::canonical;
pub use store::Images;

use oci_spec::image::ImageConfiguration;
use std::path::PathBuf;
use std::sync::Arc;

/// An image on this node, ready to be a root file system.
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
// No Debug: a password must not reach a log.
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
    /// A container's root file system is made of it.
    #[error("image {0:?} is in use by a container: delete its pod first")]
    InUse(String),
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

