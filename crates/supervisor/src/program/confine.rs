//! The last steps before a container's program runs, the same for its first process and for every exec: working directory, user,
//! capabilities, seccomp, no-new-privileges, then execve.
//!
//! One place, because an exec that is confined less than its container is a way out of it. The order is the kernel's demand:
//! loading a filter needs CAP_SYS_ADMIN unless no-new-privileges is set, dropping the bounding set needs CAP_SETPCAP, so both come before the
//! capabilities go; the user changes before that, with capabilities kept. Everything that allocates is prepared by [`Confinement::new`].
#![allow(unsafe_code)] // prctl, capset, seccomp, setres[ug]id and execve are used raw, each on plain integers or memory owned here.

use crate::sys;
use mainstay_supervisor::protocol::Failure;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, PosixRlimit, Spec};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::RawFd;

/// Who a container's processes are and what they may do.
#[derive(Debug)]
pub struct Confinement {
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Directories of `$PATH` in the container's environment.
    search: Vec<String>,
    cwd: CString,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    umask: Option<u32>,
    capabilities: CapabilitySets,
    no_new_privileges: bool,
    seccomp: Option<Filter>,
    rlimits: Vec<PosixRlimit>,
    apparmor: Option<String>,
    oom_score_adj: i32,
}

#[derive(Debug, Clone, Copy, Default)]
struct CapabilitySets {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
}

/// A compiled seccomp profile.
#[derive(Debug)]
pub struct Filter {
    /// The kernel's `sock_filter` array.
    pub program: Vec<u8>,
    /// Flags of seccomp(2).
    pub flags: u64,
}

