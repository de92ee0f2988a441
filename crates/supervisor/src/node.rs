//! The node's side: starting supervisors, finding them again, speaking with them.

mod container;
mod exec;
mod link;
mod program;
mod readiness;

pub use container::Container;
pub use exec::{Execution, Streams};

use crate::cgroup::Cgroup;
use crate::process::Process;
use crate::protocol::{self, Failure, LaunchFile, Reply, StateFile, VERSION};
use crate::types::{Error, Exit, Launch};
use link::Link;
use program::Program;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The longest a launch may take: mounts of a slow disk, not the container's own start.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(120);
/// Compiled seccomp filters, beside the containers' directories.
const FILTERS: &str = ".seccomp";
/// The longest id, in bytes: a file's name, with room for suffixes.
const MAX_ID: usize = 200;

/// All containers of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Containers {
    dir: Arc<PathBuf>,
    program: Arc<Program>,
}

impl Containers {
    /// `dir`: one directory a container (socket, pid, exit record), e.g. `/run/mainstay/<instance>/containers`.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let failed = |doing| Error::io("-", doing);
        let mut private = std::fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(dir.join(FILTERS)).map_err(failed("make the containers' directory"))?;
        let dir = dir.canonicalize().map_err(failed("find the containers' directory"))?;
        let program = Program::load().map_err(failed("make the supervisor executable"))?;
        Ok(Self { dir: Arc::new(dir), program: Arc::new(program) })
    }

    /// Makes and starts a container; returns once its first process has been exec'ed.
    ///
    /// On an error nothing is left of it: no process, no cgroup, no directory. When the future is dropped half way the supervisor may still
    /// finish; [`Containers::adopt`] finds the container then.
    pub async fn launch(&self, launch: Launch) -> Result<Container, Error> {
        let id = launch.id.clone();
        check_id(&id)?;
        let dir = self.dir.join(&id);
        let cgroup = launch.spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone()).unwrap_or_default();
        let cgroup = Cgroup::at(&cgroup).map_err(Error::io(&id, "check the cgroup's path"))?;
        std::fs::DirBuilder::new().mode(0o700).create(&dir).map_err(Error::io(&id, "make its directory"))?;
        match self.start(&dir, launch).await {
            Ok(state) => Container::running(id, dir, state),
            Err(error) => {
                self.clean_up(&dir, &cgroup).await.map_err(Error::io(&id, "clean up after a failed start"))?;
                Err(error)
            }
        }
    }

    async fn start(&self, dir: &Path, launch: Launch) -> Result<StateFile, Error> {
        let id = launch.id.clone();
        let seccomp_filter = launch.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()).map(|profile| self.filter_path(profile));
        let seccomp_filter = seccomp_filter.transpose().map_err(Error::io(&id, "read its seccomp profile"))?;
        let Launch { id: _, spec, log, stdin, stdin_once, tty } = launch;
        let file = LaunchFile { version: VERSION, id: id.clone(), spec, log, stdin, stdin_once, tty, seccomp_filter };
        protocol::write_record(dir, protocol::LAUNCH, &file).map_err(Error::io(&id, "write its launch record"))?;
        let link = self.program.spawn(dir).map_err(Error::io(&id, "start its supervisor"))?;
        let link = Link::new(link).map_err(Error::io(&id, "speak with its supervisor"))?;
        let answer = tokio::time::timeout(LAUNCH_TIMEOUT, link.receive::<Reply>()).await;
        let answer = answer.map_err(|_| Error::Start(format!("the container did not start within {} s", LAUNCH_TIMEOUT.as_secs())))?;
        match answer.map_err(Error::io(&id, "wait for its start"))? {
            Some((Reply::Started { .. }, _)) => {}
            Some((Reply::Failed { failure }, _)) => return Err(Error::Start(failure.message)),
            _ => return Err(Error::Start("the supervisor ended before the container started".into())),
        }
        let state = protocol::read_record::<StateFile>(dir, protocol::STATE).map_err(Error::io(&id, "read its state"))?;
        state.ok_or_else(|| Error::Start("the supervisor left no state".into()))
    }

    /// Where a profile's filter is kept: by its digest, since a filter of another profile must never be taken for it.
    fn filter_path(&self, profile: &oci_spec::runtime::LinuxSeccomp) -> io::Result<PathBuf> {
        use sha2::Digest;
        use std::fmt::Write;
        let digest = sha2::Sha256::digest(serde_json::to_vec(profile)?);
        let name = digest.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        Ok(self.dir.join(FILTERS).join(name))
    }

    /// Every container a previous process launched and nobody removed, running or ended.
    ///
    /// One that was just being launched is waited for; one whose launch failed is cleaned up.
    pub async fn adopt(&self) -> Result<Vec<Container>, Error> {
        let mut adopted = Vec::new();
        let entries = std::fs::read_dir(&*self.dir).map_err(Error::io("-", "list the containers"))?;
        for entry in entries.flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            if check_id(&id).is_err() || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            match self.adopt_one(&id, &entry.path()).await {
                Ok(container) => adopted.extend(container),
                Err(error) => tracing::error!(container = id, %error, "cannot be adopted"),
            }
        }
        Ok(adopted)
    }

    async fn adopt_one(&self, id: &str, dir: &Path) -> Result<Option<Container>, Error> {
        let io = |doing| Error::io(id, doing);
        let deadline = tokio::time::Instant::now() + LAUNCH_TIMEOUT;
        loop {
            let state = protocol::read_record::<StateFile>(dir, protocol::STATE).map_err(io("read its state"))?;
            if let Some(state) = state {
                return Container::running(id.to_owned(), dir.to_owned(), state).map(Some);
            }
            let failed = protocol::read_record::<Failure>(dir, protocol::ERROR).map_err(io("read its failure"))?.is_some();
            let supervisor = protocol::read_record::<Process>(dir, protocol::SUPERVISOR).map_err(io("read its supervisor"))?;
            let launching = !failed && supervisor.is_some_and(|supervisor| supervisor.exists()) && tokio::time::Instant::now() < deadline;
            if !launching {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let file = protocol::read_record::<LaunchFile>(dir, protocol::LAUNCH).ok().flatten();
        let cgroup = file.and_then(|file| file.spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone()));
        if let Some(cgroup) = cgroup {
            let cgroup = Cgroup::at(&cgroup).map_err(io("check the cgroup's path"))?;
            self.clean_up(dir, &cgroup).await.map_err(io("clean up after a launch that did not finish"))?;
        } else {
            std::fs::remove_dir_all(dir).map_err(io("remove its directory"))?;
        }
        Ok(None)
    }

    /// The supervisor first, or it goes on making what is being removed.
    async fn clean_up(&self, dir: &Path, cgroup: &Cgroup) -> io::Result<()> {
        if let Ok(Some(supervisor)) = protocol::read_record::<Process>(dir, protocol::SUPERVISOR) {
            let _ = supervisor.signal(libc::SIGKILL);
        }
        cgroup.kill_until_empty().await?;
        cgroup.remove()?;
        std::fs::remove_dir_all(dir)
    }
}

/// An id becomes a directory's name.
fn check_id(id: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-' | b'.');
    if id.is_empty() || id.len() > MAX_ID || id.starts_with('.') || !id.bytes().all(allowed) {
        return Err(Error::Start(format!("container id {id:?}: letters, digits and _+-. only, at most {MAX_ID} bytes, not beginning with a dot")));
    }
    Ok(())
}

/// What is known of an end that no supervisor recorded.
fn unknown_exit() -> Exit {
    Exit { code: 255, signal: None, oom_killed: false, finished_at: SystemTime::now() }
}
