//! `/sys/fs/cgroup` of a container on a host with version 1 hierarchies: a tmpfs with one mount a hierarchy.
//!
//! libcontainer does this too, in half of the time that a whole launch takes (it looks every path up anew, through procfs, for each of the
//! nine mounts). Here one directory, opened without following links on the container's own sysfs, carries them all. With version 2 alone there is one mount,
//! and libcontainer makes it.
#![allow(unsafe_code)] // The mount API that takes descriptors has no safe wrapper.

use crate::sys::check;
use mainstay_supervisor::cgroup;
use oci_spec::runtime::{Mount, Spec};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
/// `MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC`.
const NO_SURPRISES: u64 = 0x2 | 0x4 | 0x8;
const MOUNT_ATTR_RDONLY: u64 = 0x1;
const SYSFS_MAGIC: i64 = 0x6265_6572;

/// What to mount.
#[derive(Debug)]
pub struct CgroupMounts {
    hierarchies: Vec<cgroup::V1Mount>,
    readonly: bool,
}

impl CgroupMounts {
    /// Takes the mount out of the specification, if it is the usual one on a host with version 1.
    pub fn take(spec: &mut Spec) -> io::Result<Option<Self>> {
        let hierarchies = cgroup::v1_mounts()?;
        let mut mounts = spec.mounts().clone().unwrap_or_default();
        let at = |mount: &Mount, kind: &str, path: &str| mount.typ().as_deref() == Some(kind) && mount.destination() == Path::new(path);
        let usual = mounts.iter().any(|mount| at(mount, "sysfs", "/sys")) && mounts.iter().filter(|mount| mount.destination().starts_with("/sys")).count() == 2;
        let Some(index) = mounts.iter().position(|mount| at(mount, "cgroup", "/sys/fs/cgroup")).filter(|_| usual && !hierarchies.is_empty()) else {
            return Ok(None);
        };
        let taken = mounts.remove(index);
        spec.set_mounts(Some(mounts));
        let readonly = taken.options().iter().flatten().any(|option| option == "ro");
        Ok(Some(Self { hierarchies, readonly }))
    }

    /// Mounts them, inside the container's root and cgroup namespace.
    pub fn mount(&self) -> io::Result<()> {
        let below = open_plain(c"/sys/fs/cgroup")?;
        if nix::sys::statfs::fstatfs(&below)?.filesystem_type() != nix::sys::statfs::FsType(SYSFS_MAGIC) {
            return Err(io::Error::other("/sys/fs/cgroup of the container is not on its sysfs"));
        }
        attach(&filesystem(c"tmpfs", &[(c"mode", Some(c"755"))], 0)?, &below, c"")?;
        let base = open_plain(c"/sys/fs/cgroup")?;
        let readonly = if self.readonly { MOUNT_ATTR_RDONLY } else { 0 };
        for hierarchy in &self.hierarchies {
            let name = CString::new(hierarchy.name.as_str())?;
            // SAFETY: an open directory and a C string.
            check(unsafe { libc::mkdirat(base.as_raw_fd(), name.as_ptr(), 0o755) })?;
            let named = hierarchy.named.as_deref().map(CString::new).transpose()?;
            let flags = hierarchy.controllers.iter().map(|controller| CString::new(controller.as_str())).collect::<Result<Vec<_>, _>>()?;
            let mut options: Vec<(&CStr, Option<&CStr>)> = flags.iter().map(|flag| (flag.as_c_str(), None)).collect();
            if let Some(named) = &named {
                options.extend([(c"none", None), (c"name", Some(named.as_c_str()))]);
            }
            attach(&filesystem(c"cgroup", &options, readonly)?, &base, &name)?;
            // Programs look for `cpu` where the host mounts `cpu,cpuacct`.
            for controller in flags.iter().filter(|_| flags.len() > 1) {
                // SAFETY: two C strings and an open directory.
                check(unsafe { libc::symlinkat(name.as_ptr(), base.as_raw_fd(), controller.as_ptr()) })?;
            }
        }
        if self.readonly { make_readonly(&base) } else { Ok(()) }
    }
}

/// Opens a directory of this root without following any link.
fn open_plain(path: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: open_how is plain data for which all zeroes is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: a C string and a struct of the given size; the result is a new descriptor or -1.
    new_fd(unsafe { libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, path.as_ptr(), &raw const how, size_of::<libc::open_how>()) })
}

/// A new mount that is nowhere yet.
fn filesystem(kind: &CStr, options: &[(&CStr, Option<&CStr>)], attributes: u64) -> io::Result<OwnedFd> {
    // SAFETY: C strings, integers and open descriptors, here and in the calls below.
    let context = new_fd(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 1) })?;
    let set = |command: libc::c_uint, key: *const libc::c_char, value: *const libc::c_char| {
        check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) } as libc::c_int)
    };
    set(FSCONFIG_SET_STRING, c"source".as_ptr(), kind.as_ptr())?;
    for (key, value) in options {
        let (command, value) = value.map_or((FSCONFIG_SET_FLAG, std::ptr::null()), |value| (FSCONFIG_SET_STRING, value.as_ptr()));
        set(command, key.as_ptr(), value)?;
    }
    set(FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null())?;
    new_fd(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, NO_SURPRISES | attributes) })
}

/// Puts a mount at `name` in a directory, or over the directory itself.
fn attach(mount: &OwnedFd, dir: &OwnedFd, name: &CStr) -> io::Result<()> {
    const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
    let flags = MOVE_MOUNT_F_EMPTY_PATH | if name.is_empty() { MOVE_MOUNT_T_EMPTY_PATH } else { 0 };
    // SAFETY: open descriptors and C strings.
    check(unsafe { libc::syscall(libc::SYS_move_mount, mount.as_raw_fd(), c"".as_ptr(), dir.as_raw_fd(), name.as_ptr(), flags) } as libc::c_int).map(drop)
}

fn make_readonly(mount: &OwnedFd) -> io::Result<()> {
    let change = libc::mount_attr { attr_set: MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: an open descriptor, and a struct of the given size.
    let changed = unsafe {
        libc::syscall(libc::SYS_mount_setattr, mount.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, &raw const change, size_of::<libc::mount_attr>())
    };
    check(changed as libc::c_int).map(drop)
}

fn new_fd(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = check(result as libc::c_int)?;
    // SAFETY: the kernel made it just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
