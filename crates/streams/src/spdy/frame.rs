//! SPDY/3.1 frames from and to bytes, without any input or output (SPDY draft 3, section 2.2).

use super::headers::{Deflater, Headers, Inflater};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of a control frame; a data frame may be longer, for it is never held as a whole.
pub(crate) const CONTROL_LIMIT_BYTES: usize = 64 * 1024;

/// Bytes of a data frame that are handed on at once.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// Below this, data is copied out of the buffer it was read into, so that a byte that waits does not keep 64 KiB alive.
const COPY_BELOW_BYTES: usize = 4 * 1024;

const HEAD_BYTES: usize = 8;
const CONTROL: u8 = 0x80;
const VERSION: u16 = 3;
const FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// Why a stream is reset.
pub(crate) const PROTOCOL_ERROR: u32 = 1;
/// Not now.
pub(crate) const REFUSED_STREAM: u32 = 3;
/// No longer wanted.
pub(crate) const CANCEL: u32 = 5;

/// What the other side said that concerns anyone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// SYN_STREAM.
    Open {
        /// Odd from clients.
        id: u32,
        /// Nothing will be sent on it.
        finished: bool,
        /// Its headers.
        headers: Headers,
    },
    /// A part of a DATA frame.
    Data {
        /// Of this stream.
        id: u32,
        /// At most [`CHUNK_BYTES`].
        data: Bytes,
    },
    /// Nothing more will be sent on this stream.
    Finished(u32),
    /// RST_STREAM.
    Reset(u32),
    /// PING.
    Ping(u32),
    /// What this server has no use for: settings, window updates, replies, headers, going away.
    Other,
}

/// The other side does not speak SPDY/3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("a SPDY control frame of version {0}")]
    Version(u16),
    #[error("a SPDY frame of type {0} cannot be {1} bytes long")]
    Length(u16, usize),
    #[error("a SPDY header block that cannot be read")]
    Headers,
    #[error("a SPDY frame for stream 0")]
    Stream,
}

/// Reads frames from bytes as they come. It holds no data: at most one control frame waits in the caller's buffer to be complete.
#[derive(Debug)]
pub(crate) struct Decoder {
    inflate: Inflater,
    data: Option<Payload>,
}

/// What is left of the DATA frame that is being read.
#[derive(Debug)]
struct Payload {
    id: u32,
    left: usize,
    finished: bool,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { inflate: Inflater::new(), data: None }
    }

    /// The next frame, taken off the front of `input`; `None`: more bytes are needed.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, Broken> {
        loop {
            if let Some(payload) = &mut self.data {
                if payload.left == 0 {
                    let (id, finished) = (payload.id, payload.finished);
                    self.data = None;
                    if finished {
                        return Ok(Some(Frame::Finished(id)));
                    }
                    continue;
                }
                if input.is_empty() {
                    return Ok(None);
                }
                let length = payload.left.min(input.len()).min(CHUNK_BYTES);
                payload.left -= length;
                let chunk = input.split_to(length);
                let data = if length < COPY_BELOW_BYTES { Bytes::copy_from_slice(&chunk) } else { chunk.freeze() };
                return Ok(Some(Frame::Data { id: payload.id, data }));
            }
            let Some(head) = input.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
            let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            let (flags, length) = (head[4], u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize);
            if head[0] & CONTROL == 0 {
                let id = named(first)?;
                input.advance(HEAD_BYTES);
                self.data = Some(Payload { id, left: length, finished: flags & FIN != 0 });
                continue;
            }
            let (version, kind) = ((first >> 16) as u16 & 0x7fff, first as u16);
            if version != VERSION {
                return Err(Broken::Version(version));
            }
            if length > CONTROL_LIMIT_BYTES {
                return Err(Broken::Length(kind, length));
            }
            if input.len() < HEAD_BYTES + length {
                return Ok(None);
            }
            input.advance(HEAD_BYTES);
            let body = input.split_to(length);
            return self.control(kind, flags, &body).map(Some);
        }
    }

    fn control(&mut self, kind: u16, flags: u8, body: &[u8]) -> Result<Frame, Broken> {
        let finished = flags & FIN != 0;
        let short = Broken::Length(kind, body.len());
        let (number, rest) = body.split_first_chunk::<4>().map(|(n, rest)| (u32::from_be_bytes(*n), rest)).unwrap_or_default();
        match kind {
            SYN_STREAM => {
                // Associated stream, priority and slot say nothing here.
                let compressed = rest.get(6..).ok_or(short)?;
                let headers = self.inflate.block(compressed)?;
                Ok(Frame::Open { id: named(number)?, finished, headers })
            }
            SYN_REPLY | HEADERS => {
                if body.len() < 4 {
                    return Err(short);
                }
                self.inflate.block(rest)?;
                Ok(if finished { Frame::Finished(named(number)?) } else { Frame::Other })
            }
            RST_STREAM if body.len() == 8 => Ok(Frame::Reset(named(number)?)),
            PING if body.len() == 4 => Ok(Frame::Ping(number)),
            RST_STREAM | PING => Err(short),
            _ => Ok(Frame::Other),
        }
    }
}

