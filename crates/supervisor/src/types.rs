//! What goes in and out of this crate.

use oci_spec::runtime::Spec;
use std::path::PathBuf;
use std::time::SystemTime;

/// What to run.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Unique on this node: `<pod uid>.<container name>.<attempt>`; letters, digits, `_+-.`, at most 200 bytes.
    pub id: String,
    /// The whole runtime specification: root path, mounts, namespaces (by path for net, ipc, uts), process, resources, cgroupsPath.
    pub spec: Spec,
    /// The container's log, CRI format (`2026-01-31T12:00:00.000000000Z stdout F text`), rotated beside itself. `None`: no log.
    pub log: Option<Log>,
    /// Keep standard input open for attach.
    pub stdin: bool,
    /// Close standard input when the first attached client closes it.
    pub stdin_once: bool,
    /// Give the container a terminal (`spec.process.terminal` is set to agree).
    pub tty: bool,
}

/// Where output goes.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Log {
    /// The file that is written; older ones are `<path>.<timestamp>`.
    pub path: PathBuf,
    /// Rotate past this size (10 MiB upstream).
    pub max_bytes: u64,
    /// Files kept, the written one included (5 upstream).
    pub max_files: u32,
}

/// How a container ended. Recorded on disk by the supervisor before it tells anyone.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exit {
    /// Exit code; 128 + signal when killed.
    pub code: i32,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
    /// The kernel killed it for memory.
    pub oom_killed: bool,
    /// When.
    pub finished_at: SystemTime,
}

/// A command to run in a running container.
#[derive(Debug, Clone, Default)]
pub struct Exec {
    /// argv.
    pub command: Vec<String>,
    /// Give it a terminal.
    pub tty: bool,
    /// Connect standard input.
    pub stdin: bool,
}

/// What went wrong, with which container.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime could not start it; the words become the container's waiting message (`exec: "foo": executable file not found in $PATH`).
    #[error("{0}")]
    Start(String),
    /// An exec whose command could not be run; the code is what a shell would give: 126 not executable, 127 not found.
    #[error("exec failed: unable to start container process: {message}")]
    Exec {
        /// 126 or 127; 128 when the fault is not the command's.
        code: i32,
        /// In the runtime's words.
        message: String,
    },
    /// The container is not running.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// Talking to the supervisor failed.
    #[error("container {id}: {doing}: {source}")]
    Io {
        /// Container id.
        id: String,
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

#[cfg(feature = "node")]
impl Error {
    pub(crate) fn io(id: &str, doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let id = id.to_owned();
        move |source| Self::Io { id, doing, source }
    }
}
