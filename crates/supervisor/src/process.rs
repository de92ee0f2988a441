//! A process that cannot be mistaken for a later one with the same number.
#![allow(unsafe_code)] // pidfd_open and pidfd_send_signal have no safe wrapper in nix.

use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A process id with the time at which the process started, in clock ticks since boot (field 22 of `/proc/<pid>/stat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id in the host's process namespace.
    pub pid: i32,
    /// Start time in clock ticks since boot.
    pub start_time: u64,
}

impl Process {
    /// The process that has this id now.
    pub fn find(pid: i32) -> io::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The command's name stands in parentheses and may hold anything, parentheses too.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        let start_time = fields.split_whitespace().nth(19).and_then(|field| field.parse().ok());
        let start_time = start_time.ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is cut short")))?;
        Ok(Self { pid, start_time })
    }

    /// Whether it still exists (it may be a zombie).
    pub fn exists(&self) -> bool {
        Self::find(self.pid).is_ok_and(|found| found == *self)
    }

    /// A file descriptor that stays with this process; readable once it ended. Fails with `NotFound` if it is gone.
    pub fn open(&self) -> io::Result<OwnedFd> {
        // SAFETY: no pointers are passed; the kernel gives a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, 0) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return Err(if error.raw_os_error() == Some(libc::ESRCH) { io::ErrorKind::NotFound.into() } else { error });
        }
        // SAFETY: `fd` was made just now and is owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        // Opened first, compared after: from here on the number cannot be another's.
        if self.exists() { Ok(fd) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Sends a signal. Fails with `NotFound` if it is gone.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let fd = self.open()?;
        // SAFETY: the descriptor is open, and a null siginfo is allowed.
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0) };
        if sent == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        Err(if error.raw_os_error() == Some(libc::ESRCH) { io::ErrorKind::NotFound.into() } else { error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_number_and_start_time() {
        let me = Process::find(std::process::id() as i32).unwrap();
        assert!(me.exists() && me.signal(0).is_ok());
        let other = Process { start_time: me.start_time + 1, ..me };
        assert!(!other.exists());
        assert_eq!(other.signal(0).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
