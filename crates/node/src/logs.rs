//! Reading containers' logs: the end, since a time, following over rotation until the container ends.

use bytes::{Bytes, BytesMut};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// Bytes sent at once.
const CHUNK_BYTES: usize = 32 * 1024;

/// What the client wants to see.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) follow: bool,
    pub(crate) tail_lines: Option<usize>,
    /// Lines stamped before it are left out; in the log's own form, which sorts.
    pub(crate) since: Option<String>,
    pub(crate) timestamps: bool,
    pub(crate) limit_bytes: Option<usize>,
    /// `stdout` or `stderr` alone.
    pub(crate) stream: Option<String>,
}

/// A log's files, oldest first: `<path>.<timestamp>` …, `<path>`.
fn files(path: &Path) -> Vec<PathBuf> {
    let prefix = format!("{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut all: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().strip_prefix(&prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))
        .map(|e| e.path())
        .collect();
    all.sort();
    all.push(path.to_owned());
    all
}

/// Removes logs of runs before the one before `attempt`.
pub(crate) fn prune(dir: &Path, attempt: u32) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let of = name.split('.').next().and_then(|n| n.parse::<u32>().ok());
        if of.is_some_and(|of| of + 1 < attempt)
            && let Err(error) = std::fs::remove_file(entry.path()) {
                tracing::warn!(log = %entry.path().display(), %error, "an old log could not be removed");
            }
    }
}

/// Sends the log's lines as the client wants them, then, if it follows, those to come until `ended` resolves. Ends early when the client is gone.
pub(crate) async fn send(path: PathBuf, options: Options, to: mpsc::Sender<io::Result<Bytes>>, ended: impl Future<Output = ()>) {
    let notices = if options.follow { path.parent().and_then(|dir| Notices::on(dir).ok()) } else { None };
    let mut out = Output { options: options.clone(), to, buffer: BytesMut::new(), sent: 0, continues: false };
    let mut reader = match Reader::open(&path, options.tail_lines) {
        Ok(reader) => reader,
        Err(error) => {
            let _ = out.to.send(Err(error)).await;
            return;
        }
    };
    tokio::pin!(ended);
    let mut over = !options.follow;
    loop {
        match reader.drain(&mut out).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                let _ = out.to.send(Err(error)).await;
                return;
            }
        }
        if over {
            return;
        }
        tokio::select! {
            // Once more after the end: what was written last.
            () = &mut ended => over = true,
            () = wait(notices.as_ref()) => {}
            () = out.to.closed() => return,
        }
    }
}

async fn wait(notices: Option<&Notices>) {
    match notices {
        Some(notices) => notices.wait().await,
        None => std::future::pending().await,
    }
}

/// The kernel's word that something in the log's directory changed.
struct Notices(AsyncFd<Handle>);

