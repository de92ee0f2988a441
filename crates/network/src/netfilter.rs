//! nfnetlink, as much of it as is needed: nftables batches, and dumps.
//!
//! A library that knows all of nftables takes two minutes of a processor to build; these are the ten messages and a dozen expressions that the
//! rules are made of. Numbers from `linux/netfilter/nf_tables.h` and `nfnetlink.h`.

use crate::Error;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use std::io;
use std::net::Ipv4Addr;

/// `NFPROTO_IPV4`.
pub(crate) const IPV4: u8 = 2;
/// `NFPROTO_INET`.
pub(crate) const INET: u8 = 1;

const NFTABLES: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const EXCL: u16 = 0x200;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;
/// Of `nlmsghdr` and `nfgenmsg`.
const HEADER: usize = 20;
const RECEIVE_BYTES: usize = 64 * 1024;

/// A verdict as a map's value: to go to this chain and not return.
pub(crate) const DATA_VERDICT: u32 = 0xffff_ff00;
const GOTO: i32 = -4;
const JUMP: i32 = -3;
const DROP: i32 = 0;
const ACCEPT: i32 = 1;

/// Attributes being written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }
    pub(crate) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }
    pub(crate) fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Attributes)) -> &mut Self {
        let mut inner = Attributes::default();
        write(&mut inner);
        self.bytes(kind | NESTED, &inner.0)
    }
    fn value(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.nest(kind, |a| {
            a.bytes(1, value);
        })
    }
    fn verdict(&mut self, kind: u16, code: i32, chain: Option<&str>) -> &mut Self {
        self.nest(kind, |a| {
            a.nest(2, |v| {
                v.bytes(1, &code.to_be_bytes());
                if let Some(chain) = chain {
                    v.text(2, chain);
                }
            });
        })
    }
}

/// A 32-bit register, counted from 0. Values wider than four bytes take the following ones too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Register(pub u32);

impl Register {
    fn number(self) -> u32 {
        8 + self.0
    }
}

/// A rule's expressions, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rule(Attributes);

const R0: Register = Register(0);
const R1: Register = Register(1);

