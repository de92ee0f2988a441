//! A seccomp profile compiled to the kernel's filter, once per profile: both the container's first process and every exec load the same bytes.

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The kernel's bound on a filter's length (BPF_MAXINSNS), in bytes.
const MAX_FILTER: usize = 4096 * 8;

/// The filter of a profile: from `kept` if it was compiled before, else compiled and kept there.
pub fn filter(profile: &LinuxSeccomp, kept: Option<&Path>) -> io::Result<Vec<u8>> {
    if let Some(path) = kept
        && let Ok(bytes) = std::fs::read(path)
        && !bytes.is_empty()
        && bytes.len().is_multiple_of(8)
        && bytes.len() <= MAX_FILTER
    {
        return Ok(bytes);
    }
    let bytes = compile(profile)?;
    if let Some(path) = kept {
        // Another supervisor may do the same at the same moment; either file is right.
        let temporary = path.with_extension(format!("{}.new", std::process::id()));
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&bytes)?;
        std::fs::rename(&temporary, path)?;
    }
    Ok(bytes)
}

/// The flags of seccomp(2) that a profile asks for.
pub fn flags(profile: &LinuxSeccomp) -> u64 {
    profile.flags().iter().flatten().fold(0, |bits, flag| {
        bits | match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
        }
    })
}

fn compile(profile: &LinuxSeccomp) -> io::Result<Vec<u8>> {
    let wrong = |error: libseccomp::error::SeccompError| io::Error::other(format!("seccomp profile: {error}"));
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut context = ScmpFilterContext::new(default).map_err(wrong)?;
    for arch in profile.architectures().iter().flatten() {
        if let Some(arch) = architecture(*arch) {
            context.add_arch(arch).map_err(wrong)?;
        }
    }
    context.set_ctl_nnp(false).map_err(wrong)?;
    // A search tree instead of a chain: the cost of every system call of the container.
    let _ = context.set_ctl_optimize(2);
    for rule in profile.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret())?;
        if action == default {
            continue;
        }
        let compares: Vec<ScmpArgCompare> = rule.args().iter().flatten().map(comparison).collect();
        let repeated = rule.args().iter().flatten().enumerate().any(|(at, arg)| rule.args().iter().flatten().take(at).any(|other| other.index() == arg.index()));
        for name in rule.names() {
            // A name that the library does not know is a call that this kernel's filter cannot name either: the default holds for it.
            let Ok(call) = ScmpSyscall::from_name(name) else { continue };
            let added: Result<(), _> = if compares.is_empty() {
                context.add_rule(action, call).map(drop)
            } else if repeated {
                // seccomp_rule_add(3) takes an argument once per rule; runc makes each comparison a rule of its own then.
                compares.iter().try_for_each(|one| context.add_rule_conditional(action, call, std::slice::from_ref(one)).map(drop))
            } else {
                context.add_rule_conditional(action, call, &compares).map(drop)
            };
            added.map_err(wrong)?;
        }
    }
    let memory = nix::sys::memfd::memfd_create("seccomp", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    context.export_bpf(&memory).map_err(wrong)?;
    drop(context);
    let mut file = std::fs::File::from(memory);
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    if bytes.is_empty() || bytes.len() > MAX_FILTER {
        return Err(io::Error::other(format!("seccomp profile: its filter has {} bytes, the kernel takes {MAX_FILTER}", bytes.len())));
    }
    Ok(bytes)
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> io::Result<ScmpAction> {
    let errno = errno.map_or(libc::EPERM, |errno| errno as i32);
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(errno),
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(errno as u16),
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActNotify => return Err(io::Error::other("seccomp profile: SCMP_ACT_NOTIFY is not supported")),
    })
}

/// Of a masked comparison the specification's `value` is the mask and `valueTwo` what must be left under it.
fn comparison(arg: &LinuxSeccompArg) -> ScmpArgCompare {
    let (op, datum) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        LinuxSeccompOperator::ScmpCmpMaskedEq => (ScmpCompareOp::MaskedEqual(arg.value()), arg.value_two().unwrap_or(0)),
    };
    ScmpArgCompare::new(arg.index() as u32, op, datum)
}

fn architecture(arch: Arch) -> Option<ScmpArch> {
    Some(match arch {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        _ => return None,
    })
}
