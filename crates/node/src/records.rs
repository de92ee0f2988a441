//! What a pod's kernel resources are found again by: one file a pod, written before the first of them, removed after the last.

use crate::container::paths::Paths;
use k8s_openapi::api::core::v1::Pod;
use mainstay_client::Resource;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Writes the record: the pod's object, so that an orphan can be ended as it wished. No fsync: it dies with the kernel state it describes. Blocking.
pub(crate) fn write(paths: &Paths, pod: &Pod) -> io::Result<()> {
    use std::io::Write;
    let path = paths.record();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(paths.sandbox_dir())?;
    let next = path.with_extension("json.next");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(&pod.encode())?;
    std::fs::rename(next, path)
}

pub(crate) fn remove(paths: &Paths) -> io::Result<()> {
    match std::fs::remove_file(paths.record()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// All pods that have a record.
pub(crate) fn read_all(run_dir: &Path) -> Vec<Arc<Pod>> {
    let mut pods = Vec::new();
    for entry in std::fs::read_dir(run_dir.join("pods")).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        match std::fs::read(&path).map_err(|e| e.to_string()).and_then(|bytes| Pod::decode(&bytes).map_err(|e| e.to_string())) {
            Ok(pod) => pods.push(Arc::new(pod)),
            Err(error) => tracing::error!(record = %path.display(), error, "a pod's record cannot be read; what it describes is cleaned up by its name alone"),
        }
    }
    pods
}
