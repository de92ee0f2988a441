//! A further process in a running container.
//!
//! Not libcontainer's way (20 ms): the supervisor forks once, and the child joins the cgroups and namespaces of the container's first
//! process and confines itself as that is confined. What it must not do, in the order of the list of past escapes: keep a descriptor of the
//! host (all are close-on-exec), have a working directory outside (set after joining, verified), be traced between joining and execve (not dumpable),
//! show its own executable for writing (a sealed memfd), trust `/proc` or `/dev` of the container (the one thing opened there, the terminal, is verified).
#![allow(unsafe_code)] // fork, setns with a pidfd and terminal ioctls have no safe wrapper.

use crate::confine::{Confinement, c_strings, report, words};
use crate::sys;
use mainstay_supervisor::cgroup;
use mainstay_supervisor::process::Process;
use mainstay_supervisor::protocol::Failure;
use mainstay_supervisor::wire;
use nix::sys::socket::{self, ControlMessage, ControlMessageOwned, MsgFlags};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

/// A process on its way into the container.
pub struct Entering {
    /// Its process id.
    pub pid: i32,
    /// Readable when it is there (end of file) or failed (a [`Failure`]); before that it may send its terminal.
    pub outcome: OwnedFd,
}

/// Where its standard streams go.
pub enum Stdio {
    /// These three; no input is `/dev/null`.
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    /// A terminal of its own.
    Terminal,
}

/// Starts `command` beside the container's first process.
pub fn enter(init: Process, confinement: &Confinement, command: &[String], stdio: &Stdio) -> Result<Entering, Failure> {
    let failed = |doing: &'static str| move |error: io::Error| Failure { code: 128, message: format!("{doing}: {}", words(&error)) };
    let arguments = c_strings(command).map_err(failed("command"))?;
    let target = init.open().map_err(failed("find the container"))?;
    let cgroups = cgroup::procs_files_of(init.pid).map_err(failed("find the container's cgroups"))?;
    let own_pids = File::open("/proc/self/ns/pid").map_err(failed("open own namespace"))?;
    let (outcome, child_end) = wire::pair().map_err(failed("make a socket"))?;
    let plan = Plan { target: &target, cgroups: &cgroups, confinement, arguments: &arguments, stdio, report: &child_end };

    // Only children are made in the joined process namespace; this one stays where it is, and turns back at once.
    join(&target, libc::CLONE_NEWPID).map_err(failed("join the process namespace"))?;
    // SAFETY: there is one thread, so the child may do all that this process may.
    let forked = unsafe { nix::unistd::fork() };
    if let Ok(nix::unistd::ForkResult::Child) = forked {
        plan.run();
    }
    let back = join(&own_pids.into(), libc::CLONE_NEWPID);
    match forked.map_err(|errno| failed("fork")(errno.into()))? {
        nix::unistd::ForkResult::Parent { child } => {
            back.map_err(failed("leave the process namespace"))?;
            sys::set_nonblocking(&outcome).map_err(failed("socket"))?;
            Ok(Entering { pid: child.as_raw(), outcome })
        }
        nix::unistd::ForkResult::Child => unreachable!("the child never comes back from run"),
    }
}

fn join(target: &OwnedFd, kinds: i32) -> io::Result<()> {
    // SAFETY: an open descriptor (a namespace's or a process's) and flags.
    sys::check(unsafe { libc::setns(target.as_raw_fd(), kinds) }).map(drop)
}

struct Plan<'a> {
    target: &'a OwnedFd,
    cgroups: &'a [PathBuf],
    confinement: &'a Confinement,
    arguments: &'a [CString],
    stdio: &'a Stdio,
    report: &'a OwnedFd,
}

