//! As much of a SPDY/3.1 client as a test needs, so that old clients' protocol is tried where no old kubectl is.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// A frame from the server.
#[derive(Debug)]
pub(crate) enum Frame {
    /// DATA of a stream, and whether it is the last.
    Data(u32, Vec<u8>, bool),
    /// GOAWAY.
    GoAway,
    /// Anything else.
    Other,
}

/// A connection.
pub(crate) struct Client {
    stream: TcpStream,
    begun: bool,
}

impl Client {
    /// Upgrades, without TLS; panics if the server does not agree.
    pub(crate) fn upgrade(port: u16, path: &str, protocol: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the proxy listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("the proxy reads");
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while !answer.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("the server answers");
            answer.push(byte[0]);
        }
        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        assert!(answer.starts_with("http/1.1 101 ") && answer.contains(&format!("x-stream-protocol-version: {protocol}\r\n")), "{answer}");
        Self { stream, begun: false }
    }

    /// SYN_STREAM, its headers stored rather than compressed.
    pub(crate) fn open(&mut self, id: u32, headers: &[(&str, &str)]) {
        let mut block = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.extend_from_slice(&(text.len() as u32).to_be_bytes());
            block.extend_from_slice(text.as_bytes());
        }
        let mut body = id.to_be_bytes().to_vec();
        body.extend_from_slice(&[0; 6]);
        if !std::mem::replace(&mut self.begun, true) {
            body.extend_from_slice(&[0x78, 0x01]);
        }
        body.push(0);
        body.extend_from_slice(&(block.len() as u16).to_le_bytes());
        body.extend_from_slice(&(!(block.len() as u16)).to_le_bytes());
        body.extend_from_slice(&block);
        self.send(0x8003_0001, 0, &body);
    }

    /// DATA.
    pub(crate) fn data(&mut self, id: u32, data: &[u8], last: bool) {
        self.send(id, u32::from(last), data);
    }

    fn send(&mut self, first: u32, flags: u32, body: &[u8]) {
        let head = [first.to_be_bytes(), (flags << 24 | body.len() as u32).to_be_bytes()].concat();
        self.stream.write_all(&[&head, body].concat()).expect("the server reads");
    }

    /// The next frame; `None` at the connection's end.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 8];
        self.stream.read_exact(&mut head).ok()?;
        let mut body = vec![0; u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize];
        self.stream.read_exact(&mut body).expect("a frame is whole");
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        Some(match first {
            0x8003_0007 => Frame::GoAway,
            first if first & 0x8000_0000 != 0 => Frame::Other,
            id => Frame::Data(id, body, head[4] & 1 == 1),
        })
    }

    /// Everything until the connection ends.
    pub(crate) fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next() {
            if matches!(frame, Frame::GoAway) {
                let _ = self.stream.shutdown(Shutdown::Both);
                break;
            }
            frames.push(frame);
        }
        frames
    }
}
