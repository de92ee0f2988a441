//! How `down` and `status` speak with a running engine: one JSON object a line on `<run>/control.sock`, which only root can reach.

use crate::data_dir::DataDir;
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// What a command asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "command")]
pub(crate) enum Request {
    /// How it is.
    Status,
    /// Stop the pods, then the engine.
    #[serde(rename_all = "camelCase")]
    Down {
        /// Longest time for all pods together.
        timeout_seconds: u64,
    },
}

/// What the engine answers, a line each; `Done` is the last.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "answer")]
pub(crate) enum Answer {
    /// To `Status`.
    Status(Box<Status>),
    /// A step of `Down`.
    Step {
        /// For people.
        words: String,
    },
    /// The end of `Down`.
    Done,
}

/// The state of a running engine. `mainstay status -o json` prints it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    pub running: bool,
    pub pid: u32,
    pub version: String,
    pub url: String,
    pub port: u16,
    pub data_dir: PathBuf,
    pub store_bytes: u64,
    pub node: String,
    pub node_ready: bool,
    pub pods: usize,
    pub pods_running: usize,
    pub pods_ready: usize,
    pub memory_bytes: u64,
    pub uptime_seconds: u64,
    pub warnings: Vec<String>,
}

/// The socket of an instance.
pub(crate) fn socket(data: &DataDir) -> PathBuf {
    data.run_dir().join("control.sock")
}

/// Asks a running engine how it is.
pub(crate) fn status(data: &DataDir) -> Result<Status> {
    let mut found = None;
    ask(data, &Request::Status, Duration::from_secs(10), |answer| {
        if let Answer::Status(status) = answer {
            found = Some(*status);
        }
    })?;
    found.context("the engine gave no answer")
}

/// Stops pods and engine; returns when the engine has stored everything and is about to exit.
pub(crate) fn down(data: &DataDir, timeout_seconds: u64, mut step: impl FnMut(&str)) -> Result<()> {
    let mut done = false;
    let pid = status(data)?.pid;
    ask(data, &Request::Down { timeout_seconds }, Duration::from_secs(timeout_seconds + 60), |answer| match answer {
        Answer::Step { words } => step(&words),
        Answer::Done => done = true,
        Answer::Status(_) => {}
    })?;
    if !done {
        bail!("the engine ended before it said that all is stopped; its log is {}", data.path().join("engine.log").display());
    }
    // The data directory is free once the process is gone.
    let limit = std::time::Instant::now() + Duration::from_secs(10);
    while std::path::Path::new(&format!("/proc/{pid}")).exists() && std::time::Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn ask(data: &DataDir, request: &Request, limit: Duration, mut each: impl FnMut(Answer)) -> Result<()> {
    let path = socket(data);
    let mut stream = UnixStream::connect(&path).with_context(|| format!("connect to {}", path.display()))?;
    stream.set_read_timeout(Some(limit))?;
    writeln!(stream, "{}", serde_json::to_string(request)?)?;
    for line in BufReader::new(stream).lines() {
        each(serde_json::from_str(&line?).context("the engine answers with words this version does not know: use the mainstay that started it")?);
    }
    Ok(())
}
