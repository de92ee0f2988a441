//! The default seccomp profile (`RuntimeDefault`): which system calls a container may make.
//!
//! Equivalent to the default of containerd (`contrib/seccomp/seccomp_default.go`) and Docker (`profiles/seccomp`): all else fails with EPERM, and `clone3`
//! with ENOSYS so that C libraries fall back to `clone`, whose flags can be looked at. Some calls come with a capability.

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

/// Allowed to everyone.
const ALLOWED: &str = "
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime clock_adjtime64 clock_getres
clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat
dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve
execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32
fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync
ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64
getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority
getrandom getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt get_thread_area
gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy
io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule
landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek
lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat
mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat
_newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64
prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink
readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall
rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp
select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid
setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid
setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32 setxattr setxattrat
shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs
statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes
vfork vmsplice wait4 waitid waitpid write writev
process_vm_readv process_vm_writev ptrace arch_prctl modify_ldt";

/// Allowed with a capability.
const WITH_CAPABILITY: &[(Capability, &str)] = &[
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount open_tree perf_event_open
         quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module init_module finit_module"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise"),
    (Capability::SysRawio, "iopl ioperm"),
    (Capability::SysTime, "settimeofday stime clock_settime clock_settime64"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::SysNice, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];

/// The flags of clone(2) that make namespaces.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;
/// personality(2) arguments: Linux, Linux 32, both without address randomization bits that matter, and "ask".
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// AF_VSOCK reaches the hypervisor's other guests.
const AF_VSOCK: u64 = 40;

/// The profile for a container with these capabilities.
///
/// # Errors
/// Never in practice: the builder's own.
pub fn default_seccomp(capabilities: &Capabilities) -> Result<LinuxSeccomp, OciSpecError> {
    use LinuxSeccompOperator as Op;
    let mut rules = vec![allow(&words(ALLOWED), vec![])?];
    for value in PERSONALITIES {
        rules.push(allow(&["personality"], vec![argument(0, Op::ScmpCmpEq, value, None)?])?);
    }
    rules.push(allow(&["socket"], vec![argument(0, Op::ScmpCmpNe, AF_VSOCK, None)?])?);
    for (capability, calls) in WITH_CAPABILITY {
        if capabilities.contains(capability) {
            rules.push(allow(&words(calls), vec![])?);
        }
    }
    if !capabilities.contains(&Capability::SysAdmin) {
        // On s390 the flags are the second argument.
        let flags = usize::from(cfg!(target_arch = "s390x"));
        rules.push(allow(&["clone"], vec![argument(flags, Op::ScmpCmpMaskedEq, NAMESPACE_FLAGS, Some(0))?])?);
        let absent = LinuxSyscallBuilder::default().names(vec!["clone3".to_owned()]).action(LinuxSeccompAction::ScmpActErrno).errno_ret(libc::ENOSYS as u32);
        rules.push(absent.build()?);
    }
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(libc::EPERM as u32)
        .architectures(architectures())
        .syscalls(rules)
        .build()
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn allow(names: &[&str], arguments: Vec<LinuxSeccompArg>) -> Result<LinuxSyscall, OciSpecError> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let rule = LinuxSyscallBuilder::default().names(names).action(LinuxSeccompAction::ScmpActAllow);
    if arguments.is_empty() { rule.build() } else { rule.args(arguments).build() }
}

fn argument(index: usize, op: LinuxSeccompOperator, value: u64, second: Option<u64>) -> Result<LinuxSeccompArg, OciSpecError> {
    let argument = LinuxSeccompArgBuilder::default().index(index).op(op).value(value);
    match second {
        Some(second) => argument.value_two(second).build(),
        None => argument.build(),
    }
}

/// The machine's, and the older ones whose programs its kernel runs: a call through another ABI must not get around the filter.
fn architectures() -> Vec<Arch> {
    if cfg!(target_arch = "x86_64") {
        vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]
    } else if cfg!(target_arch = "aarch64") {
        vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]
    } else {
        vec![Arch::ScmpArchNative]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(capabilities: &[Capability], call: &str) -> bool {
        let profile = default_seccomp(&capabilities.iter().copied().collect()).unwrap();
        let rules = profile.syscalls().clone().unwrap();
        rules.iter().any(|rule| rule.action() == LinuxSeccompAction::ScmpActAllow && rule.args().is_none() && rule.names().iter().any(|name| name == call))
    }

    #[test]
    fn calls_that_reach_the_host_need_their_capability() {
        for (call, capability) in [
            ("mount", Capability::SysAdmin),
            ("unshare", Capability::SysAdmin),
            ("clone", Capability::SysAdmin),
            ("bpf", Capability::Bpf),
            ("open_by_handle_at", Capability::DacReadSearch),
            ("init_module", Capability::SysModule),
            ("reboot", Capability::SysBoot),
        ] {
            assert!(!allowed(&[], call), "{call}");
            assert!(allowed(&[capability], call), "{call}");
        }
    }

    #[test]
    fn nobody_gets_what_upstream_denies_to_all() {
        for call in ["keyctl", "add_key", "request_key", "kexec_load", "userfaultfd", "io_uring_setup", "io_uring_enter", "nfsservctl", "swapon"] {
            let all = WITH_CAPABILITY.iter().map(|(capability, _)| *capability).collect::<Vec<_>>();
            assert!(!allowed(&all, call), "{call}");
        }
    }
}
