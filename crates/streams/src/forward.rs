//! Forwarded ports: pairs of streams, one for data and one for the error.

use crate::mux::{Connection, Reader, Stream, Table, Writer};
use crate::spdy::{self, Headers};
use crate::upgrade::{Protocols, Refused, negotiate, switch};
use crate::websocket::{self, Codec};
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::Instant;

/// Bytes read from a pod's connection at once.
const CHUNK_BYTES: usize = 32 * 1024;
/// How long the second stream of a pair may take; upstream's figure.
const PAIR_TIMEOUT: Duration = Duration::from_secs(30);
/// Ports in one request over WebSocket channels: a channel is named by a byte, and a port has two.
const PORTS_LIMIT: usize = 120;

/// One connected client of a port-forward.
#[derive(Debug)]
pub struct Forwards {
    ready: VecDeque<Forward>,
    opened: Option<spdy::Opened>,
    pairs: HashMap<String, (Instant, Half)>,
    connection: Connection,
}

/// One connection to be made to a port of the pod.
#[derive(Debug)]
pub struct Forward {
    /// Of the pod.
    pub port: u16,
    reader: Reader,
    writer: Writer,
    error: Writer,
    /// The client can say that it has finished.
    half_close: bool,
}

/// The stream of a pair that came first.
#[derive(Debug)]
enum Half {
    Data(Stream<Headers>),
    Error(Stream<Headers>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    /// SPDY frames in a WebSocket's messages.
    Tunnel,
    Channels(Codec),
    Spdy,
}

const fn channels(base64: bool) -> Transport {
    Transport::Channels(Codec { base64, half_close: false })
}

const PROTOCOLS: Protocols<Transport> = Protocols {
    websocket: &[
        ("SPDY/3.1+portforward.k8s.io", Transport::Tunnel),
        ("v4.channel.k8s.io", channels(false)),
        ("v4.base64.channel.k8s.io", channels(true)),
        ("", channels(false)),
    ],
    spdy: &[("portforward.k8s.io", Transport::Spdy)],
};

/// Reads the ports of a request over WebSocket channels: `["80", "81,82"]`.
fn ports<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Vec<u16>, Refused> {
    let mut ports = Vec::new();
    for text in values.into_iter().flat_map(|value| value.split(',')) {
        match text.trim().parse() {
            Ok(0) => return Err(Refused::bad(format!("port {text:?} must be > 0"))),
            Ok(port) => ports.push(port),
            Err(_) => return Err(Refused::bad(format!("unable to parse {text:?} as a port"))),
        }
    }
    match ports.len() {
        0 => Err(Refused::bad("query parameter \"ports\" is required")),
        1..=PORTS_LIMIT => Ok(ports),
        _ => Err(Refused::bad(format!("at most {PORTS_LIMIT} ports can be forwarded at once"))),
    }
}

/// Answers an upgrade request of a port-forward with 101 and calls `serve` once the connection is upgraded. `asked` are the values of the query
/// parameter `ports`, which only the WebSocket channels need: the other protocols name the port of each connection as it comes.
pub fn accept_forwards<'a, B, F, Fut>(request: Request<B>, asked: impl IntoIterator<Item = &'a str>, serve: F) -> Response<String>
where
    F: FnOnce(Forwards) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let agreed = match negotiate(request.headers(), &PROTOCOLS) {
        Ok(agreed) => agreed,
        Err(refused) => return refused.into_response(),
    };
    let ports = match agreed.means {
        Transport::Channels(_) => match ports(asked) {
            Ok(ports) => ports,
            Err(refused) => return refused.into_response(),
        },
        _ => Vec::new(),
    };
    switch(request, agreed, move |io, transport| async move {
        let forwards = match transport {
            Transport::Spdy => Forwards::over_spdy(spdy::plain(io)),
            Transport::Tunnel => Forwards::over_spdy(spdy::tunnel(websocket::socket(io).await)),
            Transport::Channels(codec) => Forwards::over_channels(io, codec, &ports).await,
        };
        serve(forwards).await;
    })
}

fn port(headers: &Headers) -> Option<u16> {
    headers.get("port")?.parse().ok().filter(|port| *port > 0)
}

fn is_data(headers: &Headers) -> Option<bool> {
    match headers.get("streamtype")? {
        "data" => Some(true),
        "error" => Some(false),
        _ => None,
    }
}

/// What the two streams of a pair have in common. Clients that send no request ids open the error stream first and the data stream next.
fn request_id(stream: &Stream<Headers>, data: bool) -> String {
    match stream.headers.get("requestid") {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ => format!("stream {}", if data { stream.id.saturating_sub(2) } else { stream.id }),
    }
}

impl Forwards {
    fn over_spdy(io: (spdy::Source, spdy::Target)) -> Self {
        let (connection, opened) = spdy::serve(io, |headers| port(headers).is_some() && is_data(headers).is_some());
        Self { ready: VecDeque::new(), opened: Some(opened), pairs: HashMap::new(), connection }
    }

