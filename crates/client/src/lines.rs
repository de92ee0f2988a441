//! A watch body is one JSON document a line; frames end anywhere.

use bytes::{Bytes, BytesMut};

/// Longest line accepted. An object is at most 3 MiB in a request; this leaves room for what an API server adds.
pub(crate) const LINE_LIMIT_BYTES: usize = 16 << 20;

/// Puts frames together and gives lines out.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    buffer: BytesMut,
    scanned: usize,
}

/// A line longer than [`LINE_LIMIT_BYTES`].
#[derive(Debug, thiserror::Error)]
#[error("a line of a watch is longer than {LINE_LIMIT_BYTES} bytes")]
pub(crate) struct TooLong;

impl Lines {
    /// Takes one frame in.
    pub(crate) fn push(&mut self, frame: &[u8]) -> Result<(), TooLong> {
        if self.buffer.len() + frame.len() > 2 * LINE_LIMIT_BYTES {
            return Err(TooLong);
        }
        self.buffer.extend_from_slice(frame);
        Ok(())
    }

    /// The next whole line, without its end.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        match self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
            Some(found) => {
                let mut line = self.buffer.split_to(self.scanned + found + 1);
                line.truncate(line.len() - 1);
                self.scanned = 0;
                Some(line.freeze())
            }
            None => {
                self.scanned = self.buffer.len();
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(frames: &[&str], expected: &[&str]) {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for frame in frames {
            lines.push(frame.as_bytes()).expect("short");
            while let Some(line) = lines.next() {
                found.push(String::from_utf8(line.to_vec()).expect("text"));
            }
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn lines_are_found_wherever_frames_end() {
        check(&["a\nb\n"], &["a", "b"]);
        check(&["a", "b", "\n", "c\nd"], &["ab", "c"]);
        check(&["", "\n", "x\n\n"], &["", "x", ""]);
    }

    #[test]
    fn a_line_without_end_is_an_error_and_not_unbounded_memory() {
        let mut lines = Lines::default();
        let frame = vec![b'x'; 1 << 20];
        assert!((0..64).any(|_| lines.push(&frame).is_err()));
    }
}
