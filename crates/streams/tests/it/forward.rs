//! Forwarded ports, over each transport.

use crate::channels::{frame, next, open_at};
use crate::client::{Client, Frame, upgrade};
use futures::{SinkExt, StreamExt};
use mainstay_streams::Forwards;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

/// To this machine's own ports; port 1 refuses.
pub(crate) async fn serve(mut forwards: Forwards) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            next = forwards.next() => {
                let Some(forward) = next else { return };
                connections.spawn(async move {
                    match TcpStream::connect(("127.0.0.1", forward.port)).await {
                        Ok(stream) => forward.join(stream).await,
                        Err(error) => forward.fail(format!("cannot connect: {error}")).await,
                    }
                });
            }
            Some(_) = connections.join_next() => if forwards.is_fixed() && connections.is_empty() {
                return forwards.close().await;
            },
        }
    }
}

/// A server that answers what it was sent, backwards, once its client has finished: it works only if each side may finish first.
async fn reverser() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut text = Vec::new();
                stream.read_to_end(&mut text).await.unwrap();
                text.reverse();
                stream.write_all(&text).await.unwrap();
            });
        }
    });
    port
}

/// A server that greets and hangs up at once.
async fn greeter() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"hello").await.unwrap();
        }
    });
    port
}

async fn spdy() -> Client<DuplexStream> {
    let (client, head) = upgrade("/portForward", &["portforward.k8s.io"]).await;
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("x-stream-protocol-version: portforward.k8s.io\r\n"), "{head}");
    client
}

/// Streams `id` (error, which the client finishes at once) and `id + 2` (data).
async fn pair<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(client: &mut Client<S>, id: u32, port: u16, request: &str) {
    let port = port.to_string();
    client.open_ok(id, &[("streamtype", "error"), ("port", &port), ("requestid", request)]).await;
    client.data(id, b"", true).await;
    client.open_ok(id + 2, &[("streamtype", "data"), ("port", &port), ("requestid", request)]).await;
}

#[tokio::test]
async fn each_side_may_finish_first() {
    let (reverser, greeter) = (reverser().await, greeter().await);
    let mut client = spdy().await;
    pair(&mut client, 1, reverser, "0").await;
    client.data(3, b"abc", false).await;
    client.data(3, b"def", true).await;
    assert_eq!(client.next().await, Some(Frame::Data(3, b"fedcba".to_vec(), false)));
    assert_eq!(client.next().await, Some(Frame::Data(3, vec![], true)));
    assert_eq!(client.next().await, Some(Frame::Data(1, vec![], true)), "no error");
    // The pod first: both streams end though the client has said nothing, for old clients wait for that.
    pair(&mut client, 5, greeter, "1").await;
    assert_eq!(client.next().await, Some(Frame::Data(7, b"hello".to_vec(), false)));
    assert_eq!(client.next().await, Some(Frame::Data(7, vec![], true)));
    assert_eq!(client.next().await, Some(Frame::Data(5, vec![], true)));
}