impl Rule {
    fn expression(mut self, name: &str, write: impl FnOnce(&mut Attributes)) -> Self {
        self.0.nest(1, |e| {
            e.text(1, name);
            e.nest(2, write);
        });
        self
    }
    fn compare(self, register: Register, different: bool, value: &[u8]) -> Self {
        self.expression("cmp", |a| {
            a.number(1, register.number()).number(2, u32::from(different)).value(3, value);
        })
    }
    fn load_meta(self, key: u32, to: Register) -> Self {
        self.expression("meta", |a| {
            a.number(1, to.number()).number(2, key);
        })
    }
    fn load_packet(self, base: u32, offset: u32, length: u32, to: Register) -> Self {
        self.expression("payload", |a| {
            a.number(1, to.number()).number(2, base).number(3, offset).number(4, length);
        })
    }
    fn load_value(self, value: &[u8], to: Register) -> Self {
        self.expression("immediate", |a| {
            a.number(1, to.number()).value(2, value);
        })
    }
    fn end(self, code: i32, chain: Option<&str>) -> Self {
        self.expression("immediate", |a| {
            a.number(1, 0).verdict(2, code, chain);
        })
    }
    /// `ip saddr` into a register.
    pub(crate) fn load_source(self, to: Register) -> Self {
        self.load_packet(1, 12, 4, to)
    }
    /// `ip daddr`.
    pub(crate) fn load_destination(self, to: Register) -> Self {
        self.load_packet(1, 16, 4, to)
    }
    /// `meta l4proto`.
    pub(crate) fn load_protocol(self, to: Register) -> Self {
        self.load_meta(16, to)
    }
    /// `th dport`.
    pub(crate) fn load_port(self, to: Register) -> Self {
        self.load_packet(2, 2, 2, to)
    }
    /// Matches an address in R0.
    fn within(self, (network, prefix): (Ipv4Addr, u8), inside: bool) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0).to_be_bytes();
        let masked = self.expression("bitwise", |a| {
            a.number(1, R0.number()).number(2, R0.number()).number(3, 4).value(4, &mask).value(5, &[0; 4]);
        });
        masked.compare(R0, !inside, &network.octets())
    }
    pub(crate) fn source_in(self, range: (Ipv4Addr, u8)) -> Self {
        self.load_source(R0).within(range, true)
    }
    pub(crate) fn destination_in(self, range: (Ipv4Addr, u8), inside: bool) -> Self {
        self.load_destination(R0).within(range, inside)
    }
    /// `fib daddr type local`.
    pub(crate) fn destination_is_local(self) -> Self {
        let looked = self.expression("fib", |a| {
            a.number(1, R0.number()).number(2, 3).number(3, 2);
        });
        looked.compare(R0, false, &2u32.to_ne_bytes())
    }
    /// `iifname "prefix*"`.
    pub(crate) fn comes_from(self, prefix: &str) -> Self {
        self.load_meta(6, R0).compare(R0, false, prefix.as_bytes())
    }
    /// `oifname "prefix*"`.
    pub(crate) fn leaves_through(self, prefix: &str) -> Self {
        self.load_meta(7, R0).compare(R0, false, prefix.as_bytes())
    }
    pub(crate) fn tcp(self) -> Self {
        self.load_protocol(R0).compare(R0, false, &[6])
    }
    /// What begins at R0 is in the set.
    pub(crate) fn in_set(self, set: &str) -> Self {
        self.expression("lookup", |a| {
            a.text(1, set).number(2, R0.number());
        })
    }
    /// Goes where the map says for what begins at R0; on, if it says nothing.
    pub(crate) fn by_map(self, map: &str) -> Self {
        self.expression("lookup", |a| {
            a.text(1, map).number(2, R0.number()).number(3, 0);
        })
    }
    /// Notes `ip saddr` in a set, or that it was seen again.
    pub(crate) fn note_source(self, set: &str) -> Self {
        self.load_source(R0).expression("dynset", |a| {
            a.text(1, set).number(3, 1).number(4, R0.number());
        })
    }
    /// One in `count`, by chance.
    pub(crate) fn one_in(self, count: u32) -> Self {
        let drawn = self.expression("numgen", |a| {
            a.number(1, R0.number()).number(2, count).number(3, 1);
        });
        drawn.compare(R0, false, &0u32.to_ne_bytes())
    }
    pub(crate) fn translate_destination(self, (address, port): (Ipv4Addr, u16)) -> Self {
        self.load_value(&address.octets(), R0).load_value(&port.to_be_bytes(), R1).expression("nat", |a| {
            a.number(1, 1).number(2, u32::from(IPV4)).number(3, R0.number()).number(5, R1.number());
        })
    }
    pub(crate) fn translate_source(self, address: Ipv4Addr) -> Self {
        self.load_value(&address.octets(), R0).expression("nat", |a| {
            a.number(1, 0).number(2, u32::from(IPV4)).number(3, R0.number());
        })
    }
    pub(crate) fn masquerade(self) -> Self {
        self.expression("masq", |_| {})
    }
    pub(crate) fn reset(self) -> Self {
        self.tcp().expression("reject", |a| {
            a.number(1, 1);
        })
    }
    /// ICMP port unreachable.
    pub(crate) fn refuse(self) -> Self {
        self.expression("reject", |a| {
            a.number(1, 0).bytes(2, &[3]);
        })
    }
    pub(crate) fn drop(self) -> Self {
        self.end(DROP, None)
    }
    pub(crate) fn accept(self) -> Self {
        self.end(ACCEPT, None)
    }
    pub(crate) fn jump(self, chain: &str) -> Self {
        self.end(JUMP, Some(chain))
    }
}

/// Where a base chain hangs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// `NF_INET_PRE_ROUTING` 0, `LOCAL_IN` 1, `FORWARD` 2, `LOCAL_OUT` 3, `POST_ROUTING` 4.
    pub number: u32,
    pub priority: i32,
}

/// A set or map, as it is created.
#[derive(Clone, Debug)]
pub(crate) struct Set<'a> {
    pub name: &'a str,
    /// nft's type ids of the key's fields, the first highest, six bits each; the kernel only keeps it for `nft list`.
    pub key_type: u32,
    pub key_bytes: u32,
    /// Values are chains.
    pub map: bool,
    /// Elements come from packets and leave after this long: seconds and how many.
    pub dynamic: Option<(u32, u32)>,
}