struct Handle(Inotify);

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Handle {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Notices {
    fn on(dir: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(dir, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)?;
        // Its successor asks, by `unsafe`, for what holds here: the descriptor stays open as long as the handle.
        #[allow(deprecated)]
        AsyncFd::new(Handle(inotify)).map(Self)
    }
    async fn wait(&self) {
        let Ok(mut guard) = self.0.readable().await else { return std::future::pending().await };
        // Everything there is; `EAGAIN` ends it.
        while self.0.get_ref().0.read_events().is_ok() {}
        guard.clear_ready();
    }
}

/// The files of a log as one.
struct Reader {
    path: PathBuf,
    file: Option<File>,
    inode: u64,
    waiting: VecDeque<PathBuf>,
    partial: Vec<u8>,
}

impl Reader {
    fn open(path: &Path, tail: Option<usize>) -> io::Result<Self> {
        let all = files(path);
        let mut reader = Self { path: path.to_owned(), file: None, inode: 0, waiting: all.clone().into(), partial: Vec::new() };
        if let Some(lines) = tail {
            let mut left = lines;
            for (at, file) in all.iter().enumerate().rev() {
                let Ok(mut opened) = File::open(file) else { continue };
                let (offset, found) = tail_offset(&mut opened, left)?;
                left -= found.min(left);
                if left == 0 || at == 0 {
                    opened.seek(SeekFrom::Start(offset))?;
                    reader.inode = opened.metadata()?.ino();
                    reader.file = Some(opened);
                    reader.waiting = all[at + 1..].to_vec().into();
                    break;
                }
            }
        }
        Ok(reader)
    }

    /// Reads to the end of what there is. `false`: the client wants no more.
    async fn drain(&mut self, out: &mut Output) -> io::Result<bool> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            if self.file.is_none() && !self.next_file()? {
                return out.flush().await;
            }
            let Some(file) = &mut self.file else { continue };
            let n = file.read(&mut chunk)?;
            if n == 0 {
                if !self.has_successor() {
                    return out.flush().await;
                }
                // Its last bytes may have come between the read and the rename.
                let Some(file) = &mut self.file else { continue };
                if file.metadata()?.len() == file.stream_position()? {
                    self.file = None;
                }
                continue;
            }
            self.partial.extend_from_slice(&chunk[..n]);
            let mut from = 0;
            while let Some(length) = self.partial[from..].iter().position(|b| *b == b'\n') {
                if !out.line(&self.partial[from..from + length]).await? {
                    return Ok(false);
                }
                from += length + 1;
            }
            self.partial.drain(..from);
        }
    }

    /// Whether the file being read was rotated away.
    fn has_successor(&self) -> bool {
        !self.waiting.is_empty() || std::fs::metadata(&self.path).is_ok_and(|m| m.ino() != self.inode)
    }

    fn next_file(&mut self) -> io::Result<bool> {
        if self.waiting.is_empty() {
            let all = files(&self.path);
            let at = all.iter().position(|f| std::fs::metadata(f).is_ok_and(|m| m.ino() == self.inode));
            self.waiting = all[at.map_or(0, |at| at + 1)..].to_vec().into();
        }
        while let Some(path) = self.waiting.pop_front() {
            match File::open(&path) {
                Ok(file) => {
                    let inode = file.metadata()?.ino();
                    if inode == self.inode {
                        continue;
                    }
                    self.inode = inode;
                    self.file = Some(file);
                    return Ok(true);
                }
                // Rotated away between listing and opening, or not written yet.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(false)
    }
}

/// Where the last `lines` lines begin, and how many there are at most.
fn tail_offset(file: &mut File, lines: usize) -> io::Result<(u64, usize)> {
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok((length, 0));
    }
    let mut end = length;
    let mut found = 0;
    let mut chunk = vec![0; CHUNK_BYTES];
    while end > 0 {
        let start = end.saturating_sub(CHUNK_BYTES as u64);
        let size = usize::try_from(end - start).unwrap_or(CHUNK_BYTES);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut chunk[..size])?;
        for at in (0..size).rev() {
            let position = start + at as u64;
            // The newline that ends the last line begins none.
            if chunk[at] == b'\n' && position + 1 != length {
                found += 1;
                if found == lines {
                    return Ok((position + 1, lines));
                }
            }
        }
        end = start;
    }
    Ok((0, found + usize::from(length > 0)))
}

struct Output {
    options: Options,
    to: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
    sent: usize,
    /// The line before was the first part of a longer one.
    continues: bool,
}

impl Output {
    /// One line of the log in its own form: `<time> <stream> <F or P> <text>`. `false`: enough.
    async fn line(&mut self, line: &[u8]) -> io::Result<bool> {
        let mut parts = line.splitn(4, |b| *b == b' ');
        let (Some(time), Some(stream), Some(tag)) = (parts.next(), parts.next(), parts.next()) else { return Ok(true) };
        let text = parts.next().unwrap_or_default();
        if self.options.stream.as_ref().is_some_and(|want| want.as_bytes() != stream) {
            return Ok(true);
        }
        if self.options.since.as_ref().is_some_and(|since| time < since.as_bytes()) {
            return Ok(true);
        }
        let before = self.buffer.len();
        if self.options.timestamps && !self.continues {
            self.buffer.extend_from_slice(time);
            self.buffer.extend_from_slice(b" ");
        }
        self.buffer.extend_from_slice(text);
        self.continues = tag.first() == Some(&b'P');
        if !self.continues {
            self.buffer.extend_from_slice(b"\n");
        }
        self.sent += self.buffer.len() - before;
        if let Some(over) = self.options.limit_bytes.and_then(|limit| self.sent.checked_sub(limit)) {
            self.buffer.truncate(self.buffer.len().saturating_sub(over));
            self.flush().await?;
            return Ok(false);
        }
        if self.buffer.len() >= CHUNK_BYTES { self.flush().await } else { Ok(true) }
    }

