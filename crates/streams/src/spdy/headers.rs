//! Header blocks: names and values, compressed as one zlib stream per direction and connection.

use super::dictionary::{CHECKSUM, DICTIONARY};
use super::frame::Broken;
use bytes::{BufMut, BytesMut};
use flate2::{Decompress, FlushDecompress};

/// Bytes of one block once it is decompressed; what Kubernetes' clients send are a hundred.
const BLOCK_LIMIT_BYTES: usize = 64 * 1024;

/// Names, lower case, and values.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// Reads a decompressed block.
    fn parse(block: &[u8]) -> Result<Self, Broken> {
        let (count, mut rest) = block.split_first_chunk::<4>().ok_or(Broken::Headers)?;
        let count = u32::from_be_bytes(*count);
        let mut headers = Vec::new();
        for _ in 0..count {
            headers.push((text(&mut rest)?.to_ascii_lowercase(), text(&mut rest)?));
        }
        Ok(Self(headers))
    }

    /// A value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }
}

fn text(rest: &mut &[u8]) -> Result<String, Broken> {
    let (length, after) = rest.split_first_chunk::<4>().ok_or(Broken::Headers)?;
    let (text, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(Broken::Headers)?;
    *rest = after;
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// The reading direction. Every block must pass through it, wanted or not: later ones refer to earlier ones.
#[derive(Debug)]
pub(crate) struct Inflater(Decompress);

impl Inflater {
    pub(crate) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// Decompresses one block, at most [`BLOCK_LIMIT_BYTES`] of it.
    pub(crate) fn block(&mut self, compressed: &[u8]) -> Result<Headers, Broken> {
        let mut rest = compressed;
        let mut block = Vec::with_capacity(512);
        loop {
            if block.len() == block.capacity() {
                if block.len() >= BLOCK_LIMIT_BYTES {
                    return Err(Broken::Headers);
                }
                block.reserve(block.len());
            }
            let (read, written) = (self.0.total_in(), block.len());
            let result = self.0.decompress_vec(rest, &mut block, FlushDecompress::Sync);
            let consumed = usize::try_from(self.0.total_in() - read).unwrap_or(usize::MAX);
            rest = rest.get(consumed..).ok_or(Broken::Headers)?;
            match result {
                Ok(_) => {}
                Err(error) if error.needs_dictionary() == Some(CHECKSUM) => {
                    self.0.set_dictionary(&DICTIONARY).map_err(|_| Broken::Headers)?;
                    continue;
                }
                Err(_) => return Err(Broken::Headers),
            }
            let more_room = block.len() < block.capacity();
            if more_room && (rest.is_empty() || (consumed == 0 && block.len() == written)) {
                break;
            }
        }
        Headers::parse(&block)
    }
}

/// The writing direction. What a server has to say in headers is nothing, so the blocks are stored, not compressed: that costs no memory
/// (zlib's compressor holds 256 KiB a connection) and is read by every inflater.
#[derive(Debug, Default)]
pub(crate) struct Deflater {
    begun: bool,
}

impl Deflater {
    /// A block of these headers.
    pub(crate) fn block(&mut self, headers: &[(&str, &str)], out: &mut BytesMut) {
        if !self.begun {
            self.begun = true;
            // Deflate with a 32 KiB window, fastest level, a preset dictionary; the check bits make it a multiple of 31.
            out.put_slice(&[0x78, 0xbb]);
            out.put_u32(CHECKSUM);
        }
        let mut block = BytesMut::new();
        block.put_u32(headers.len() as u32);
        for (name, value) in headers {
            for text in [name, value] {
                block.put_u32(text.len() as u32);
                block.put_slice(text.as_bytes());
            }
        }
        stored(&block, out);
        // The empty block of a sync flush: Go's inflater hands out a stored block only when it has seen the next one.
        stored(&[], out);
    }
}

/// A stored block, not the last (RFC 1951, section 3.2.4).
fn stored(block: &[u8], out: &mut BytesMut) {
    // Only what this server says goes here, so it fits.
    let length = block.len() as u16;
    out.put_u8(0);
    out.put_u16_le(length);
    out.put_u16_le(!length);
    out.put_slice(block);
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};

    fn plain(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut block = (pairs.len() as u32).to_be_bytes().to_vec();
        for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
            block.extend_from_slice(&(text.len() as u32).to_be_bytes());
            block.extend_from_slice(text.as_bytes());
        }
        block
    }

    fn compress(deflate: &mut Compress, block: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(block.len() + 4096);
        deflate.compress_vec(block, &mut out, FlushCompress::Sync).unwrap();
        out
    }

    fn dictionary() -> Compress {
        let mut deflate = Compress::new(Compression::best(), true);
        deflate.set_dictionary(&DICTIONARY).unwrap();
        deflate
    }

    #[test]
    fn blocks_of_one_stream_are_read_one_after_the_other() {
        let mut deflate = dictionary();
        let mut inflate = Inflater::new();
        let pairs = [("streamtype", "error"), ("port", "80"), ("requestid", "0")];
        for round in 0..3 {
            let compressed = compress(&mut deflate, &plain(&pairs));
            assert_eq!(inflate.block(&compressed), Ok(Headers::of(&pairs)), "round {round}");
        }
        assert_eq!(inflate.block(&compress(&mut deflate, &plain(&[]))).unwrap().get("port"), None);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let (mut deflate, mut inflate) = (Deflater::default(), Inflater::new());
        for pairs in [&[][..], &[("a", "b")], &[("streamtype", "data"), ("x", "")]] {
            let mut out = BytesMut::new();
            deflate.block(pairs, &mut out);
            assert_eq!(inflate.block(&out), Ok(Headers::of(pairs)));
        }
    }

    #[test]
    fn a_block_that_grows_without_end_is_refused() {
        let bomb = "x".repeat(8 << 20);
        let compressed = compress(&mut dictionary(), &plain(&[("a", &bomb)]));
        assert!(compressed.len() < 64 * 1024, "{} bytes", compressed.len());
        assert_eq!(Inflater::new().block(&compressed), Err(Broken::Headers));
    }

    #[test]
    fn impossible_blocks_are_refused() {
        for block in [&[][..], &[0, 0, 0], &[255; 4], &[0, 0, 0, 1, 0, 0, 0, 9, b'a'], &[0, 0, 0, 1, 255, 255, 255, 255]] {
            assert_eq!(Inflater::new().block(&compress(&mut dictionary(), block)), Err(Broken::Headers), "{block:?}");
        }
        let mut other = Compress::new(Compression::best(), true);
        other.set_dictionary(b"another dictionary").unwrap();
        assert_eq!(Inflater::new().block(&compress(&mut other, &plain(&[]))), Err(Broken::Headers));
    }
}