/// nft's ids (`enum datatypes`) of the fields keys are made of.
pub(crate) const TYPE_ADDRESS: u32 = 7;
pub(crate) const TYPE_PROTOCOL: u32 = 12;
pub(crate) const TYPE_PORT: u32 = 13;

/// Changes to one table that the kernel makes all or none of.
#[derive(Debug)]
pub(crate) struct Batch {
    table: String,
    messages: Vec<(u16, u16, Attributes)>,
}

impl Batch {
    pub(crate) fn new(table: &str) -> Self {
        Self { table: table.to_owned(), messages: Vec::new() }
    }
    fn message(&mut self, kind: u16, flags: u16, write: impl FnOnce(&mut Attributes)) {
        let mut attributes = Attributes::default();
        attributes.text(1, &self.table);
        write(&mut attributes);
        self.messages.push((NFTABLES | kind, flags, attributes));
    }
    pub(crate) fn add_table(&mut self) {
        self.message(0, CREATE, |_| {});
    }
    pub(crate) fn delete_table(&mut self) {
        self.message(2, 0, |_| {});
    }
    pub(crate) fn add_chain(&mut self, name: &str, hook: Option<Hook>) {
        self.message(3, CREATE | EXCL, |a| {
            a.text(3, name);
            if let Some(hook) = hook {
                a.nest(4, |h| {
                    h.number(1, hook.number).bytes(2, &hook.priority.to_be_bytes());
                });
                a.number(5, ACCEPT as u32).text(7, hook.kind);
            }
        });
    }
    pub(crate) fn delete_chain(&mut self, name: &str) {
        self.message(5, 0, |a| {
            a.text(3, name);
        });
    }
    pub(crate) fn add_rule(&mut self, chain: &str, rule: Rule) {
        self.message(6, CREATE | APPEND, |a| {
            a.text(2, chain).bytes(4 | NESTED, &rule.0.0);
        });
    }
    pub(crate) fn flush_chain(&mut self, chain: &str) {
        self.message(8, 0, |a| {
            a.text(2, chain);
        });
    }
    pub(crate) fn add_set(&mut self, set: &Set<'_>) {
        let id = u32::try_from(self.messages.len()).unwrap_or(0) + 1;
        self.message(9, CREATE | EXCL, |a| {
            let flags = if set.map { 0x8 } else { 0 } | if set.dynamic.is_some() { 0x30 } else { 0 };
            a.text(2, set.name).number(3, flags).number(4, set.key_type).number(5, set.key_bytes);
            if set.map {
                a.number(6, DATA_VERDICT);
            }
            if let Some((seconds, size)) = set.dynamic {
                a.nest(9, |d| {
                    d.number(1, size);
                });
                a.bytes(11, &(u64::from(seconds) * 1000).to_be_bytes());
            }
            a.number(10, id);
        });
    }
    pub(crate) fn delete_set(&mut self, name: &str) {
        self.message(11, 0, |a| {
            a.text(2, name);
        });
    }
    /// Keys, each with the chain it leads to if the set is a map.
    pub(crate) fn add_elements<'a>(&mut self, set: &str, elements: impl IntoIterator<Item = (Vec<u8>, Option<&'a str>)>) {
        self.elements(12, CREATE, set, elements);
    }
    pub(crate) fn delete_elements(&mut self, set: &str, keys: impl IntoIterator<Item = Vec<u8>>) {
        self.elements(14, 0, set, keys.into_iter().map(|key| (key, None)));
    }
    fn elements<'a>(&mut self, kind: u16, flags: u16, set: &str, elements: impl IntoIterator<Item = (Vec<u8>, Option<&'a str>)>) {
        let mut elements = elements.into_iter().peekable();
        // A nest holds less than 64 KiB.
        while elements.peek().is_some() {
            let some: Vec<_> = elements.by_ref().take(200).collect();
            self.message(kind, flags, |a| {
                a.text(2, set).nest(3, |list| {
                    for (key, chain) in some {
                        list.nest(1, |e| {
                            e.value(1, &key);
                            if let Some(chain) = chain {
                                e.verdict(2, GOTO, Some(chain));
                            }
                        });
                    }
                });
            });
        }
    }
    /// How many rules it adds.
    pub(crate) fn rules(&self) -> usize {
        self.messages.iter().filter(|(kind, ..)| *kind == NFTABLES | 6).count()
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

/// A socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Netfilter {
    socket: Socket,
    sequence: u32,
}

