//! `HOME`, from the container's own user table.
//!
//! Read before the container exists, with links resolved inside its root: the C library's `getpwuid`, called inside it, would load the
//! container's libraries into our process.
#![allow(unsafe_code)] // openat2 has no safe wrapper in nix for this use.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;

/// The largest user table that is read.
const MAX_TABLE: u64 = 1 << 20;

/// The home directory of a user id; `/` when it has none, as the runtimes do.
pub fn home_of(root: &Path, uid: u32) -> String {
    let table = read_inside(root, c"etc/passwd").unwrap_or_default();
    let home = table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let id = fields.nth(2)?;
        (id.parse() == Ok(uid)).then(|| fields.nth(2)).flatten()
    });
    home.filter(|home| home.starts_with('/')).unwrap_or("/").to_owned()
}

fn read_inside(root: &Path, path: &std::ffi::CStr) -> Option<String> {
    let root = File::open(root).ok()?;
    // SAFETY: open_how is plain data for which all zeroes is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    // Not blocking: it could be a FIFO.
    how.flags = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: a valid C string and a struct of the given size, both outliving the call.
    let fd = unsafe { libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size_of::<libc::open_how>()) };
    if fd < 0 {
        return None;
    }
    // SAFETY: made just now.
    let file = unsafe { File::from_raw_fd(fd as i32) };
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(MAX_TABLE).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}
