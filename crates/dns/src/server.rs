//! Sockets: UDP and TCP, how large an answer may be, and what a packet that makes no sense gets.

use crate::answer::{Answer, answer, soa};
use crate::upstream::Upstreams;
use crate::zone::SharedZone;
use crate::{Config, random};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record, RecordType};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

/// Questions on their way to upstream servers; one more is answered SERVFAIL at once.
const FORWARDED_LIMIT: usize = 1000;
/// TCP connections; one more waits in the kernel's queue.
const CONNECTIONS_LIMIT: usize = 128;
/// A TCP connection may be silent for this long (RFC 7766, 6.2.3).
const IDLE: Duration = Duration::from_secs(10);
/// Without EDNS (RFC 1035), and the most we send however much is offered: fragments get lost (DNS flag day 2020).
const SMALLEST_PAYLOAD: u16 = 512;
const LARGEST_PAYLOAD: u16 = 1232;

/// Bound, not yet serving.
pub(crate) struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    zone: SharedZone,
    upstreams: Upstreams,
    forwarded: Arc<Semaphore>,
}

/// What to do with a packet.
enum Verdict {
    /// Send this.
    Reply(Message),
    /// Ask upstream; the records go before what comes back.
    Forward { request: Message, query: Query, before: Vec<Record> },
    /// Say nothing: not a question.
    Ignore,
}

impl Server {
    /// Binds UDP and TCP at `config.listen`.
    pub(crate) async fn bind(config: &Config, zone: SharedZone) -> io::Result<Self> {
        let within = |what: &str| {
            let what = format!("DNS: listen on {} {what}", config.listen);
            move |e: io::Error| io::Error::new(e.kind(), format!("{what}: {e}"))
        };
        let udp = UdpSocket::bind(config.listen).await.map_err(within("UDP"))?;
        // Port 0, in tests: the same for both.
        let listen = SocketAddr::new(config.listen.ip(), udp.local_addr()?.port());
        let tcp = TcpListener::bind(listen).await.map_err(within("TCP"))?;
        let upstreams = Upstreams::new(config.upstreams.clone(), config.listen);
        let shared = Arc::new(Shared { zone, upstreams, forwarded: Arc::new(Semaphore::new(FORWARDED_LIMIT)) });
        Ok(Self { udp, tcp, shared })
    }

    #[cfg(test)]
    pub(crate) fn address(&self) -> SocketAddr {
        self.udp.local_addr().expect("a bound socket has an address")
    }