    /// Data on the even channels, errors on the odd ones; each begins with its port, two bytes, the lower first.
    async fn over_channels(io: TokioIo<Upgraded>, codec: Codec, ports: &[u16]) -> Self {
        let (table, outgoing) = Table::new();
        let pairs: Vec<_> = (0u32..).zip(ports).map(|(at, port)| (*port, table.open(2 * at, false), table.open(2 * at + 1, true).1)).collect();
        let connection = websocket::serve(websocket::socket(io).await, codec, table, outgoing);
        let mut ready = VecDeque::new();
        for (port, (reader, writer), error) in pairs {
            let name = Bytes::copy_from_slice(&port.to_le_bytes());
            // A client that is gone already is found out by whoever asks for the next forward.
            let _ = writer.write(name.clone()).await;
            let _ = error.write(name).await;
            ready.push_back(Forward { port, reader, writer, error, half_close: false });
        }
        Self { ready, opened: None, pairs: HashMap::new(), connection }
    }

    /// Whether there will be no more than those that were asked for at first: then the client waits for the connection to be closed when all
    /// have ended.
    pub fn is_fixed(&self) -> bool {
        self.opened.is_none()
    }

    /// The next connection to make; `None`: the client is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Forward> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            let Some(opened) = &mut self.opened else {
                self.connection.table.gone().cancelled().await;
                return None;
            };
            // Two pairs of the same age differ in nothing that matters here.
            let oldest = self.pairs.values().map(|(since, _)| *since).min();
            tokio::select! {
                stream = opened.recv() => self.pair(stream?),
                () = tokio::time::sleep_until(oldest.unwrap_or_else(Instant::now) + PAIR_TIMEOUT), if oldest.is_some() => {
                    self.pairs.retain(|_, (since, _)| since.elapsed() < PAIR_TIMEOUT);
                }
            }
        }
    }

    fn pair(&mut self, stream: Stream<Headers>) {
        let (Some(port), Some(data)) = (port(&stream.headers), is_data(&stream.headers)) else { return };
        let id = request_id(&stream, data);
        let (data, error) = match (self.pairs.remove(&id), data) {
            (Some((_, Half::Error(error))), true) => (stream, error),
            (Some((_, Half::Data(data))), false) => (data, stream),
            // A second one of the same type: the first is dropped, and so reset.
            (_, true) => return drop(self.pairs.insert(id, (Instant::now(), Half::Data(stream)))),
            (_, false) => return drop(self.pairs.insert(id, (Instant::now(), Half::Error(stream)))),
        };
        self.ready.push_back(Forward { port, reader: data.reader, writer: data.writer, error: error.writer, half_close: true });
    }

    /// Ends the connection once all is written.
    pub async fn close(self) {
        let Self { ready, pairs, connection, .. } = self;
        drop((ready, pairs));
        connection.close().await;
    }
}

impl Forward {
    /// Ends it with words for the user.
    pub async fn fail(self, message: String) {
        // Where these cannot be sent there is nobody to read them.
        let _ = self.error.write(message.into()).await;
        let _ = self.error.finish().await;
        let _ = self.writer.finish().await;
    }

    /// Resolves when the client has given it up.
    pub async fn given_up(&self) {
        self.reader.given_up().cancelled_owned().await;
    }

    /// Joins it to a connection until both sides have finished, or the client has given up. Either side may finish first and still be sent to.
    pub async fn join(self, socket: TcpStream) {
        let Self { mut reader, writer, error, half_close, .. } = self;
        let given_up = reader.given_up();
        let (mut from_pod, mut to_pod) = socket.into_split();
        let up = async {
            while let Some(data) = reader.next().await {
                // The pod no longer reads. What the client goes on sending is dropped with the reader.
                if to_pod.write_all(&data).await.is_err() {
                    break;
                }
            }
            drop(reader);
            // An error: it is closed already.
            let _ = to_pod.shutdown().await;
        };
        let mut up = std::pin::pin!(up);
        let down = async {
            if pass(&mut from_pod, &writer).await.is_ok() {
                let _ = writer.finish().await;
            }
            // Clients before 1.28 close their side only when the error stream ends, so it must not wait for them.
            let _ = error.finish().await;
        };
        let both = async {
            let mut up_open = true;
            let mut down = std::pin::pin!(down);
            loop {
                tokio::select! {
                    () = &mut up, if up_open => up_open = false,
                    () = &mut down => break up_open,
                }
            }
        };
        tokio::select! {
            open = both => {
                // One who cannot say that it has finished would be waited for without end.
                if open && half_close {
                    tokio::select! { () = up => {} () = given_up.cancelled() => {} }
                }
            }
            () = given_up.cancelled() => {}
        }
    }
}

/// Until the pod finishes, or one side is gone. A connection that waits has no buffer.
async fn pass(from: &mut OwnedReadHalf, to: &Writer) -> io::Result<()> {
    loop {
        from.readable().await?;
        let mut buffer = BytesMut::with_capacity(CHUNK_BYTES);
        match from.try_read_buf(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => to.write(buffer.freeze()).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_one_by_one_or_in_a_list() {
        let check = |values: &[&str]| ports(values.iter().copied()).map_err(|refused| format!("{refused:?}"));
        assert_eq!(check(&["80", "81,5432"]), Ok(vec![80, 81, 5432]));
        for (values, words) in [
            (&[][..], "\\\"ports\\\" is required"),
            (&["0"], "must be > 0"),
            (&["http"], "unable to parse"),
            (&["65536"], "unable to parse"),
            (&["80,"], "unable to parse"),
        ] {
            let error = check(values).unwrap_err();
            assert!(error.contains(words), "{values:?}: {error}");
        }
        assert!(check(&vec!["80"; 121]).unwrap_err().contains("at most 120"));
    }
}