    async fn flush(&mut self) -> io::Result<bool> {
        if self.buffer.is_empty() {
            return Ok(!self.to.is_closed());
        }
        let bytes = self.buffer.split().freeze();
        Ok(self.to.send(Ok(bytes)).await.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    struct Dir(PathBuf);
    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn dir(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("mainstay-logs-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    async fn read(path: &Path, options: Options) -> String {
        let (to, mut from) = mpsc::channel(100);
        send(path.to_owned(), options, to, std::future::pending()).await;
        let mut text = String::new();
        while let Some(Ok(bytes)) = from.recv().await {
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        text
    }

    #[tokio::test]
    async fn options_choose_what_is_seen() {
        let dir = dir("options");
        let path = dir.0.join("0.log");
        std::fs::write(dir.0.join("0.log.20260101-000000.1"), "2026-01-01T00:00:00.000000000Z stdout F one\n").unwrap();
        std::fs::write(
            &path,
            "2026-01-01T00:00:01.000000000Z stderr F two\n2026-01-01T00:00:02.000000000Z stdout P th\n2026-01-01T00:00:02.500000000Z stdout F ree\n",
        )
        .unwrap();
        let plain = Options::default();
        for (options, want) in [
            (plain.clone(), "one\ntwo\nthree\n"),
            (Options { tail_lines: Some(2), ..plain.clone() }, "three\n"),
            (Options { tail_lines: Some(4), ..plain.clone() }, "one\ntwo\nthree\n"),
            (Options { tail_lines: Some(3), ..plain.clone() }, "two\nthree\n"),
            (Options { tail_lines: Some(0), ..plain.clone() }, ""),
            (Options { stream: Some("stderr".into()), ..plain.clone() }, "two\n"),
            (Options { since: Some("2026-01-01T00:00:01.5".into()), ..plain.clone() }, "three\n"),
            (Options { limit_bytes: Some(6), ..plain.clone() }, "one\ntw"),
            (
                Options { timestamps: true, tail_lines: Some(2), ..plain.clone() },
                "2026-01-01T00:00:02.000000000Z three\n",
            ),
        ] {
            assert_eq!(read(&path, options.clone()).await, want, "{options:?}");
        }
    }

    #[tokio::test]
    async fn following_goes_over_rotation_and_ends_with_the_container() {
        let dir = dir("follow");
        let path = dir.0.join("0.log");
        let line = |text: &str| format!("2026-01-01T00:00:00.000000000Z stdout F {text}\n");
        std::fs::write(&path, line("a")).unwrap();
        let (to, mut from) = mpsc::channel(100);
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let options = Options { follow: true, ..Options::default() };
        let task = tokio::spawn(send(path.clone(), options, to, async {
            let _ = ended.await;
        }));
        let mut next = async || String::from_utf8(from.recv().await.unwrap().unwrap().to_vec()).unwrap();
        assert_eq!(next().await, "a\n");
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(line("b").as_bytes()).unwrap();
        assert_eq!(next().await, "b\n");
        std::fs::rename(&path, dir.0.join("0.log.20260101-000001.0")).unwrap();
        std::fs::write(&path, line("c")).unwrap();
        assert_eq!(next().await, "c\n");
        end.send(()).unwrap();
        task.await.unwrap();
        assert!(from.recv().await.is_none());
    }

    #[test]
    fn only_the_last_two_runs_keep_their_logs() {
        let dir = dir("prune");
        for name in ["0.log", "0.log.20260101-1", "1.log", "2.log", "notes"] {
            std::fs::write(dir.0.join(name), "").unwrap();
        }
        prune(&dir.0, 2);
        let mut left: Vec<_> = std::fs::read_dir(&dir.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["1.log", "2.log", "notes"]);
    }
}
