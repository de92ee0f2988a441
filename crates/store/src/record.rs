//! One record of the log: how its index entry is encoded, and its checksum.

use crate::intern::Interner;
use crate::{EventKind, Key, Meta};
use std::sync::Arc;

/// The number on disk of an event's kind.
pub(crate) fn kind_code(kind: EventKind) -> i64 {
    match kind {
        EventKind::Added => 0,
        EventKind::Modified => 1,
        EventKind::Deleted => 2,
    }
}

/// The kind of a number on disk.
pub(crate) fn kind_of(code: i64) -> Option<EventKind> {
    match code {
        0 => Some(EventKind::Added),
        1 => Some(EventKind::Modified),
        2 => Some(EventKind::Deleted),
        _ => None,
    }
}

/// CRC-32 over every column of a record, lengths included so that no byte can move between columns unseen.
pub(crate) fn checksum(revision: u64, kind: EventKind, key: &Key, meta: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&revision.to_le_bytes());
    hasher.update(&kind_code(kind).to_le_bytes());
    for column in [key.resource.as_bytes(), key.namespace.as_bytes(), key.name.as_bytes(), meta, body] {
        hasher.update(&(column.len() as u64).to_le_bytes());
        hasher.update(column);
    }
    hasher.finalize()
}

/// The index entry as bytes: uid, labels, fields, owners; every string and list preceded by its length (u32, little endian).
pub(crate) fn encode_meta(meta: &Meta, out: &mut Vec<u8>) {
    out.clear();
    put(out, &meta.uid);
    put_len(out, meta.labels.len());
    for (key, value) in &meta.labels {
        put(out, key);
        put(out, value);
    }
    for list in [&meta.fields, &meta.owners] {
        put_len(out, list.len());
        for text in list {
            put(out, text);
        }
    }
}

/// The reverse of [`encode_meta`]; `None` when the bytes are not its work.
pub(crate) fn decode_meta(bytes: &[u8], interner: &mut Interner) -> Option<Meta> {
    let mut rest = bytes;
    let uid = Arc::from(take(&mut rest)?);
    let count = take_len(&mut rest)?;
    let mut labels = Vec::with_capacity(count.min(rest.len()));
    for _ in 0..count {
        let key = interner.intern_str(take(&mut rest)?);
        let value = interner.intern_str(take(&mut rest)?);
        labels.push((key, value));
    }
    let fields = take_list(&mut rest, interner)?;
    let owners = take_list(&mut rest, interner)?;
    labels.shrink_to_fit();
    rest.is_empty().then_some(Meta { uid, labels, fields, owners })
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    // Objects are at most some megabytes, so a length always fits.
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
}

fn put(out: &mut Vec<u8>, text: &str) {
    put_len(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn take_len(rest: &mut &[u8]) -> Option<usize> {
    let (len, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(u32::from_le_bytes(*len) as usize)
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let len = take_len(rest)?;
    let (text, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    std::str::from_utf8(text).ok()
}

fn take_list(rest: &mut &[u8], interner: &mut Interner) -> Option<Vec<Arc<str>>> {
    let count = take_len(rest)?;
    let mut list = Vec::with_capacity(count.min(rest.len()));
    for _ in 0..count {
        list.push(interner.intern_str(take(rest)?));
    }
    list.shrink_to_fit();
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_entry_reads_back_as_it_was_written_and_no_prefix_of_it_does() {
        let meta = Meta {
            uid: "8f2c".into(),
            labels: vec![("app".into(), "web".into()), ("tier".into(), "".into())],
            fields: vec!["node-1".into(), "Running".into()],
            owners: vec!["77aa".into()],
        };
        let mut bytes = Vec::new();
        encode_meta(&meta, &mut bytes);
        assert_eq!(decode_meta(&bytes, &mut Interner::new()), Some(meta));
        for len in 0..bytes.len() {
            assert_eq!(decode_meta(&bytes[..len], &mut Interner::new()), None, "prefix of {len} bytes");
        }
    }

    #[test]
    fn the_checksum_sees_every_column() {
        let key = |resource: &str, namespace: &str, name: &str| Key { resource: resource.into(), namespace: namespace.into(), name: name.into() };
        let sums = [
            checksum(7, EventKind::Added, &key("pods", "default", "web-0"), b"m", b"body"),
            checksum(8, EventKind::Added, &key("pods", "default", "web-0"), b"m", b"body"),
            checksum(7, EventKind::Deleted, &key("pods", "default", "web-0"), b"m", b"body"),
            checksum(7, EventKind::Added, &key("podsd", "efault", "web-0"), b"m", b"body"),
            checksum(7, EventKind::Added, &key("pods", "default", "web-1"), b"m", b"body"),
            checksum(7, EventKind::Added, &key("pods", "default", "web-0"), b"mb", b"ody"),
        ];
        let distinct: std::collections::HashSet<_> = sums.iter().collect();
        assert_eq!(distinct.len(), sums.len());
    }
}
