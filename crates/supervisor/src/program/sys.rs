//! The few system calls of the supervisor itself that have no safe wrapper.
#![allow(unsafe_code)]

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

/// Leaves the launcher's session and its files. Returns the socket that was standard input.
pub fn detach() -> io::Result<OwnedFd> {
    // Fails only for a process group's leader, which a spawned process is not; harmless if it is.
    let _ = nix::unistd::setsid();
    std::env::set_current_dir("/")?;
    // Nothing in /proc/<us> is for anyone but root, and nobody may trace the short moments inside a container's namespaces.
    // SAFETY: plain prctl and close_range with integer arguments.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
        libc::umask(0o022);
    }
    // SAFETY: F_DUPFD_CLOEXEC gives a new descriptor.
    let launcher = unsafe { libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 3) };
    if launcher < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: made just now.
    let launcher = unsafe { OwnedFd::from_raw_fd(launcher) };
    let null = OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open("/dev/null")?;
    for fd in 0..3 {
        redirect(null.as_raw_fd(), fd)?;
    }
    Ok(launcher)
}

/// Makes `to` mean what `from` means; it survives exec.
pub fn redirect(from: RawFd, to: RawFd) -> io::Result<()> {
    if from == to {
        // SAFETY: clears close-on-exec.
        return check(unsafe { libc::fcntl(to, libc::F_SETFD, 0) }).map(drop);
    }
    // SAFETY: dup2 closes `to` (one of 0, 1, 2, which no owned value of ours stands for) and copies an open descriptor there.
    check(unsafe { libc::dup2(from, to) }).map(drop)
}

/// -1 is the error in `errno`.
pub fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A descriptor that becomes readable when a child ended.
pub fn child_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Every signal as a new process expects it: Rust ignores SIGPIPE, and we block SIGCHLD; both would be inherited.
pub fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid disposition; the kernel refuses SIGKILL, SIGSTOP and libc its own, which are default anyway.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let _ = SigSet::empty().thread_set_mask();
}

/// Gives back what is not in use: freed memory, the part of the stack that only deep calls reached, and the program's own pages, which are
/// shared by all supervisors and come back one by one as they are needed. 4 MiB of resident memory a supervisor become half of one.
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes an integer; there is one thread.
    unsafe {
        libc::malloc_trim(0);
    }
    unsafe extern "C" {
        // The linker's names for the first and the last byte of what is mapped read-only from the file: constants and code.
        static __executable_start: u8;
        static etext: u8;
    }
    let (first, last) = (&raw const __executable_start as usize, &raw const etext as usize);
    drop_pages(first, last);
    let here = 0u8;
    let top = (&raw const here as usize).saturating_sub(STACK_KEPT);
    drop_pages(top.saturating_sub(STACK_LOOKED_AT), top);
}

/// Below the caller's frame: room for the calls of the main loop.
const STACK_KEPT: usize = 16 * 1024;
/// Less than the gap that the kernel keeps free below a stack, so that nothing else can be there.
const STACK_LOOKED_AT: usize = 512 * 1024;

/// Whole pages of `first..last`; a part that is not mapped is left out by the kernel.
fn drop_pages(first: usize, last: usize) {
    const PAGE: usize = 4096;
    let (first, last) = (first.next_multiple_of(PAGE), last / PAGE * PAGE);
    if first < last {
        // SAFETY: the pages are either unmodified ones of a file, which read the same afterwards, or lie below the stack pointer with room to spare,
        // where nothing lives. Failure changes nothing.
        unsafe { libc::madvise(first as *mut libc::c_void, last - first, libc::MADV_DONTNEED) };
    }
}

/// Reads and writes return at once.
pub fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// How many device programs are attached to a version 2 cgroup.
pub fn device_programs(cgroup: &std::path::Path) -> io::Result<u32> {
    /// `union bpf_attr` for `BPF_PROG_QUERY`, as linux/bpf.h lays it out.
    #[repr(C)]
    #[derive(Default)]
    struct Query {
        target_fd: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        prog_count: u32,
        padding: u32,
        rest: [u64; 4],
    }
    const BPF_PROG_QUERY: libc::c_long = 16;
    const BPF_CGROUP_DEVICE: u32 = 6;
    let dir = std::fs::File::open(cgroup)?;
    let mut ids = [0u32; 64];
    let mut query = Query { target_fd: dir.as_raw_fd() as u32, attach_type: BPF_CGROUP_DEVICE, prog_ids: ids.as_mut_ptr() as u64, prog_count: 64, ..Query::default() };
    // SAFETY: `query` has the kernel's layout and outlives the call, `ids` has room for `prog_count` numbers.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<Query>()) };
    check(result as libc::c_int)?;
    Ok(query.prog_count)
}

/// Whether this process may exceed limits.
pub fn may_raise_limits() -> bool {
    capability_effective(24)
}

/// Whether a capability (by number) is in the effective set.
pub fn capability_effective(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|bits| bits >> number & 1 == 1)
}

/// This process's hard limit of a resource; what cannot be read does not bound.
pub fn hard_limit(resource: u32) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: u64::MAX };
    // SAFETY: the kernel writes one rlimit.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    limit.rlim_max
}

/// Whether a pipe's reader is gone.
pub fn is_closed(writer: &OwnedFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(writer.as_fd(), PollFlags::empty())];
    let _ = poll(&mut fds, PollTimeout::ZERO);
    fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
}
