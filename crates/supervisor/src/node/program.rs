//! The supervisor program: embedded in this library, run from memory.

use crate::wire;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;

static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/supervisor"));

/// One sealed memfd that all supervisors of this process run from, so that they share its pages, and that no container can write to through
/// `/proc/<pid>/exe` (CVE-2019-5736).
#[derive(Debug)]
pub struct Program {
    file: File,
}

impl Program {
    pub fn load() -> io::Result<Self> {
        // Kernels from 6.3 on want to be told that it is to be executed; earlier ones refuse the flag.
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let executable = MFdFlags::from_bits_retain(libc::MFD_EXEC);
        let memory = memfd_create("mainstay-supervisor", flags | executable).or_else(|_| memfd_create("mainstay-supervisor", flags))?;
        let mut file = File::from(memory);
        file.write_all(PROGRAM)?;
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE))?;
        Ok(Self { file })
    }

    /// Starts a supervisor for a container's directory. Returns the socket on which it says how that went.
    pub fn spawn(&self, dir: &Path) -> io::Result<OwnedFd> {
        let (ours, theirs) = wire::pair()?;
        let child = tokio::process::Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
            .arg0("mainstay-supervisor")
            .arg(dir)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(false)
            .spawn()?;
        // tokio reaps it when it ends; it outlives this process otherwise.
        drop(child);
        Ok(ours)
    }
}
