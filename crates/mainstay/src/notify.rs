//! How an engine says how far its start is: systemd's notification protocol (sd_notify(3)), so that `mainstay up` and
//! `Type=notify` hear the same words.

use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The variable that names the socket.
pub(crate) const VARIABLE: &str = "NOTIFY_SOCKET";

/// A step is done; shown by `up` and `systemctl status`.
pub(crate) fn step(words: &str) {
    tracing::info!("{words}");
    send(&format!("STATUS={words}"));
}

/// The engine serves, its node is Ready and its DNS answers.
pub(crate) fn ready() {
    send("READY=1\nSTATUS=ready");
}

/// The engine is stopping.
pub(crate) fn stopping() {
    send("STOPPING=1\nSTATUS=stopping");
}

/// The engine cannot start, and why.
pub(crate) fn failed(words: &str) {
    // systemd ignores variables it does not know.
    send(&format!("MAINSTAY_FAILED={}", words.replace('\n', " ")));
}

fn send(message: &str) {
    let Some(path) = std::env::var_os(VARIABLE) else { return };
    // Nobody listens any more once `up` has returned; that is no error.
    let _ = UnixDatagram::unbound().and_then(|socket| socket.send_to(message.as_bytes(), Path::new(&path)));
}

/// What came.
pub(crate) enum Message {
    Status(String),
    Ready,
    Failed(String),
}

/// The listening end, in `up`.
pub(crate) struct Listener {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Listener {
    pub(crate) fn bind(run_dir: &Path) -> Result<Self> {
        let path = run_dir.join(format!("notify.{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).with_context(|| format!("bind {}", path.display()))?;
        Ok(Self { socket, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next message, or `None` after `limit`.
    pub(crate) fn receive(&self, limit: Duration) -> Result<Option<Message>> {
        self.socket.set_read_timeout(Some(limit))?;
        let mut buffer = [0u8; 8192];
        let text = match self.socket.recv(&mut buffer) {
            Ok(n) => String::from_utf8_lossy(&buffer[..n]).into_owned(),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut | std::io::ErrorKind::Interrupted) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('=').map(str::to_owned));
        Ok(if let Some(words) = field("MAINSTAY_FAILED") {
            Some(Message::Failed(words))
        } else if field("READY").is_some() {
            Some(Message::Ready)
        } else {
            field("STATUS").map(Message::Status)
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
