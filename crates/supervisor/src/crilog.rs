//! The container log in the format of the Container Runtime Interface, and its rotation.
//!
//! A line is `2026-01-31T12:00:00.000000000Z stdout F text`; a line longer than [`MAX_PIECE`] is split into pieces tagged `P`, the last `F`.
//! Source: KEP-2411 and kubelet's `cri-client/pkg/logs`.

use crate::types::Log;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest piece of a line, in bytes.
pub const MAX_PIECE: usize = 16 * 1024;

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The log of one container.
#[derive(Debug)]
pub struct CriLog {
    log: Log,
    file: Option<File>,
    size: u64,
    /// Lines that have no end yet, by stream; each shorter than [`MAX_PIECE`].
    begun: [Vec<u8>; 2],
    /// What goes out with the next write; kept to save allocations.
    batch: Vec<u8>,
}

impl CriLog {
    /// Opens the file, appending to what is there.
    pub fn open(log: Log) -> io::Result<Self> {
        let (file, size) = open(&log.path)?;
        Ok(Self { log, file: Some(file), size, begun: Default::default(), batch: Vec::new() })
    }

    /// Takes what was read from a stream at `now`. Whole lines go to the file before this returns.
    ///
    /// An error means that these lines are lost (the disk is full): the container is not to hang for that.
    pub fn write(&mut self, stream: Stream, mut data: &[u8], now: SystemTime) -> io::Result<()> {
        let stamp = timestamp(now);
        self.batch.clear();
        while !data.is_empty() {
            let begun = &mut self.begun[stream as usize];
            let room = MAX_PIECE - begun.len();
            let end = data.iter().take(room + 1).position(|byte| *byte == b'\n');
            match end {
                Some(end) => {
                    begun.extend_from_slice(&data[..end]);
                    push_line(&mut self.batch, &stamp, stream, b'F', begun);
                    data = &data[end + 1..];
                }
                None if data.len() > room => {
                    begun.extend_from_slice(&data[..room]);
                    push_line(&mut self.batch, &stamp, stream, b'P', begun);
                    data = &data[room..];
                }
                None => {
                    begun.extend_from_slice(data);
                    break;
                }
            }
            begun.clear();
        }
        self.flush()
    }

    /// The stream ended: a line without an end is written as it is.
    pub fn end(&mut self, stream: Stream, now: SystemTime) -> io::Result<()> {
        self.batch.clear();
        let begun = std::mem::take(&mut self.begun[stream as usize]);
        if !begun.is_empty() {
            push_line(&mut self.batch, &timestamp(now), stream, b'F', &begun);
        }
        self.flush()
    }

    /// Opens the path again: someone moved the file.
    pub fn reopen(&mut self) -> io::Result<()> {
        let (file, size) = open(&self.log.path)?;
        (self.file, self.size) = (Some(file), size);
        Ok(())
    }

    /// Gives memory back that only a burst of output needed.
    pub fn shrink(&mut self) {
        self.batch = Vec::new();
        self.begun.iter_mut().for_each(Vec::shrink_to_fit);
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        if let Some(file) = &mut self.file {
            file.write_all(&self.batch)?;
        }
        self.size += self.batch.len() as u64;
        if self.batch.capacity() > 4 * MAX_PIECE {
            self.batch = Vec::new();
        }
        if self.size >= self.log.max_bytes.max(MAX_PIECE as u64) { self.rotate() } else { Ok(()) }
    }

    /// The file becomes `<path>.<timestamp>`, and the oldest such files beyond `max_files` go.
    fn rotate(&mut self) -> io::Result<()> {
        let stamp = timestamp(SystemTime::now());
        // Kubelet's form is 20060102-150405; with nanoseconds two rotations in one second stay apart, and names sort by time.
        let digits: String = stamp.chars().filter(char::is_ascii_digit).collect();
        let name = format!("{}.{}-{}.{}", self.log.path.display(), &digits[..8], &digits[8..14], &digits[14..]);
        std::fs::rename(&self.log.path, name)?;
        self.reopen()?;
        let mut rotated = rotated(&self.log.path)?;
        let keep = (self.log.max_files.max(1) - 1) as usize;
        for old in rotated.drain(..rotated.len().saturating_sub(keep)) {
            std::fs::remove_file(old)?;
        }
        Ok(())
    }
}