impl Plan<'_> {
    fn run(&self) -> ! {
        let failure = match self.prepare() {
            Ok(()) => match self.confinement.become_user() {
                Ok(()) => self.confinement.execute(Some(self.arguments)),
                Err(failure) => failure,
            },
            Err((doing, error)) => Failure { code: 128, message: format!("{doing}: {}", words(&error)) },
        };
        report(self.report.as_raw_fd(), &failure);
        // SAFETY: ends this process without running what the parent registered.
        unsafe { libc::_exit(255) }
    }

    fn prepare(&self) -> Result<(), (&'static str, io::Error)> {
        let while_ = |doing: &'static str| move |error: io::Error| (doing, error);
        for procs in self.cgroups {
            std::fs::write(procs, "0").map_err(while_("join the container's cgroup"))?;
        }
        self.confinement.prepare_exec().map_err(while_("set limits"))?;
        let kinds = libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
        join(self.target, kinds).map_err(while_("join the container's namespaces"))?;
        nix::unistd::setsid().map_err(|errno| ("start a session", errno.into()))?;
        match self.stdio {
            Stdio::Terminal => self.own_terminal().map_err(while_("make a terminal"))?,
            Stdio::Pipes { stdin, stdout, stderr } => {
                let null = if stdin.is_none() { Some(inner_null().map_err(while_("open /dev/null"))?) } else { None };
                let stdin = stdin.as_ref().or(null.as_ref()).map_or(-1, AsRawFd::as_raw_fd);
                for (from, to) in [(stdin, 0), (stdout.as_raw_fd(), 1), (stderr.as_raw_fd(), 2)] {
                    sys::redirect(from, to).map_err(while_("connect the streams"))?;
                }
            }
        }
        // All are opened so already; a slip must not become a way out.
        // SAFETY: marks descriptors, closes none.
        let marked = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        sys::check(marked as libc::c_int).map(drop).map_err(while_("close files"))
    }

    /// A terminal from the container's own devpts, so that it has a name inside. CVE-2025-52565: `/dev/pts/ptmx` could have been replaced.
    fn own_terminal(&self) -> io::Result<()> {
        let master: OwnedFd = {
            use std::os::unix::fs::OpenOptionsExt;
            File::options().read(true).write(true).custom_flags(libc::O_NOCTTY | libc::O_CLOEXEC).open("/dev/pts/ptmx")?.into()
        };
        verify_ptmx(&master)?;
        let unlock: libc::c_int = 0;
        // SAFETY: the kernel reads one integer; TIOCGPTPEER opens the other side of this very terminal, whatever lies at its path.
        let slave = unsafe {
            sys::check(libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock))?;
            OwnedFd::from_raw_fd(sys::check(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC))?)
        };
        // SAFETY: makes it this new session's controlling terminal.
        sys::check(unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) })?;
        send_terminal(self.report.as_fd(), master.as_raw_fd())?;
        (0..3).try_for_each(|fd| sys::redirect(slave.as_raw_fd(), fd))
    }
}

/// The container's own `/dev/null`: ours is a file of the host's. CVE-2025-31133: what lies there must be the null device.
fn inner_null() -> io::Result<OwnedFd> {
    let null: OwnedFd = File::options().read(true).write(true).open("/dev/null")?.into();
    let stat = nix::sys::stat::fstat(&null)?;
    let is_null = stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == libc::makedev(1, 3);
    if is_null { Ok(null) } else { Err(io::Error::other("/dev/null of the container is not the null device")) }
}

/// A character device 5:2 with inode 2 on a devpts.
fn verify_ptmx(master: &OwnedFd) -> io::Result<()> {
    let stat = nix::sys::stat::fstat(master)?;
    let on_devpts = nix::sys::statfs::fstatfs(master)?.filesystem_type() == nix::sys::statfs::FsType(0x1cd1);
    let is_ptmx = stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == libc::makedev(5, 2) && stat.st_ino == 2;
    if on_devpts && is_ptmx { Ok(()) } else { Err(io::Error::other("/dev/pts/ptmx of the container is not a terminal multiplexer")) }
}

fn send_terminal(socket: impl AsFd, master: RawFd) -> io::Result<()> {
    let rights = [master];
    socket::sendmsg::<()>(socket.as_fd().as_raw_fd(), &[IoSlice::new(b"t")], &[ControlMessage::ScmRights(&rights)], MsgFlags::empty(), None)?;
    Ok(())
}

/// The terminal that [`Plan::own_terminal`], or libcontainer, sends.
pub fn receive_terminal(socket: impl AsFd) -> io::Result<OwnedFd> {
    match receive(socket)? {
        Arrived::Terminal(master) => Ok(master),
        _ => Err(io::Error::other("no terminal came")),
    }
}

/// What comes over [`Entering::outcome`].
pub enum Arrived {
    /// Its terminal.
    Terminal(OwnedFd),
    /// The program was executed.
    Executed,
    /// It was not.
    Failed(Failure),
}

/// Receives one message.
pub fn receive(socket: impl AsFd) -> io::Result<Arrived> {
    let mut bytes = [0u8; 4096];
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let received = socket::recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = message
            && let Some(fd) = fds.first()
        {
            // SAFETY: the kernel made it for this message just now.
            return Ok(Arrived::Terminal(unsafe { OwnedFd::from_raw_fd(*fd) }));
        }
    }
    let length = received.bytes;
    if length == 0 {
        return Ok(Arrived::Executed);
    }
    Ok(Arrived::Failed(serde_json::from_slice(&bytes[..length])?))
}