/// A message of a dump: its family and attributes.
#[derive(Debug)]
pub(crate) struct Found {
    pub family: u8,
    pub attributes: Vec<u8>,
}

impl Netfilter {
    pub(crate) fn open() -> Result<Self, Error> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        Ok(Self { socket: open().map_err(|e| Error::kernel("open netfilter netlink", e))?, sequence: 0 })
    }

    /// All or nothing. The kernel has answered by the time the send returns.
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        let doing = || format!("change the nftables table {}", batch.table);
        if batch.is_empty() {
            return Ok(());
        }
        let mut datagram = Vec::with_capacity(batch.messages.len() * 256);
        let first = self.append(&mut datagram, BATCH_BEGIN, REQUEST, 0, 10, &[]);
        let count = batch.messages.len();
        let mut last = first;
        for (n, (kind, flags, attributes)) in batch.messages.iter().enumerate() {
            let ack = if n + 1 == count { ACK } else { 0 };
            last = self.append(&mut datagram, *kind, REQUEST | flags | ack, IPV4, 0, &attributes.0);
        }
        self.append(&mut datagram, BATCH_END, REQUEST, 0, 10, &[]);
        self.socket.send(&datagram, 0).map_err(|e| Error::kernel(doing(), e))?;
        let mut acknowledged = false;
        let mut failed = None;
        loop {
            let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
            match self.socket.recv(&mut buffer, libc::MSG_DONTWAIT) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(Error::kernel(doing(), e)),
            }
            for (kind, sequence, body) in messages(&buffer) {
                if kind != ERROR || sequence.wrapping_sub(first) > last.wrapping_sub(first) {
                    continue;
                }
                match code(body) {
                    0 => acknowledged |= sequence == last,
                    code if failed.is_none() => failed = Some((code, sequence.wrapping_sub(first))),
                    _ => {}
                }
            }
        }
        match failed {
            Some((code, at)) => Err(Error::kernel(format!("{} (message {at} of {count})", doing()), io::Error::from_raw_os_error(code))),
            None if acknowledged => Ok(()),
            None => Err(Error::kernel(doing(), "the kernel did not answer")),
        }
    }

    /// Everything of a kind; `subsystem << 8 | message`.
    pub(crate) fn dump(&mut self, kind: u16, family: u8, attributes: &Attributes) -> Result<Vec<Found>, Error> {
        let fail = |e: io::Error| Error::kernel("list netfilter objects", e);
        let mut datagram = Vec::new();
        let asked = self.append(&mut datagram, kind, REQUEST | DUMP, family, 0, &attributes.0);
        self.socket.send(&datagram, 0).map_err(fail)?;
        let mut found = Vec::new();
        loop {
            let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
            self.socket.recv(&mut buffer, 0).map_err(fail)?;
            for (kind, sequence, body) in messages(&buffer) {
                if sequence != asked {
                    continue;
                }
                match kind {
                    DONE => return Ok(found),
                    ERROR => match code(body) {
                        0 => return Ok(found),
                        code => return Err(fail(io::Error::from_raw_os_error(code))),
                    },
                    _ if body.len() >= 4 => found.push(Found { family: body[0], attributes: body[4..].to_vec() }),
                    _ => {}
                }
            }
        }
    }

    /// One request outside of batches; `ENOENT` is fine.
    pub(crate) fn request(&mut self, kind: u16, family: u8, attributes: &Attributes) -> Result<(), Error> {
        let fail = |e: io::Error| Error::kernel("change a netfilter object", e);
        let mut datagram = Vec::new();
        let asked = self.append(&mut datagram, kind, REQUEST | ACK, family, 0, &attributes.0);
        self.socket.send(&datagram, 0).map_err(fail)?;
        loop {
            let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
            self.socket.recv(&mut buffer, 0).map_err(fail)?;
            for (kind, sequence, body) in messages(&buffer) {
                if kind == ERROR && sequence == asked {
                    return match code(body) {
                        0 | libc::ENOENT => Ok(()),
                        code => Err(fail(io::Error::from_raw_os_error(code))),
                    };
                }
            }
        }
    }

    /// The kernel's count of transactions on the rules of this network namespace, whoever made them.
    pub(crate) fn generation(&mut self) -> Result<Option<u32>, Error> {
        let fail = |e: io::Error| Error::kernel("ask for the generation of the rules", e);
        let mut datagram = Vec::new();
        let asked = self.append(&mut datagram, NFTABLES | 16, REQUEST | ACK, 0, 0, &[]);
        self.socket.send(&datagram, 0).map_err(fail)?;
        let mut generation = None;
        loop {
            let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
            self.socket.recv(&mut buffer, 0).map_err(fail)?;
            for (kind, sequence, body) in messages(&buffer) {
                match kind {
                    ERROR if sequence == asked => {
                        return match code(body) {
                            0 => Ok(generation),
                            code => Err(fail(io::Error::from_raw_os_error(code))),
                        };
                    }
                    _ if body.len() >= 4 => generation = attribute(&body[4..], 1).and_then(as_number).or(generation),
                    _ => {}
                }
            }
        }
    }

    /// Names of the tables of family ip.
    pub(crate) fn tables(&mut self) -> Result<Vec<String>, Error> {
        let found = self.dump(NFTABLES | 1, IPV4, &Attributes::default())?;
        Ok(found.iter().filter_map(|f| attribute(&f.attributes, 1).map(as_text)).collect())
    }
    /// Every chain of every family.
    pub(crate) fn chains(&mut self) -> Result<Vec<Found>, Error> {
        self.dump(NFTABLES | 4, 0, &Attributes::default())
    }
    /// Rules of one table.
    pub(crate) fn rules(&mut self, family: u8, table: &str) -> Result<Vec<Found>, Error> {
        let mut attributes = Attributes::default();
        attributes.text(1, table);
        self.dump(NFTABLES | 7, family, &attributes)
    }

    fn append(&mut self, datagram: &mut Vec<u8>, kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER + attributes.len()).unwrap_or(u32::MAX);
        datagram.extend_from_slice(&length.to_ne_bytes());
        datagram.extend_from_slice(&kind.to_ne_bytes());
        datagram.extend_from_slice(&flags.to_ne_bytes());
        datagram.extend_from_slice(&self.sequence.to_ne_bytes());
        datagram.extend_from_slice(&[0; 4]);
        datagram.extend_from_slice(&[family, 0]);
        datagram.extend_from_slice(&resource.to_be_bytes());
        datagram.extend_from_slice(attributes);
        self.sequence
    }
}