/// The rotated files of a log, oldest first.
pub fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let prefix = format!("{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path.parent().unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit())) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    // A log directory is ours, but a link in it (a restored backup, say) must not lead the write elsewhere.
    let file = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

fn push_line(batch: &mut Vec<u8>, stamp: &str, stream: Stream, tag: u8, text: &[u8]) {
    batch.extend_from_slice(stamp.as_bytes());
    batch.extend_from_slice(if stream == Stream::Stdout { b" stdout " } else { b" stderr " });
    batch.extend_from_slice(&[tag, b' ']);
    batch.extend_from_slice(text);
    batch.push(b'\n');
}

/// RFC 3339 in UTC with nanoseconds.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos())
}

/// The Gregorian date of a day since 1970-01-01. Algorithm: H. Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_based = (5 * day_of_year + 2) / 153;
    let month = if march_based < 10 { march_based + 3 } else { march_based - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day_of_year - (153 * march_based + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(max_bytes: u64, max_files: u32) -> (tempfile::TempDir, CriLog) {
        let dir = tempfile::tempdir().unwrap();
        let log = CriLog::open(Log { path: dir.path().join("0.log"), max_bytes, max_files }).unwrap();
        (dir, log)
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, 5)
    }

    #[test]
    fn timestamps_are_rfc_3339_with_nanoseconds() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000005Z"),
            (951_827_696, "2000-02-29T12:34:56.000000005Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000005Z"),
            (1_767_225_600, "2026-01-01T00:00:00.000000005Z"),
        ] {
            assert_eq!(timestamp(at(seconds)), expected);
        }
    }

    #[test]
    fn lines_are_whole_however_they_arrive_and_streams_do_not_mix() {
        let (dir, mut log) = log(1 << 20, 5);
        log.write(Stream::Stdout, b"on", at(0)).unwrap();
        log.write(Stream::Stderr, b"bad\n\nwor", at(1)).unwrap();
        log.write(Stream::Stdout, b"e\ntwo\n", at(2)).unwrap();
        log.end(Stream::Stderr, at(3)).unwrap();
        log.end(Stream::Stdout, at(4)).unwrap();
        let text = std::fs::read_to_string(dir.path().join("0.log")).unwrap();
        let short: Vec<_> = text.lines().map(|line| format!("{} {}", &line[17..19], &line[31..])).collect();
        assert_eq!(short, ["01 stderr F bad", "01 stderr F ", "02 stdout F one", "02 stdout F two", "03 stderr F wor"]);
    }

    #[test]
    fn a_long_line_is_split_into_partial_pieces() {
        for (length, pieces) in [(MAX_PIECE - 1, "F"), (MAX_PIECE, "F"), (MAX_PIECE + 1, "PF"), (2 * MAX_PIECE + 1, "PPF")] {
            for chunk in [1000, MAX_PIECE, 1 << 20] {
                let (dir, mut log) = log(1 << 30, 5);
                let mut line = vec![b'x'; length];
                line.push(b'\n');
                line.chunks(chunk).for_each(|part| log.write(Stream::Stdout, part, at(0)).unwrap());
                let text = std::fs::read_to_string(dir.path().join("0.log")).unwrap();
                let tags: String = text.lines().map(|line| &line[38..39]).collect();
                assert_eq!(tags, pieces, "{length} bytes in chunks of {chunk}");
                assert_eq!(text.lines().map(|line| line.len() - 40).sum::<usize>(), length);
            }
        }
    }

    #[test]
    fn a_full_file_is_rotated_and_the_oldest_go() {
        let (dir, mut log) = log(20_000, 3);
        for line in 0..1000 {
            log.write(Stream::Stdout, format!("line {line} {}\n", "y".repeat(100)).as_bytes(), SystemTime::now()).unwrap();
        }
        let path = dir.path().join("0.log");
        let rotated = rotated(&path).unwrap();
        assert_eq!(rotated.len(), 2);
        assert!(std::fs::metadata(&rotated[0]).unwrap().len() >= 20_000);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
        let (last, whole) = (std::fs::read_to_string(&rotated[1]).unwrap(), std::fs::read_to_string(&path).unwrap());
        assert!(whole.is_empty() || whole.contains("line 999") || last.contains("line 999"));
    }
}