#[tokio::test]
async fn a_refused_connection_is_an_error_of_its_own_and_others_go_on() {
    let port = reverser().await;
    let mut client = spdy().await;
    // No request ids, as the oldest clients.
    pair(&mut client, 1, 1, "").await;
    let Some(Frame::Data(1, words, false)) = client.next().await else { panic!("no error") };
    assert!(String::from_utf8(words).unwrap().starts_with("cannot connect: "));
    assert_eq!(client.next().await, Some(Frame::Data(1, vec![], true)));
    assert_eq!(client.next().await, Some(Frame::Data(3, vec![], true)));
    pair(&mut client, 5, port, "").await;
    client.data(7, b"ab", true).await;
    assert_eq!(client.next().await, Some(Frame::Data(7, b"ba".to_vec(), false)));
    for (id, headers) in [(11, &[("streamtype", "data")][..]), (13, &[("streamtype", "data"), ("port", "0")]), (15, &[("streamtype", "x"), ("port", "1")])] {
        client.open(id, headers).await;
        while let Some(frame) = client.next().await {
            if frame == Frame::Reset(id, 3) {
                break;
            }
            assert!(matches!(frame, Frame::Data(5 | 7, _, true)), "{frame:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_the_client_resets_ends_the_pods_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = spdy().await;
    pair(&mut client, 1, listener.local_addr().unwrap().port(), "0").await;
    let (mut stream, _) = listener.accept().await.unwrap();
    client.data(3, b"hello", false).await;
    let mut text = [0; 5];
    stream.read_exact(&mut text).await.unwrap();
    client.send(&crate::client::control(3, 0, &[0, 0, 0, 3, 0, 0, 0, 5])).await;
    assert_eq!(stream.read(&mut text).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn many_connections_share_one_client() {
    let port = reverser().await;
    let mut client = spdy().await;
    for request in 0..200u32 {
        pair(&mut client, 4 * request + 1, port, &request.to_string()).await;
    }
    for request in (0..200u32).rev() {
        client.data(4 * request + 3, format!("request {request}").as_bytes(), true).await;
    }
    let mut answers = std::collections::BTreeMap::new();
    while answers.len() < 200 {
        if let Frame::Data(id, data, false) = client.next().await.unwrap() {
            answers.insert((id - 3) / 4, data);
        }
    }
    for (request, answer) in answers {
        let reversed: String = String::from_utf8(answer).unwrap().chars().rev().collect();
        assert_eq!(reversed, format!("request {request}"));
    }
}

#[tokio::test]
async fn spdy_may_come_in_the_messages_of_a_websocket() {
    let port = reverser().await;
    let (socket, response) = open_at("/portForward", "SPDY/3.1+portforward.k8s.io").await;
    assert_eq!(response.headers()["sec-websocket-protocol"], "SPDY/3.1+portforward.k8s.io");
    let (near, far) = tokio::io::duplex(1 << 16);
    let (mut sink, mut stream) = socket.split();
    let (mut from, mut to) = tokio::io::split(far);
    tokio::spawn(async move {
        // Messages are cut anywhere.
        let mut buffer = [0; 7];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            sink.send(Message::binary(buffer[..length].to_vec())).await.unwrap();
        }
    });
    tokio::spawn(async move {
        while let Some(Ok(Message::Binary(data))) = stream.next().await {
            to.write_all(&data).await.unwrap();
        }
    });
    let mut client = Client::new(near);
    pair(&mut client, 1, port, "0").await;
    client.data(3, b"tunnel", true).await;
    assert_eq!(client.next().await, Some(Frame::Data(3, b"lennut".to_vec(), false)));
}

#[tokio::test]
async fn channels_begin_with_their_port_and_the_connection_ends_with_the_last() {
    let greeter = greeter().await;
    let (mut socket, _) = open_at(&format!("/portForward?ports={greeter},1"), "v4.channel.k8s.io").await;
    let mut said: std::collections::BTreeMap<u8, Vec<u8>> = std::collections::BTreeMap::new();
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Binary(data) = message {
            said.entry(data[0]).or_default().extend(&data[1..]);
        }
    }
    let port = greeter.to_le_bytes();
    assert_eq!(said[&0], [&port[..], b"hello"].concat());
    assert_eq!(said[&1], port);
    assert_eq!(said[&2], [1, 0]);
    assert!(said[&3].starts_with(b"\x01\0cannot connect: "), "{said:?}");
}

#[tokio::test]
async fn channels_carry_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (mut socket, _) = open_at(&format!("/portForward?ports={port}"), "v4.channel.k8s.io").await;
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(next(&mut socket).await, (0, port.to_le_bytes().to_vec()));
    assert_eq!(next(&mut socket).await, (1, port.to_le_bytes().to_vec()));
    socket.send(frame(b"\0ping")).await.unwrap();
    let mut text = [0; 4];
    stream.read_exact(&mut text).await.unwrap();
    stream.write_all(b"pong").await.unwrap();
    assert_eq!((&text, next(&mut socket).await), (b"ping", (0, b"pong".to_vec())));
}
