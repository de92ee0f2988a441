//! One container, as the node sees it.

use super::exec::{self, Execution, Streams};
use super::link::Link;
use super::{readiness, unknown_exit};
use crate::cgroup::Cgroup;
use crate::process::Process;
use crate::protocol::{self, Reply, Request, StateFile};
use crate::types::{Error, Exec, Exit};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// How long a supervisor may take over a request that it answers from its loop.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// One container. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Container {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: String,
    dir: PathBuf,
    state: StateFile,
    cgroup: Cgroup,
    exit: watch::Receiver<Option<Exit>>,
    watcher: tokio::task::JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Container {
    pub(super) fn running(id: String, dir: PathBuf, state: StateFile) -> Result<Self, Error> {
        let cgroup = Cgroup::at(&state.cgroup).map_err(Error::io(&id, "check the cgroup's path"))?;
        for warning in &state.warnings {
            tracing::warn!(container = id, "{warning}");
        }
        let recorded = protocol::read_record::<Exit>(&dir, protocol::EXIT).map_err(Error::io(&id, "read its exit record"))?;
        let ended = recorded.is_some();
        let (sender, exit) = watch::channel(recorded);
        let (watched, process) = (dir.clone(), state.process);
        let watcher = tokio::spawn(async move {
            if !ended {
                let exit = watch_for_exit(&watched, process).await;
                sender.send_replace(Some(exit));
            }
        });
        Ok(Self { inner: Arc::new(Inner { id, dir, state, cgroup, exit, watcher }) })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Its first process.
    pub fn pid(&self) -> i32 {
        self.inner.state.process.pid
    }

    /// When that was exec'ed.
    pub fn started_at(&self) -> SystemTime {
        self.inner.state.started_at
    }

    /// What of the specification this host did not allow and was lowered instead (`RLIMIT_NOFILE lowered from …`); worth an event.
    pub fn warnings(&self) -> &[String] {
        &self.inner.state.warnings
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        self.inner.exit.borrow().clone()
    }

    /// Waits for the end. Many may wait.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.inner.exit.clone();
        let ended = exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
        match ended {
            Some(exit) => exit,
            // Only when the runtime shuts down under us.
            None => std::future::pending().await,
        }
    }

    /// Sends a signal to the first process.
    pub async fn signal(&self, signal: i32) -> Result<(), Error> {
        if self.exit().is_some() {
            return Err(Error::NotRunning(self.inner.id.clone()));
        }
        self.inner.state.process.signal(signal).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NotRunning(self.inner.id.clone()),
            _ => Error::io(&self.inner.id, "signal it")(error),
        })
    }

    /// Kills every process of the container's cgroup and waits until it is empty, for as long as that takes (a process may hang in the kernel).
    pub async fn kill_all(&self) -> Result<(), Error> {
        self.inner.cgroup.kill_until_empty().await.map_err(Error::io(&self.inner.id, "kill its processes"))
    }

    /// Whether any process is left in its cgroup.
    pub fn has_processes(&self) -> Result<bool, Error> {
        let pids = self.inner.cgroup.pids().map_err(Error::io(&self.inner.id, "list its processes"))?;
        Ok(!pids.is_empty())
    }

    /// Runs a command inside, with the container's user, groups, capabilities, seccomp, environment and working directory, in its cgroup.
    ///
    /// # Errors
    /// [`Error::Exec`] if the command cannot be executed, [`Error::NotRunning`] if the container ended.
    pub async fn exec(&self, exec: Exec) -> Result<Execution, Error> {
        exec::exec(&self.inner.id, self.link("exec in it")?, exec).await
    }

    /// Connects to the first process's streams; output from now on. The first client of an interactive container gets up to 64 KiB of earlier
    /// output too.
    pub async fn attach(&self, stdin: bool) -> Result<Streams, Error> {
        let link = self.link("attach to it")?;
        exec::attach(&self.inner.id, link, stdin).await
    }

    /// Terminal size.
    pub async fn resize(&self, columns: u16, rows: u16) -> Result<(), Error> {
        self.ask("resize its terminal", Request::Resize { columns, rows }).await
    }

    /// Tells the supervisor to reopen its log (after rotation by hand); rotation itself is the supervisor's.
    pub async fn reopen_log(&self) -> Result<(), Error> {
        self.ask("reopen its log", Request::ReopenLog).await
    }

    /// Removes what is left of an ended container: directory, cgroup. The log stays.
    pub async fn remove(self) -> Result<(), Error> {
        let inner = &self.inner;
        let io = |doing| Error::io(&inner.id, doing);
        if self.exit().is_none() {
            return Err(io("remove it")(io::Error::other("it still runs")));
        }
        // No process of it may be left where its successor will be.
        self.kill_all().await?;
        if let Ok(link) = Link::connect(&inner.dir) {
            let _ = tokio::time::timeout(ANSWER_TIMEOUT, link.ask(&Request::Quit, &[])).await;
        }
        if let Ok(Some(supervisor)) = protocol::read_record::<Process>(&inner.dir, protocol::SUPERVISOR) {
            // One that did not answer has nothing left to do.
            let _ = supervisor.signal(libc::SIGKILL);
        }
        inner.cgroup.remove().map_err(io("remove its cgroup"))?;
        std::fs::remove_dir_all(&inner.dir).map_err(io("remove its directory"))
    }

    fn link(&self, doing: &'static str) -> Result<Link, Error> {
        Link::connect(&self.inner.dir).map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound if self.exit().is_some() => Error::NotRunning(self.inner.id.clone()),
            _ => Error::io(&self.inner.id, doing)(error),
        })
    }

    async fn ask(&self, doing: &'static str, request: Request) -> Result<(), Error> {
        let link = self.link(doing)?;
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, link.ask(&request, &[])).await;
        let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match answer.map_err(Error::io(&self.inner.id, doing))?.0 {
            Reply::Done => Ok(()),
            Reply::NotRunning => Err(Error::NotRunning(self.inner.id.clone())),
            Reply::Failed { failure } => Err(Error::io(&self.inner.id, doing)(io::Error::other(failure.message))),
            other => Err(Error::io(&self.inner.id, doing)(io::Error::other(format!("unexpected answer {other:?}")))),
        }
    }
}

/// From the supervisor; from its record, if it is gone; from the process itself, if there is no record either.
async fn watch_for_exit(dir: &std::path::Path, process: Process) -> Exit {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Ok(link) = Link::connect(dir)
            && link.send(&Request::Wait, &[]).await.is_ok()
            && let Ok(Some((Reply::Exited { exit }, _))) = link.receive::<Reply>().await
        {
            return exit;
        }
        if let Ok(Some(exit)) = protocol::read_record::<Exit>(dir, protocol::EXIT) {
            return exit;
        }
        let supervisor = protocol::read_record::<Process>(dir, protocol::SUPERVISOR).ok().flatten();
        if !supervisor.is_some_and(|supervisor| supervisor.exists()) {
            wait_for_process(process).await;
            // It may have recorded the exit with its last breath.
            let recorded = protocol::read_record::<Exit>(dir, protocol::EXIT).ok().flatten();
            return recorded.unwrap_or_else(unknown_exit);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// Until it is gone: never say that a container ended while its process may still write to its volume.
async fn wait_for_process(process: Process) {
    if let Ok(fd) = process.open()
        && let Ok(fd) = readiness::register(fd, tokio::io::Interest::READABLE)
    {
        let _ = fd.readable().await.map(drop);
        return;
    }
    while process.exists() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