fn named(id: u32) -> Result<u32, Broken> {
    match id & 0x7fff_ffff {
        0 => Err(Broken::Stream),
        id => Ok(id),
    }
}

/// Writes frames.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    deflate: Deflater,
}

impl Encoder {
    /// SYN_STREAM, as a client sends it.
    #[cfg(test)]
    pub(crate) fn open(&mut self, id: u32, finished: bool, headers: &[(&str, &str)], out: &mut BytesMut) {
        let mut body = BytesMut::new();
        body.put_u32(id);
        body.put_slice(&[0; 6]);
        self.deflate.block(headers, &mut body);
        control(SYN_STREAM, u8::from(finished), &body, out);
    }

    /// SYN_REPLY without headers.
    pub(crate) fn reply(&mut self, id: u32, out: &mut BytesMut) {
        let mut body = BytesMut::new();
        body.put_u32(id);
        self.deflate.block(&[], &mut body);
        control(SYN_REPLY, 0, &body, out);
    }
}

fn control(kind: u16, flags: u8, body: &[u8], out: &mut BytesMut) {
    out.put_u16(u16::from(CONTROL) << 8 | VERSION);
    out.put_u16(kind);
    out.put_u32(u32::from(flags) << 24 | body.len() as u32);
    out.put_slice(body);
}

/// DATA.
pub(crate) fn data(id: u32, data: &[u8], finished: bool, out: &mut BytesMut) {
    out.put_u32(id);
    // Those who call send chunks far below the 16 MiB that fit.
    out.put_u32(u32::from(finished) << 24 | data.len() as u32);
    out.put_slice(data);
}

fn two(kind: u16, first: u32, second: u32, out: &mut BytesMut) {
    let mut body = [0; 8];
    body[..4].copy_from_slice(&first.to_be_bytes());
    body[4..].copy_from_slice(&second.to_be_bytes());
    control(kind, 0, &body, out);
}

/// RST_STREAM.
pub(crate) fn reset(id: u32, status: u32, out: &mut BytesMut) {
    two(RST_STREAM, id, status, out);
}

/// PING, to be sent back as it came.
pub(crate) fn ping(id: u32, out: &mut BytesMut) {
    control(PING, 0, &id.to_be_bytes(), out);
}

/// WINDOW_UPDATE: this many bytes more may be sent on the stream.
pub(crate) fn window(id: u32, bytes: u32, out: &mut BytesMut) {
    two(WINDOW_UPDATE, id, bytes, out);
}

/// GOAWAY, the last frame: with status 0, or 1 for a protocol error.
pub(crate) fn go_away(last: u32, status: u32, out: &mut BytesMut) {
    two(GOAWAY, last, status, out);
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