impl Confinement {
    /// Takes what it needs from a specification whose limits were already lowered to what this host allows.
    pub fn new(spec: &Spec, seccomp: Option<Filter>) -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        let process = spec.process().as_ref().ok_or_else(|| invalid("the specification has no process"))?;
        let environment = process.env().clone().unwrap_or_default();
        let search = environment.iter().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or_default();
        let cwd = process.cwd().to_str().ok_or_else(|| invalid("the working directory is not UTF-8"))?;
        Ok(Self {
            arguments: c_strings(process.args().as_deref().unwrap_or_default())?,
            search: search.split(':').map(str::to_owned).collect(),
            environment: c_strings(&environment)?,
            cwd: CString::new(if cwd.is_empty() { "/" } else { cwd })?,
            uid: process.user().uid(),
            gid: process.user().gid(),
            groups: process.user().additional_gids().clone().unwrap_or_default(),
            umask: process.user().umask(),
            capabilities: process.capabilities().as_ref().map(CapabilitySets::of).unwrap_or_default(),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            seccomp,
            rlimits: process.rlimits().clone().unwrap_or_default(),
            apparmor: process.apparmor_profile().clone().filter(|profile| !profile.is_empty()),
            oom_score_adj: process.oom_score_adj().unwrap_or(0),
        })
    }

    /// The out-of-memory score of the container's processes.
    pub fn oom_score_adj(&self) -> i32 {
        self.oom_score_adj
    }

    /// What libcontainer did for the first process but an exec needs: memory score, limits, AppArmor profile. Before leaving the host's mounts,
    /// as `/proc` inside could be anything.
    pub fn prepare_exec(&self) -> io::Result<()> {
        let _ = std::fs::write("/proc/self/oom_score_adj", self.oom_score_adj.to_string());
        for limit in &self.rlimits {
            let value = libc::rlimit { rlim_cur: limit.soft(), rlim_max: limit.hard() };
            // SAFETY: the kernel reads one rlimit.
            sys::check(unsafe { libc::setrlimit(limit.typ() as u32, &raw const value) })?;
        }
        if let Some(profile) = &self.apparmor {
            let order = format!("exec {profile}");
            if std::fs::write("/proc/self/attr/apparmor/exec", &order).is_err() {
                std::fs::write("/proc/self/attr/exec", &order)?;
            }
        }
        Ok(())
    }

    /// Groups and user of an exec; libcontainer did it for the first process. Capabilities are kept.
    pub fn become_user(&self) -> Result<(), Failure> {
        // SAFETY: plain integers, and a list with its length.
        unsafe {
            sys::check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0)).map_err(failed("keep capabilities"))?;
            sys::check(libc::setgroups(self.groups.len(), self.groups.as_ptr())).map_err(failed("set groups"))?;
            sys::check(libc::setresgid(self.gid, self.gid, self.gid)).map_err(failed("set group"))?;
            sys::check(libc::setresuid(self.uid, self.uid, self.uid)).map_err(failed("set user"))?;
            sys::check(libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0)).map_err(failed("drop capabilities at exec"))?;
            // A change of user makes a process traceable again where fs.suid_dumpable says so.
            libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
            if let Some(umask) = self.umask {
                libc::umask(umask);
            }
        }
        Ok(())
    }

    /// Confines this process for good and executes the command (`arguments`, else the container's own). Returns only if that failed.
    ///
    /// The process is inside the container's namespaces and root, has its user, and has still all capabilities.
    pub fn execute(&self, arguments: Option<&[CString]>) -> Failure {
        match self.try_execute(arguments.unwrap_or(&self.arguments)) {
            Ok(never) => match never {},
            Err(failure) => failure,
        }
    }

    fn try_execute(&self, arguments: &[CString]) -> Result<std::convert::Infallible, Failure> {
        sys::default_signals();
        // libcontainer's change of user may have made us traceable (fs.suid_dumpable).
        // SAFETY: plain integers.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
        let current = capabilities().map_err(failed("read capabilities"))?;
        // After a change of user only the permitted set is left; the working directory may need the rights.
        set_capabilities(CapabilitySets { effective: current.permitted, ..current }).map_err(failed("raise capabilities"))?;
        self.enter_cwd()?;
        drop_bounding(self.capabilities.bounding).map_err(failed("drop the bounding set"))?;
        if !self.no_new_privileges {
            self.load_filter()?;
        }
        set_capabilities(self.capabilities).map_err(failed("set capabilities"))?;
        set_ambient(self.capabilities.ambient).map_err(failed("set ambient capabilities"))?;
        if self.no_new_privileges {
            // SAFETY: plain integers.
            sys::check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map_err(failed("set no-new-privileges"))?;
            self.load_filter()?;
        }
        let program = self.find(arguments)?;
        let error = exec(&program, arguments, &self.environment);
        Err(exec_failure(&arguments[0].to_string_lossy(), &error))
    }

    /// The working directory is made if it is missing, as the runtimes do, and must lie inside the root (CVE-2024-21626).
    fn enter_cwd(&self) -> Result<(), Failure> {
        let name = self.cwd.to_string_lossy();
        let wrong = |error: io::Error| Failure { code: 128, message: format!("chdir to cwd ({name:?}) set in config.json failed: {}", words(&error)) };
        let enter = || nix::unistd::chdir(self.cwd.as_c_str());
        if enter() == Err(nix::errno::Errno::ENOENT) {
            // SAFETY: plain integers; the two identities are set back below, so that what is made belongs to root.
            unsafe { (libc::setfsuid(0), libc::setfsgid(0)) };
            let made = std::fs::create_dir_all(&*name);
            // SAFETY: as above.
            unsafe { (libc::setfsuid(self.uid), libc::setfsgid(self.gid)) };
            // setfsuid drops the file capabilities with the user; they are still permitted.
            if let Ok(current) = capabilities() {
                let _ = set_capabilities(CapabilitySets { effective: current.permitted, ..current });
            }
            made.map_err(wrong)?;
        }
        enter().map_err(|errno| wrong(errno.into()))?;
        let cwd = nix::unistd::getcwd().map_err(|errno| wrong(errno.into()))?;
        if !cwd.is_absolute() {
            return Err(Failure { code: 128, message: "current working directory is outside of container mount namespace root".into() });
        }
        Ok(())
    }

    fn load_filter(&self) -> Result<(), Failure> {
        let Some(filter) = &self.seccomp else { return Ok(()) };
        let program = libc::sock_fprog { len: (filter.program.len() / 8) as u16, filter: filter.program.as_ptr().cast_mut().cast() };
        // SAFETY: `filter` points at `len` instructions of eight bytes, which the kernel copies and checks.
        let loaded = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, filter.flags, &raw const program) };
        sys::check(loaded as libc::c_int).map(drop).map_err(failed("load seccomp filter"))
    }

    /// As Go's `exec.LookPath`, whose words people know: a name with a slash is taken as it is, another is looked for in `$PATH`.
    fn find(&self, arguments: &[CString]) -> Result<CString, Failure> {
        let Some(name) = arguments.first().map(|name| name.to_string_lossy().into_owned()) else {
            return Err(Failure { code: 128, message: "no command specified".into() });
        };
        let executable = |path: &str| match nix::sys::stat::stat(path) {
            Err(errno) => Err(io::Error::from(errno)),
            Ok(stat) if stat.st_mode & libc::S_IFMT == libc::S_IFDIR => Err(io::Error::from_raw_os_error(libc::EISDIR)),
            Ok(stat) if stat.st_mode & 0o111 == 0 => Err(io::Error::from_raw_os_error(libc::EACCES)),
            Ok(_) => CString::new(path).map_err(Into::into),
        };
        if name.contains('/') {
            return executable(&name).map_err(|error| match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => Failure { code: 127, message: format!("exec: {name:?}: stat {name}: {}", words(&error)) },
                _ => Failure { code: 126, message: format!("exec: {name:?}: {}", words(&error)) },
            });
        }
        let found = self.search.iter().filter(|dir| !dir.is_empty()).find_map(|dir| executable(&format!("{dir}/{name}")).ok());
        found.ok_or_else(|| Failure { code: 127, message: format!("exec: {name:?}: executable file not found in $PATH") })
    }
}

