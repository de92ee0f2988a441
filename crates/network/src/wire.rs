//! Route netlink, several requests in one datagram, answered before `send` returns.
//!
//! A pod takes nine requests. Each awaited by itself costs a wake-up of the runtime; together they are two system calls a namespace.

use crate::Error;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io;

/// One request: what it is for, its message, its flags, and errors that mean it is done already.
pub(crate) struct Request {
    /// `add veth ms-2`, for the error text.
    pub doing: String,
    /// What the kernel is asked.
    pub message: Message,
    /// Beside REQUEST and ACK: CREATE, EXCL, REPLACE.
    pub flags: u16,
    /// errno values that count as success.
    pub tolerate: &'static [i32],
}

/// A socket in the network namespace of the thread that opened it; usable from any thread.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Socket,
    sequence: u32,
}

/// Bytes that one `recv` may return. The kernel's dumps use at most 32 KiB a datagram.
const RECEIVE_BYTES: usize = 64 * 1024;

impl Wire {
    /// Opens in the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self, Error> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        Ok(Self { socket: open().map_err(|e| Error::kernel("open route netlink", e))?, sequence: 0 })
    }

    /// Sends all requests; the kernel carries each out even if one before it failed. The first failure that is not tolerated is returned.
    pub(crate) fn send(&mut self, requests: Vec<Request>) -> Result<(), Error> {
        let first = self.sequence.wrapping_add(1);
        let count = requests.len();
        let mut datagram = Vec::with_capacity(256 * count);
        let mut names = Vec::with_capacity(count);
        for request in requests {
            self.append(&mut datagram, request.message, NLM_F_ACK | request.flags);
            names.push((request.doing, request.tolerate));
        }
        self.transmit(&datagram)?;
        let mut failed = None;
        let mut answered = 0;
        while answered < count {
            for message in self.receive()? {
                let NetlinkPayload::Error(error) = message.payload else { continue };
                let Some((doing, tolerate)) = names.get(message.header.sequence_number.wrapping_sub(first) as usize) else { continue };
                answered += 1;
                let code = -error.raw_code();
                if code != 0 && !tolerate.contains(&code) && failed.is_none() {
                    failed = Some(Error::kernel(doing.clone(), io::Error::from_raw_os_error(code)));
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// One request answered with objects: a dump, or a single get, which finds nothing where there is no such device.
    pub(crate) fn ask(&mut self, doing: &str, message: Message, dump: bool) -> Result<Vec<Message>, Error> {
        let mut datagram = Vec::with_capacity(256);
        self.append(&mut datagram, message, if dump { NLM_F_DUMP } else { NLM_F_ACK });
        self.transmit(&datagram)?;
        let mut found = Vec::new();
        loop {
            for message in self.receive()? {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(object) => found.push(object),
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(error) => {
                        return match -error.raw_code() {
                            0 | libc::ENODEV => Ok(found),
                            code => Err(Error::kernel(doing, io::Error::from_raw_os_error(code))),
                        };
                    }
                    _ => {}
                }
            }
        }
    }

    fn append(&mut self, datagram: &mut Vec<u8>, message: Message, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let start = datagram.len();
        datagram.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut datagram[start..]);
    }

    fn transmit(&self, datagram: &[u8]) -> Result<(), Error> {
        self.socket.send(datagram, 0).map(drop).map_err(|e| Error::kernel("send to route netlink", e))
    }

    fn receive(&self) -> Result<Vec<NetlinkMessage<Message>>, Error> {
        let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
        self.socket.recv(&mut buffer, 0).map_err(|e| Error::kernel("receive from route netlink", e))?;
        let mut messages = Vec::new();
        let mut rest = &buffer[..];
        while rest.len() >= 16 {
            let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            if length < 16 || length > rest.len() {
                return Err(Error::kernel("read from route netlink", "a message of impossible length"));
            }
            // What this version of the decoder cannot read is a kind of object that nobody here asks about.
            if let Ok(message) = NetlinkMessage::deserialize(&rest[..length]) {
                messages.push(message);
            }
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
        Ok(messages)
    }
}
