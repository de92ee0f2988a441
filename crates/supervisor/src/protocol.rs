//! What the node and the supervisor say to one another, and the files in a container's directory.
//!
//! `<containers>/<id>/` holds, mode 0700:
//!
//! | file | written by | what |
//! |---|---|---|
//! | `launch.json` | node | [`LaunchFile`]: the specification (its environment may hold secrets: mode 0600) |
//! | `supervisor.json` | supervisor | [`Process`]: itself |
//! | `state.json` | supervisor | [`StateFile`]: the container's first process, once it is exec'ed |
//! | `error.json` | supervisor | [`Failure`]: the container could not be started |
//! | `exit.json` | supervisor | [`crate::Exit`]: how it ended, before anyone is told |
//! | `sock` | supervisor | a `SOCK_SEQPACKET` socket: one JSON message a packet, at most [`MAX_MESSAGE`] bytes |
//!
//! Readers ignore fields they do not know, and fields added later have defaults: a node speaks with supervisors that an earlier or later
//! version left running. [`VERSION`] changes only when that is not enough.

use crate::process::Process;
use crate::types::{Exit, Log};
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The version that this code speaks.
pub const VERSION: u32 = 1;
/// The largest message, in bytes; a socket's default buffer holds it.
pub const MAX_MESSAGE: usize = 128 * 1024;
/// Most file descriptors with one message.
pub const MAX_FDS: usize = 3;

/// `launch.json`.
pub const LAUNCH: &str = "launch.json";
/// `supervisor.json`.
pub const SUPERVISOR: &str = "supervisor.json";
/// `state.json`.
pub const STATE: &str = "state.json";
/// `error.json`.
pub const ERROR: &str = "error.json";
/// `exit.json`.
pub const EXIT: &str = "exit.json";
/// `sock`.
pub const SOCKET: &str = "sock";

/// What to run, as the node hands it over.
#[derive(Debug, Serialize, Deserialize)]
pub struct LaunchFile {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// Container id.
    pub id: String,
    /// The specification.
    pub spec: Spec,
    /// Log, if any.
    #[serde(default)]
    pub log: Option<Log>,
    /// Keep standard input open.
    #[serde(default)]
    pub stdin: bool,
    /// Close it with the first client.
    #[serde(default)]
    pub stdin_once: bool,
    /// With a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Where the seccomp profile's compiled filter is, or is to be kept (its name is the digest of the profile).
    #[serde(default)]
    pub seccomp_filter: Option<PathBuf>,
}

/// A container that runs or ran.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StateFile {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// Its first process.
    pub process: Process,
    /// When that was exec'ed.
    pub started_at: SystemTime,
    /// `linux.cgroupsPath`.
    pub cgroup: PathBuf,
    /// What of the specification this host did not allow and was lowered instead.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Why a container or an exec could not be started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    /// What a shell would exit with: 127 not found, 126 not executable; 128 for all else.
    pub code: i32,
    /// In the runtime's words.
    pub message: String,
}

/// From the node.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Answered with [`Reply::Hello`].
    Hello {
        /// [`VERSION`] of the asker.
        version: u32,
    },
    /// Answered with [`Reply::Exited`] once the container ended.
    Wait,
    /// Answered with [`Reply::Started`] (with the terminal's file descriptor, if one was asked for) or [`Reply::Failed`], then with
    /// [`Reply::Exited`]. Without a terminal the message carries the command's standard input (if `stdin`), output and error.
    Exec {
        /// argv.
        command: Vec<String>,
        /// With a terminal.
        #[serde(default)]
        tty: bool,
        /// With standard input.
        #[serde(default)]
        stdin: bool,
    },
    /// Kills the process group of this connection's exec.
    ExecKill {
        /// The signal.
        signal: i32,
    },
    /// Answered with [`Reply::Done`]. The message carries a pipe to read standard input from (if `stdin`), and pipes to write output and
    /// (without a terminal) error to.
    Attach {
        /// With standard input.
        #[serde(default)]
        stdin: bool,
    },
    /// The terminal's size. Answered with [`Reply::Done`].
    Resize {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// Answered with [`Reply::Done`].
    ReopenLog,
    /// Ends the supervisor of an ended container. Answered with [`Reply::Done`], then end of file.
    Quit,
}

/// From the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Hello`].
    Hello {
        /// [`VERSION`] of the supervisor.
        version: u32,
    },
    /// It is done.
    Done,
    /// A process was exec'ed.
    Started {
        /// Its process id, in the host's process namespace.
        pid: i32,
    },
    /// It ended.
    Exited {
        /// How.
        exit: Exit,
    },
    /// It cannot be done.
    Failed {
        /// Why.
        #[serde(flatten)]
        failure: Failure,
    },
    /// The container is not running.
    NotRunning,
}

/// Writes a file so that readers see all of it or nothing. No fsync: it describes processes, which are gone after a crash of the machine.
pub fn write_record<T: Serialize>(dir: &Path, name: &str, value: &T) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let bytes = serde_json::to_vec(value)?;
    let temporary = dir.join(format!("{name}.new"));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&bytes)?;
    std::fs::rename(&temporary, dir.join(name))
}

/// Reads such a file; `None` if there is none.
pub fn read_record<T: for<'de> Deserialize<'de>>(dir: &Path, name: &str) -> io::Result<Option<T>> {
    match std::fs::read(dir.join(name)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_with_fields_of_a_later_version_are_understood() {
        let request: Request = serde_json::from_str(r#"{"op":"exec","command":["true"],"columns":80,"user":"x"}"#).unwrap();
        assert!(matches!(request, Request::Exec { ref command, tty: false, stdin: false } if command == &["true"]));
        let reply: Reply = serde_json::from_str(r#"{"reply":"failed","code":127,"message":"no","detail":{}}"#).unwrap();
        assert!(matches!(reply, Reply::Failed { failure } if failure.code == 127 && failure.message == "no"));
        let state = r#"{"version":9,"process":{"pid":1,"start_time":2,"boot":3},"started_at":{"secs_since_epoch":1,"nanos_since_epoch":0},"cgroup":"/a"}"#;
        let state: StateFile = serde_json::from_str(state).unwrap();
        assert_eq!((state.process.pid, state.warnings.len()), (1, 0));
    }

    #[test]
    fn a_record_is_replaced_whole_and_readable_only_by_root() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        assert!(read_record::<Failure>(dir.path(), ERROR).unwrap().is_none());
        write_record(dir.path(), ERROR, &Failure { code: 127, message: "a".repeat(100) }).unwrap();
        write_record(dir.path(), ERROR, &Failure { code: 1, message: "b".into() }).unwrap();
        assert_eq!(read_record::<Failure>(dir.path(), ERROR).unwrap().unwrap().message, "b");
        assert_eq!(std::fs::metadata(dir.path().join(ERROR)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