/// execve refused; the words are runc's.
fn exec_failure(name: &str, error: &io::Error) -> Failure {
    let code = if error.raw_os_error() == Some(libc::ENOENT) { 127 } else { 126 };
    Failure { code, message: format!("exec {name}: {}", words(error)) }
}

/// The C library's words for an error, which is how the other runtimes print it ("permission denied").
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure { code: 128, message: format!("{doing}: {}", words(&error)) }
}

/// C strings from texts; a NUL inside is an error.
pub fn c_strings(texts: &[String]) -> io::Result<Vec<CString>> {
    texts.iter().map(|text| CString::new(text.as_str()).map_err(Into::into)).collect()
}

fn exec(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>();
    let (argv, envp) = (pointers(arguments), pointers(environment));
    // SAFETY: null-terminated arrays of C strings that live until the call returns, which it does only on failure.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// `struct __user_cap_header_struct`, version 3.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAP_VERSION_3: u32 = 0x2008_0522;

fn capabilities() -> io::Result<CapabilitySets> {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 fills two data structures.
    sys::check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) } as libc::c_int)?;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(CapabilitySets {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
        ..CapabilitySets::default()
    })
}

/// Effective, permitted and inheritable. What this process does not have itself (an engine in a container) cannot be given and is left out.
fn set_capabilities(wanted: CapabilitySets) -> io::Result<()> {
    let held = capabilities()?.permitted;
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let half = |shift: u32| CapData {
        effective: ((wanted.effective & wanted.permitted & held) >> shift) as u32,
        permitted: ((wanted.permitted & held) >> shift) as u32,
        inheritable: ((wanted.inheritable & held) >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads two data structures.
    sys::check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) } as libc::c_int).map(drop)
}

/// Capability numbers end where the kernel's do; it answers EINVAL past the last it knows.
fn drop_bounding(keep: u64) -> io::Result<()> {
    for number in 0..64 {
        // SAFETY: plain integers.
        match unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) } {
            0 => continue,
            1 if keep >> number & 1 == 1 => continue,
            // SAFETY: plain integers.
            1 => sys::check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) })?,
            _ => break,
        };
    }
    Ok(())
}

fn set_ambient(wanted: u64) -> io::Result<()> {
    // SAFETY: plain integers, here and below.
    sys::check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) })?;
    for number in (0..64u64).filter(|number| wanted >> number & 1 == 1) {
        sys::check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) })?;
    }
    Ok(())
}

impl CapabilitySets {
    fn of(spec: &LinuxCapabilities) -> Self {
        let bits = |set: &Option<Capabilities>| set.iter().flatten().fold(0, |bits, capability| bits | 1u64 << number(*capability));
        Self {
            bounding: bits(spec.bounding()),
            effective: bits(spec.effective()),
            permitted: bits(spec.permitted()),
            inheritable: bits(spec.inheritable()),
            ambient: bits(spec.ambient()),
        }
    }
}

/// The kernel's number of a capability (linux/capability.h).
fn number(capability: Capability) -> u32 {
    use Capability as C;
    match capability {
        C::Chown => 0,
        C::DacOverride => 1,
        C::DacReadSearch => 2,
        C::Fowner => 3,
        C::Fsetid => 4,
        C::Kill => 5,
        C::Setgid => 6,
        C::Setuid => 7,
        C::Setpcap => 8,
        C::LinuxImmutable => 9,
        C::NetBindService => 10,
        C::NetBroadcast => 11,
        C::NetAdmin => 12,
        C::NetRaw => 13,
        C::IpcLock => 14,
        C::IpcOwner => 15,
        C::SysModule => 16,
        C::SysRawio => 17,
        C::SysChroot => 18,
        C::SysPtrace => 19,
        C::SysPacct => 20,
        C::SysAdmin => 21,
        C::SysBoot => 22,
        C::SysNice => 23,
        C::SysResource => 24,
        C::SysTime => 25,
        C::SysTtyConfig => 26,
        C::Mknod => 27,
        C::Lease => 28,
        C::AuditWrite => 29,
        C::AuditControl => 30,
        C::Setfcap => 31,
        C::MacOverride => 32,
        C::MacAdmin => 33,
        C::Syslog => 34,
        C::WakeAlarm => 35,
        C::BlockSuspend => 36,
        C::AuditRead => 37,
        C::Perfmon => 38,
        C::Bpf => 39,
        C::CheckpointRestore => 40,
    }
}

/// Tells the supervisor, over `report`, why there is no process.
pub fn report(report: RawFd, failure: &impl serde::Serialize) {
    let bytes = serde_json::to_vec(failure).unwrap_or_default();
    // SAFETY: an open descriptor and a buffer with its length. A filter that forbids write loses the message, not the failure.
    unsafe { libc::write(report, bytes.as_ptr().cast(), bytes.len()) };
}
