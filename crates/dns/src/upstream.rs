//! Everything that is not the cluster's: asked of the host's own resolvers.

use crate::random;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// A server may take this long before the next is asked.
const PATIENCE: Duration = if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(2) };
/// Failures in a row after which a server counts as gone: one lost packet must not silence it.
const FAILURES: u32 = 2;
/// A server that is gone is tried again by one question this often; the others fail at once, as on a laptop without a network they should.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Servers asked, in their order: more would outlast the client's own patience (5 s in glibc).
const SERVERS_LIMIT: usize = 2;
/// The host's file is looked at again after this long, if a question comes.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const OUR_PAYLOAD: u16 = 1232;

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The real servers, where `/etc/resolv.conf` names systemd-resolved's own stub.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// Who is asked.
pub(crate) struct Upstreams {
    fixed: Vec<SocketAddr>,
    ourselves: SocketAddr,
    read: Mutex<Read>,
    health: Mutex<HashMap<SocketAddr, Health>>,
}

struct Health {
    failures: u32,
    again: Instant,
}

#[derive(Default)]
struct Read {
    looked: Option<Instant>,
    changed: [Option<SystemTime>; 2],
    servers: Vec<SocketAddr>,
}

impl Upstreams {
    pub(crate) fn new(fixed: Vec<SocketAddr>, ourselves: SocketAddr) -> Self {
        Self { fixed, ourselves, read: Mutex::default(), health: Mutex::default() }
    }

    /// The answer of the first server that gives one; `None` if none does, at once if there are none.
    pub(crate) async fn ask(&self, query: &Query, recursion: bool, tcp: bool) -> Option<Message> {
        for server in self.servers() {
            if !self.may_ask(server) {
                continue;
            }
            let asked = tokio::time::timeout(PATIENCE, ask(server, query, recursion, tcp)).await;
            match asked {
                Ok(Ok(answer)) => {
                    self.health.lock().remove(&server);
                    return Some(answer);
                }
                Ok(Err(error)) => tracing::debug!(%server, %error, "DNS: upstream"),
                Err(_) => tracing::debug!(%server, "DNS: upstream does not answer"),
            }
            let mut health = self.health.lock();
            let one = health.entry(server).or_insert(Health { failures: 0, again: Instant::now() });
            one.failures = one.failures.saturating_add(1);
            one.again = Instant::now() + TRY_AGAIN;
        }
        None
    }

    fn may_ask(&self, server: SocketAddr) -> bool {
        let mut health = self.health.lock();
        let Some(one) = health.get_mut(&server).filter(|h| h.failures >= FAILURES) else { return true };
        let now = Instant::now();
        if now < one.again {
            return false;
        }
        one.again = now + PATIENCE.max(TRY_AGAIN);
        true
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let mut servers = if self.fixed.is_empty() { self.of_the_host() } else { self.fixed.clone() };
        servers.retain(|s| *s != self.ourselves);
        servers.truncate(SERVERS_LIMIT);
        servers
    }

    fn of_the_host(&self) -> Vec<SocketAddr> {
        let mut read = self.read.lock();
        if read.looked.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return read.servers.clone();
        }
        read.looked = Some(Instant::now());
        let changed = [modified(RESOLV_CONF), modified(RESOLVED)];
        if read.servers.is_empty() || read.changed != changed {
            // Another network: what was silent before may not be now. Forgetting it also bounds the map.
            self.health.lock().clear();
            read.changed = changed;
            read.servers = servers_of_host(|path| std::fs::read_to_string(path).ok());
        }
        read.servers.clone()
    }
}

fn modified(path: &str) -> Option<SystemTime> {
    Path::new(path).metadata().and_then(|m| m.modified()).ok()
}

fn servers_of_host(read: impl Fn(&str) -> Option<String>) -> Vec<SocketAddr> {
    let listed = parse(&read(RESOLV_CONF).unwrap_or_default());
    let stub = |a: &SocketAddr| matches!(a.ip(), IpAddr::V4(v4) if v4.octets()[..3] == [127, 0, 0] && [53, 54].contains(&v4.octets()[3]));
    if listed.iter().any(stub)
        && let Some(real) = read(RESOLVED).map(|text| parse(&text)).filter(|servers| !servers.is_empty())
    {
        return real;
    }
    listed
}

/// `nameserver` lines of resolv.conf(5). An IPv6 scope cannot be carried over and such a line is left out.
fn parse(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() == Some("nameserver")
            && let Some(address) = words.next().and_then(|w| w.parse::<IpAddr>().ok())
        {
            servers.push(SocketAddr::new(address, 53));
        }
    }
    servers
}

async fn ask(server: SocketAddr, query: &Query, recursion: bool, tcp: bool) -> io::Result<Message> {
    let mut message = Message::new(random::number() as u16, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = recursion;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(OUR_PAYLOAD);
    message.set_edns(edns);
    let bytes = message.to_vec().map_err(io::Error::other)?;
    if tcp { ask_tcp(server, &message, &bytes).await } else { ask_udp(server, &message, &bytes).await }
}

/// From a port of its own each time; whatever is not the answer to this very question is not heard (RFC 5452).
async fn ask_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut packet = [0; 4096];
    loop {
        let length = socket.recv(&mut packet).await?;
        if let Ok(answer) = Message::from_vec(&packet[..length])
            && answers(question, &answer)
        {
            return Ok(answer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = u16::try_from(bytes.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await?;
    let mut packet = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut packet).await?;
    let answer = Message::from_vec(&packet).map_err(io::Error::other)?;
    if answers(question, &answer) { Ok(answer) } else { Err(io::Error::other("an answer to another question")) }
}

fn answers(question: &Message, answer: &Message) -> bool {
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries.len() == 1
        && answer.queries.iter().zip(&question.queries).all(|(a, q)| {
            a.name() == q.name() && a.query_type() == q.query_type() && a.query_class() == q.query_class()
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(etc: &str, resolved: Option<&str>, expected: &str) {
        let read = |path: &str| if path == RESOLV_CONF { Some(etc.to_owned()) } else { resolved.map(str::to_owned) };
        let servers: Vec<String> = servers_of_host(read).iter().map(|s| s.ip().to_string()).collect();
        assert_eq!(servers.join(" "), expected);
    }

    #[tokio::test]
    async fn a_server_that_stays_silent_is_soon_not_waited_for() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let upstreams = Upstreams::new(vec![silent.local_addr().unwrap()], ([127, 0, 0, 2], 53).into());
        let query = Query::query(crate::answer::name("example.org").unwrap(), hickory_proto::rr::RecordType::A);
        let mut took = Vec::new();
        for _ in 0..4 {
            let start = Instant::now();
            assert!(upstreams.ask(&query, true, false).await.is_none());
            took.push(start.elapsed() >= PATIENCE);
        }
        assert_eq!(took, [true, true, false, false]);
    }

    #[test]
    fn the_hosts_resolvers_are_read_behind_systemds_stub() {
        check("# no servers\noptions edns0", None, "");
        check("nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch example.org", None, "192.0.2.1 2001:db8::1");
        check("nameserver 127.0.0.53", Some("nameserver 192.0.2.7"), "192.0.2.7");
        check("nameserver 127.0.0.53", None, "127.0.0.53");
        check("nameserver 127.0.0.1", Some("nameserver 192.0.2.7"), "127.0.0.1");
        check("nameserver fe80::1%eth0\nnameserver nonsense", None, "");
    }
}
