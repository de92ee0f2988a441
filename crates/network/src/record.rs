//! Records in the run directory: what was asked of the kernel, written before it was asked. No fsync: they die with what they describe.

use crate::{Error, HostPort, Ranges, ServicePort};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// One sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    /// Pod uid.
    pub pod: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// All of it was made. Without it a start undoes what there is.
    pub complete: bool,
}

/// What was done to the host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HostRecord {
    /// The ranges whose addresses and routes were added.
    pub ranges: Ranges,
    /// `net.ipv4.ip_forward` was 0 and was set.
    pub forwarding_was_off: bool,
    /// Accept rules were put into Docker's `DOCKER-USER`.
    pub docker_user: bool,
}

/// The rules last asked for, so that a restart serves them until the first change arrives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RulesRecord {
    /// Services.
    pub services: Vec<ServicePort>,
    /// Host ports.
    pub host_ports: Vec<HostPort>,
}

/// Where everything is, under one run directory.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    root: PathBuf,
}

impl Paths {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
    pub(crate) fn netns_dir(&self) -> PathBuf {
        self.root.join("netns")
    }
    pub(crate) fn netns(&self, pod: &str) -> PathBuf {
        self.netns_dir().join(pod)
    }
    pub(crate) fn sandboxes_dir(&self) -> PathBuf {
        self.root.join("sandboxes")
    }
    pub(crate) fn sandbox(&self, pod: &str) -> PathBuf {
        self.sandboxes_dir().join(format!("{pod}.json"))
    }
    pub(crate) fn host(&self) -> PathBuf {
        self.root.join("network.json")
    }
    pub(crate) fn rules(&self) -> PathBuf {
        self.root.join("rules.json")
    }
}

/// A pod uid becomes a file's name: nothing that could leave the directory.
pub(crate) fn check_pod(pod: &str) -> Result<(), Error> {
    let fine = !pod.is_empty() && pod.len() <= 128 && pod.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if fine { Ok(()) } else { Err(Error::kernel(format!("name files after pod {pod:?}"), "not a pod uid")) }
}

/// Writes whole or not at all.
pub(crate) fn write<T: Serialize>(path: &Path, record: &T) -> Result<(), Error> {
    let fail = |source| Error::Record { path: path.to_owned(), source };
    let bytes = serde_json::to_vec(record).map_err(|e| fail(e.into()))?;
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path)).map_err(fail)
}

/// Reads; absent or cut short (the run directory is not fsynced) is `None`.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "unreadable record ignored"))
            .ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Record { path: path.to_owned(), source }),
    }
}

/// Removes; absent is done.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::Record { path: path.to_owned(), source: e }),
        _ => Ok(()),
    }
}

/// File names (without `.json`) in a directory of ours; an absent directory is empty.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let fail = |source| Error::Record { path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(fail(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry.map_err(fail)?.file_name().into_string() {
            names.push(name.strip_suffix(".json").unwrap_or(&name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Makes a directory only root can enter.
pub(crate) fn make_dir(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| Error::Record { path: path.to_owned(), source })
}
