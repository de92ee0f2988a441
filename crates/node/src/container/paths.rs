//! Where a pod's files are.

use crate::Config;
use crate::pod::reference::PodRef;
use std::path::PathBuf;

/// All paths of one pod. Nothing here touches the disk.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    data: PathBuf,
    run: PathBuf,
    pod: PodRef,
}

impl Paths {
    pub(crate) fn new(config: &Config, pod: &PodRef) -> Self {
        Self { data: config.data_dir.clone(), run: config.run_dir.clone(), pod: pod.clone() }
    }
    /// Files, volumes and root file systems.
    pub(crate) fn pod_dir(&self) -> PathBuf {
        self.data.join("pods").join(&self.pod.uid)
    }
    /// What dies with the kernel state: namespace pins, subPath mounts.
    pub(crate) fn sandbox_dir(&self) -> PathBuf {
        self.run.join("pods").join(&self.pod.uid)
    }
    /// The record this pod is found again by.
    pub(crate) fn record(&self) -> PathBuf {
        self.run.join("pods").join(format!("{}.json", self.pod.uid))
    }
    pub(crate) fn etc(&self, file: &str) -> PathBuf {
        self.pod_dir().join("etc").join(file)
    }
    pub(crate) fn shm(&self) -> PathBuf {
        self.sandbox_dir().join("shm")
    }
    pub(crate) fn namespace(&self, kind: &str) -> PathBuf {
        self.sandbox_dir().join(kind)
    }
    /// Everything of one run of a container but its log.
    pub(crate) fn run_of(&self, container: &str, attempt: u32) -> PathBuf {
        self.pod_dir().join("containers").join(container).join(attempt.to_string())
    }
    pub(crate) fn termination_message(&self, container: &str, attempt: u32) -> PathBuf {
        self.run_of(container, attempt).join("termination-message")
    }
    /// The signal that asks the container's run to end, kept where it is found without the image.
    pub(crate) fn stop_signal(&self, container: &str) -> PathBuf {
        self.sandbox_dir().join("stop-signals").join(container)
    }
    pub(crate) fn subpath(&self, container: &str, index: usize) -> PathBuf {
        self.sandbox_dir().join("subpaths").join(container).join(index.to_string())
    }
    /// Volumes that may live on disk.
    pub(crate) fn volume(&self, kind: &str, name: &str) -> PathBuf {
        self.pod_dir().join("volumes").join(kind).join(name)
    }
    /// Volumes that must not: on the run directory's tmpfs.
    pub(crate) fn secret_volumes(&self) -> PathBuf {
        secrets_dir(&self.run).join(&self.pod.uid)
    }
    pub(crate) fn logs(&self) -> PathBuf {
        let PodRef { namespace, name, uid } = &self.pod;
        self.data.join("logs").join(format!("{namespace}_{name}_{uid}"))
    }
    pub(crate) fn log(&self, container: &str, attempt: u32) -> PathBuf {
        self.logs().join(container).join(format!("{attempt}.log"))
    }
}

/// One tmpfs for the secrets and tokens of all pods.
pub(crate) fn secrets_dir(run_dir: &std::path::Path) -> PathBuf {
    run_dir.join("secrets")
}

/// The runtime's name of one run of a container.
pub(crate) fn container_id(pod_uid: &str, container: &str, attempt: u32) -> String {
    format!("{pod_uid}.{container}.{attempt}")
}

/// The reverse: neither uids nor container names hold dots.
pub(crate) fn parse_container_id(id: &str) -> Option<(&str, &str, u32)> {
    let mut parts = id.split('.');
    let (uid, name, attempt) = (parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
    (parts.next().is_none() && !uid.is_empty() && !name.is_empty()).then_some((uid, name, attempt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_whose_run_it_is() {
        assert_eq!(parse_container_id(&container_id("u-1", "app", 3)), Some(("u-1", "app", 3)));
        for bad in ["", "u.app", "u.app.x", "u.app.1.2", ".app.1"] {
            assert_eq!(parse_container_id(bad), None, "{bad}");
        }
    }
}
