//! The process that owns one container, and the way the node speaks with it.
//!
//! The node starts one supervisor a container from a sealed memfd; the supervisor makes the container with libcontainer, holds its standard streams,
//! writes its log, reaps it, and records its exit. It outlives the node, which finds it again by its directory.

use oci_spec::runtime::Spec;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What to run.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Unique on this node: `<pod uid>.<container name>.<attempt>`, cut to what cgroup and socket names bear.
    pub id: String,
    /// The whole runtime specification: root path, mounts, namespaces (by path for net, ipc, uts), process, resources, cgroupsPath.
    pub spec: Spec,
    /// The container's log, CRI format (`2026-01-31T12:00:00.000000000Z stdout F text`), rotated beside itself. `None`: no log.
    pub log: Option<Log>,
    /// Keep standard input open for attach.
    pub stdin: bool,
    /// Close standard input when the first attached client closes it.
    pub stdin_once: bool,
    /// Give the container a terminal (`spec.process.terminal` must agree).
    pub tty: bool,
}

/// Where output goes.
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone)]
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

/// Streams of an exec or attach. Dropping them ends an exec's client side, not the process of an attach.
#[derive(Debug)]
pub struct Streams {
    /// Standard input, if asked for; shut down its write side for end of file.
    pub stdin: Option<tokio::net::unix::pipe::Sender>,
    /// Standard output (all output with a tty).
    pub stdout: Option<tokio::net::unix::pipe::Receiver>,
    /// Standard error, without a tty.
    pub stderr: Option<tokio::net::unix::pipe::Receiver>,
}

/// All containers of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Containers {}

/// One container. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Container {}

/// A running exec.
#[derive(Debug)]
pub struct Execution {
    /// Its streams.
    pub streams: Streams,
}

impl Containers {
    /// `dir`: one directory a container (socket, pid, exit record), e.g. `/run/mainstay/<instance>/containers`.
    pub fn open(_dir: &Path) -> Result<Self, Error> {
        todo!()
    }
    /// Makes and starts a container; returns once its first process has been exec'ed.
    pub async fn launch(&self, _launch: Launch) -> Result<Container, Error> {
        todo!()
    }
    /// Every container a previous process launched and nobody removed, running or ended.
    pub async fn adopt(&self) -> Result<Vec<Container>, Error> {
        todo!()
    }
}

impl Container {
    /// Its id.
    pub fn id(&self) -> &str {
        todo!()
    }
    /// Its first process.
    pub fn pid(&self) -> i32 {
        todo!()
    }
    /// When that was exec'ed.
    pub fn started_at(&self) -> SystemTime {
        todo!()
    }
    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        todo!()
    }
    /// Waits for the end. Many may wait.
    pub async fn wait(&self) -> Exit {
        todo!()
    }
    /// Sends a signal to the first process.
    pub async fn signal(&self, _signal: i32) -> Result<(), Error> {
        todo!()
    }
    /// Kills every process of the container's cgroup and waits until it is empty.
    pub async fn kill_all(&self) -> Result<(), Error> {
        todo!()
    }
    /// Runs a command inside, with the container's user, groups, capabilities, seccomp, environment and working directory, in its cgroup.
    pub async fn exec(&self, _exec: Exec) -> Result<Execution, Error> {
        todo!()
    }
    /// Connects to the first process's streams; output from now on.
    pub async fn attach(&self, _stdin: bool) -> Result<Streams, Error> {
        todo!()
    }
    /// Terminal size.
    pub async fn resize(&self, _columns: u16, _rows: u16) -> Result<(), Error> {
        todo!()
    }
    /// Tells the supervisor to reopen its log (after rotation by hand); rotation itself is the supervisor's.
    pub async fn reopen_log(&self) -> Result<(), Error> {
        todo!()
    }
    /// Removes what is left of an ended container: directory, cgroup. The log stays.
    pub async fn remove(self) -> Result<(), Error> {
        todo!()
    }
}

impl Execution {
    /// Terminal size.
    pub async fn resize(&self, _columns: u16, _rows: u16) -> Result<(), Error> {
        todo!()
    }
    /// Waits for the command's exit code.
    pub async fn wait(&mut self) -> Result<Exit, Error> {
        todo!()
    }
    /// Kills the command (an exec probe past its timeout).
    pub async fn kill(&self) -> Result<(), Error> {
        todo!()
    }
}
