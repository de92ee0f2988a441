//! As much of a SPDY/3.1 client as these tests need.

use crate::connect;
use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// SYN_REPLY.
    Reply(u32),
    /// DATA, and whether it is the last.
    Data(u32, Vec<u8>, bool),
    /// RST_STREAM with its status.
    Reset(u32, u32),
    /// PING.
    Ping(u32),
    /// GOAWAY with its status.
    GoAway(u32),
    /// WINDOW_UPDATE.
    Window(u32, u32),
}

pub(crate) struct Client<S> {
    io: S,
    begun: bool,
}

pub(crate) fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_u16(0x8003);
    out.put_u16(kind);
    out.put_u32(u32::from(flags) << 24 | body.len() as u32);
    out.put_slice(body);
    out.to_vec()
}

/// Upgrades to SPDY; the answer's head.
pub(crate) async fn upgrade(path: &str, protocols: &[&str]) -> (Client<DuplexStream>, String) {
    let mut io = connect();
    let offered: String = protocols.iter().map(|protocol| format!("X-Stream-Protocol-Version: {protocol}\r\n")).collect();
    io.write_all(format!("POST {path} HTTP/1.1\r\nHost: node\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n{offered}\r\n").as_bytes())
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.unwrap());
    }
    (Client::new(io), String::from_utf8(head).unwrap())
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(io: S) -> Self {
        Self { io, begun: false }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
    }

    /// SYN_STREAM.
    pub(crate) async fn open(&mut self, id: u32, headers: &[(&str, &str)]) {
        let mut block = BytesMut::new();
        block.put_u32(headers.len() as u32);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.put_u32(text.len() as u32);
            block.put_slice(text.as_bytes());
        }
        let mut body = BytesMut::new();
        body.put_u32(id);
        body.put_slice(&[0; 6]);
        if !std::mem::replace(&mut self.begun, true) {
            body.put_slice(&[0x78, 0x01]);
        }
        body.put_u8(0);
        body.put_u16_le(block.len() as u16);
        body.put_u16_le(!(block.len() as u16));
        body.put_slice(&block);
        self.send(&control(1, 0, &body)).await;
    }

    /// SYN_STREAM, accepted.
    pub(crate) async fn open_ok(&mut self, id: u32, headers: &[(&str, &str)]) {
        self.open(id, headers).await;
        assert_eq!(self.next().await, Some(Frame::Reply(id)));
    }

    /// DATA.
    pub(crate) async fn data(&mut self, id: u32, data: &[u8], last: bool) {
        let mut out = BytesMut::new();
        out.put_u32(id);
        out.put_u32(u32::from(last) << 24 | data.len() as u32);
        out.put_slice(data);
        self.send(&out).await;
    }

    /// The next frame; `None` at the connection's end.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let first = self.io.read_u32().await.ok()?;
        let second = self.io.read_u32().await.unwrap();
        let mut body = vec![0; (second & 0xff_ffff) as usize];
        self.io.read_exact(&mut body).await.unwrap();
        let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap());
        if first & 0x8000_0000 == 0 {
            return Some(Frame::Data(first, body, second >> 24 & 1 == 1));
        }
        assert_eq!(first >> 16, 0x8003, "version 3");
        Some(match first & 0xffff {
            2 => Frame::Reply(number(0)),
            3 => Frame::Reset(number(0), number(4)),
            6 => Frame::Ping(number(0)),
            7 => Frame::GoAway(number(4)),
            9 => Frame::Window(number(0), number(4)),
            other => panic!("a frame of type {other}"),
        })
    }

    /// Everything until the connection ends.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            let last = matches!(frame, Frame::GoAway(_));
            frames.push(frame);
            if last {
                // As a client does, and so that the server needs not wait for it.
                let _ = self.io.shutdown().await;
            }
        }
        frames
    }
}
