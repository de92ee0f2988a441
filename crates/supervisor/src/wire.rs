//! One message with file descriptors over a `SOCK_SEQPACKET` socket.
#![allow(unsafe_code)] // Received descriptors arrive as numbers.

use crate::protocol::{MAX_FDS, MAX_MESSAGE};
use nix::sys::socket::{self, AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr};
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// Sends one message without waiting; `WouldBlock` if the other side does not read.
pub fn send<T: Serialize>(socket: impl AsFd, message: &T, fds: &[RawFd]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a message of {} bytes is longer than {MAX_MESSAGE}", bytes.len())));
    }
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    socket::sendmsg::<()>(socket.as_fd().as_raw_fd(), &[IoSlice::new(&bytes)], control, flags, None)?;
    Ok(())
}

/// Receives one message without waiting; `None` at the end of the connection.
pub fn receive<T: for<'de> Deserialize<'de>>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    // Its length first: a buffer for the longest message would stay in the memory of every supervisor.
    let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT;
    let length = socket::recv(socket.as_fd().as_raw_fd(), &mut [], peek)?;
    let mut buffer = vec![0u8; length.clamp(1, MAX_MESSAGE)];
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let received = socket::recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    let mut fds = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = message {
            // SAFETY: the kernel made these descriptors for this message just now; nobody else owns them.
            fds.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    let (length, cut) = (received.bytes, received.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC));
    if cut {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is longer than the protocol allows"));
    }
    if length == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&buffer[..length])?, fds)))
}

/// A path to a socket in `dir` that fits a socket address, however long the directory's own path is.
fn short(dir: &OwnedFd, name: &str) -> PathBuf {
    format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()).into()
}

fn open_dir(dir: &Path) -> io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    Ok(std::fs::OpenOptions::new().read(true).custom_flags(flags).open(dir)?.into())
}

fn new_socket() -> io::Result<OwnedFd> {
    Ok(socket::socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?)
}

/// Listens on `<dir>/<name>`.
pub fn listen(dir: &Path, name: &str) -> io::Result<OwnedFd> {
    let dir = open_dir(dir)?;
    let listener = new_socket()?;
    socket::bind(listener.as_raw_fd(), &UnixAddr::new(&short(&dir, name))?)?;
    socket::listen(&listener, Backlog::new(64)?)?;
    Ok(listener)
}

/// Connects to `<dir>/<name>`. A listener whose backlog is full gives `WouldBlock`.
pub fn connect(dir: &Path, name: &str) -> io::Result<OwnedFd> {
    let dir = open_dir(dir)?;
    let socket = new_socket()?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(&short(&dir, name))?)?;
    Ok(socket)
}

/// Accepts a connection.
pub fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    let fd = socket::accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: accept4 gave this descriptor just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Two connected sockets.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

/// A terminal's size.
pub fn set_terminal_size(terminal: impl AsFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads one winsize.
    let set = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors_over_a_long_path() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let listener = listen(&deep, "sock").unwrap();
        let client = connect(&deep, "sock").unwrap();
        let server = accept(&listener).unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        send(&client, &"hello", &[writer.as_raw_fd()]).unwrap();
        drop(writer);
        let (text, fds): (String, _) = receive(&server).unwrap().unwrap();
        assert_eq!((text.as_str(), fds.len()), ("hello", 1));
        nix::unistd::write(&fds[0], b"x").unwrap();
        drop(fds);
        let mut read = String::new();
        std::fs::File::from(reader).read_to_string(&mut read).unwrap();
        assert_eq!(read, "x");
        assert_eq!(receive::<String>(&server).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(send(&client, &"x".repeat(MAX_MESSAGE), &[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        drop(client);
        assert!(receive::<String>(&server).unwrap().is_none());
    }
}