    /// Until dropped.
    pub(crate) async fn serve(self) -> io::Result<()> {
        let udp = Arc::new(self.udp);
        tokio::select! {
            () = serve_udp(udp, self.shared.clone()) => Ok(()),
            () = serve_tcp(self.tcp, self.shared) => Ok(()),
        }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut packet = [0; 4096];
    loop {
        let (length, from) = match socket.recv_from(&mut packet).await {
            Ok(received) => received,
            Err(error) => {
                // ICMP errors of earlier answers arrive here too.
                tracing::debug!(%error, "DNS: receive");
                continue;
            }
        };
        match guarded(&shared, &packet[..length]) {
            Verdict::Ignore => {}
            Verdict::Reply(reply) => send_udp(&socket, &reply, from),
            Verdict::Forward { request, query, before } => match shared.forwarded.clone().try_acquire_owned() {
                Err(_) => send_udp(&socket, &refusal(&request, ResponseCode::ServFail), from),
                Ok(permit) => {
                    let (socket, shared) = (socket.clone(), shared.clone());
                    tokio::spawn(async move {
                        let reply = forward(&shared, &request, query, before, false).await;
                        send_udp(&socket, &reply, from);
                        drop(permit);
                    });
                }
            },
        }
    }
}

fn send_udp(socket: &UdpSocket, reply: &Message, to: SocketAddr) {
    let Some(bytes) = encode(reply, usize::from(payload(reply.edns.as_ref()))) else { return };
    // A full send buffer drops the answer, as a full network would: the client asks again.
    if let Err(error) = socket.try_send_to(&bytes, to) {
        tracing::debug!(%error, %to, "DNS: send");
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve_connection(stream, &shared).await {
                        tracing::debug!(%error, "DNS: connection");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "DNS: accept");
                // Out of descriptors, most likely: they come back as connections end.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve_connection(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut packet = Vec::new();
    loop {
        let length = match tokio::time::timeout(IDLE, stream.read_u16()).await {
            Ok(Ok(length)) => usize::from(length),
            Ok(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(e)) => return Err(e),
            Err(_) => return Ok(()),
        };
        packet.resize(length, 0);
        tokio::time::timeout(IDLE, stream.read_exact(&mut packet)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let reply = match guarded(shared, &packet) {
            Verdict::Ignore => return Ok(()),
            Verdict::Reply(reply) => reply,
            Verdict::Forward { request, query, before } => match shared.forwarded.try_acquire() {
                Err(_) => refusal(&request, ResponseCode::ServFail),
                Ok(_permit) => forward(shared, &request, query, before, true).await,
            },
        };
        let Some(bytes) = encode(&reply, usize::from(u16::MAX)) else { return Ok(()) };
        let mut framed = Vec::with_capacity(bytes.len() + 2);
        framed.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
        framed.extend_from_slice(&bytes);
        tokio::time::timeout(IDLE, stream.write_all(&framed)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    }
}

/// One packet must not end the server, whatever the decoder makes of it.
fn guarded(shared: &Shared, packet: &[u8]) -> Verdict {
    let handled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handle(&shared.zone, packet)));
    handled.unwrap_or_else(|_| {
        tracing::error!(bytes = packet.len(), "DNS: a packet made the server panic; it is dropped");
        Verdict::Ignore
    })
}

fn handle(zone: &SharedZone, packet: &[u8]) -> Verdict {
    let Ok(request) = Message::from_vec(packet) else { return malformed(packet) };
    if request.metadata.message_type != MessageType::Query {
        return Verdict::Ignore;
    }
    if request.metadata.op_code != OpCode::Query {
        return Verdict::Reply(refusal(&request, ResponseCode::NotImp));
    }
    if request.version() > 0 {
        return Verdict::Reply(refusal(&request, ResponseCode::BADVERS));
    }
    let [query] = &request.queries[..] else { return Verdict::Reply(refusal(&request, ResponseCode::FormErr)) };
    if query.query_class() != DNSClass::IN {
        return Verdict::Reply(refusal(&request, ResponseCode::Refused));
    }
    let query = query.clone();
    if matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) {
        return Verdict::Reply(refusal(&request, ResponseCode::Refused));
    }
    let zone = zone.read();
    let (mut records, more) = match answer(&zone, query.name(), query.query_type()) {
        Answer::Elsewhere => return Verdict::Forward { query, request, before: Vec::new() },
        Answer::Alias(before, target) => {
            let mut onward = query;
            onward.set_name(target);
            return Verdict::Forward { request, query: onward, before };
        }
        Answer::Records(records, more) => (records, more),
        nothing => {
            let mut reply = refusal(&request, if nothing == Answer::NoName { ResponseCode::NXDomain } else { ResponseCode::NoError });
            reply.metadata.authoritative = true;
            reply.add_authorities(soa(&zone));
            return Verdict::Reply(reply);
        }
    };
    drop(zone);
    let aliases = records.iter().take_while(|r| r.record_type() == RecordType::CNAME).count();
    random::shuffle(&mut records[aliases..]);
    let mut reply = refusal(&request, ResponseCode::NoError);
    reply.metadata.authoritative = true;
    reply.answers = records;
    reply.additionals = more;
    Verdict::Reply(reply)
}

/// A header that can be read gets FORMERR; less than one, or an answer, gets nothing.
fn malformed(packet: &[u8]) -> Verdict {
    let [high, low, flags, ..] = packet else { return Verdict::Ignore };
    if packet.len() < 12 || flags & 0x80 != 0 {
        return Verdict::Ignore;
    }
    Verdict::Reply(Message::error_msg(u16::from_be_bytes([*high, *low]), OpCode::Query, ResponseCode::FormErr))
}

/// An answer without records.
fn refusal(request: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::error_msg(request.metadata.id, request.metadata.op_code, code);
    reply.metadata.recursion_desired = request.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.checking_disabled = request.metadata.checking_disabled;
    reply.queries = request.queries.clone();
    if let Some(asked) = &request.edns {
        // In a reply of ours this carries what the client takes, until it is encoded.
        let mut edns = Edns::new();
        edns.set_max_payload(asked.max_payload());
        edns.set_rcode_high((u16::from(code) >> 4) as u8);
        reply.set_edns(edns);
    }
    reply
}

async fn forward(shared: &Shared, request: &Message, query: Query, before: Vec<Record>, tcp: bool) -> Message {
    let mut reply = refusal(request, ResponseCode::NoError);
    match shared.upstreams.ask(&query, request.metadata.recursion_desired, tcp).await {
        Some(found) => {
            reply.metadata.response_code = found.metadata.response_code;
            reply.metadata.truncation = found.metadata.truncation;
            reply.answers = before;
            reply.answers.extend(found.answers);
            reply.authorities = found.authorities;
            reply.additionals = found.additionals;
        }
        // The alias itself is known.
        None if !before.is_empty() => reply.answers = before,
        None => reply.metadata.response_code = ResponseCode::ServFail,
    }
    reply
}

fn payload(edns: Option<&Edns>) -> u16 {
    edns.map_or(SMALLEST_PAYLOAD, |e| e.max_payload().clamp(SMALLEST_PAYLOAD, LARGEST_PAYLOAD))
}

/// At most `limit` bytes: first what only helps is left out, then answers, with the truncation bit (RFC 2181, 9).
fn encode(reply: &Message, limit: usize) -> Option<Vec<u8>> {
    let mut reply = reply.clone();
    if let Some(edns) = &mut reply.edns {
        edns.set_max_payload(LARGEST_PAYLOAD);
    }
    loop {
        let bytes = reply.to_vec().inspect_err(|error| tracing::warn!(%error, "DNS: encode")).ok()?;
        if bytes.len() <= limit {
            return Some(bytes);
        }
        if !reply.additionals.is_empty() {
            reply.additionals.clear();
            continue;
        }
        reply.metadata.truncation = true;
        if reply.answers.is_empty() {
            reply.authorities.clear();
            return reply.to_vec().ok().filter(|b| b.len() <= limit);
        }
        reply.answers.truncate(reply.answers.len() / 2);
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