/// Type, sequence and body of each message in a datagram.
fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header = rest.get(..16)?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let body = rest.get(16..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([header[4], header[5]]), u32::from_ne_bytes([header[8], header[9], header[10], header[11]]), body))
    })
}

/// errno of an NLMSG_ERROR, positive; 0 is an acknowledgement.
fn code(body: &[u8]) -> i32 {
    body.get(..4).map_or(libc::EIO, |b| -i32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
}

/// The first attribute of this type.
pub(crate) fn attribute(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = attributes;
    loop {
        let header = rest.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = rest.get(4..length)?;
        if u16::from_ne_bytes([header[2], header[3]]) & !(NESTED | 0x4000) == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

/// A NUL-terminated string.
pub(crate) fn as_text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

/// Four bytes in network order.
pub(crate) fn as_number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn attributes_are_padded_and_found_again() {
        let mut attributes = Attributes::default();
        attributes.text(1, "abc").number(2, 7).nest(3, |a| {
            a.bytes(1, &[9]);
        });
        assert_eq!(attributes.0.len(), 8 + 8 + 12);
        assert_eq!(attribute(&attributes.0, 1).map(as_text).as_deref(), Some("abc"));
        assert_eq!(attribute(&attributes.0, 2).and_then(as_number), Some(7));
        assert_eq!(attribute(&attributes.0, 3).and_then(|n| attribute(n, 1)), Some(&[9][..]));
        assert_eq!(attribute(&attributes.0, 4), None);
        assert_eq!(attribute(&[200, 0, 1, 0, 5], 1), None);
    }
}
