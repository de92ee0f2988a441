//! What a container says of its own end: the termination message file, or the end of its log.

use k8s_openapi::api::core::v1::Container;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Upstream: 4,096 bytes of the file; of the log at most 2,048 bytes and 80 lines.
const MESSAGE_LIMIT_BYTES: u64 = 4096;
const LOG_LIMIT_BYTES: u64 = 2048;
const LOG_LIMIT_LINES: usize = 80;

pub(crate) fn message(container: &Container, file: &Path, log: &Path, failed: bool) -> Option<String> {
    let text = std::fs::File::open(file).ok().and_then(|f| {
        let mut bytes = Vec::new();
        f.take(MESSAGE_LIMIT_BYTES).read_to_end(&mut bytes).ok()?;
        (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
    });
    let from_log = failed && container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    text.or_else(|| if from_log { tail(log) } else { None })
}

fn tail(log: &Path) -> Option<String> {
    let mut file = std::fs::File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    // Each line carries a stamp and a stream name of some 45 bytes.
    let window = LOG_LIMIT_BYTES + 50 * LOG_LIMIT_LINES as u64;
    file.seek(SeekFrom::Start(length.saturating_sub(window))).ok()?;
    let mut bytes = Vec::new();
    file.take(window).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let skip_partial = usize::from(length > window);
    let lines: Vec<&str> = text.lines().skip(skip_partial).filter_map(|l| l.splitn(4, ' ').nth(3)).collect();
    let joined = lines[lines.len().saturating_sub(LOG_LIMIT_LINES)..].join("\n");
    let from = joined.len().saturating_sub(LOG_LIMIT_BYTES as usize);
    let from = (from..joined.len()).find(|at| joined.is_char_boundary(*at)).unwrap_or(joined.len());
    (!joined.is_empty()).then(|| joined[from..].to_owned())
}
