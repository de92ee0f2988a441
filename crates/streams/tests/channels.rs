//! A WebSocket client against `accept`, over an in-memory connection.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mainstay_streams::{Input, Outcome, Session, accept};
use std::convert::Infallible;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use tokio_tungstenite::{WebSocketStream, client_async};

/// What the commands of these tests do: echo until end of input, tell sizes, fail on `die`.
async fn run(mut session: Session) {
    loop {
        match session.receive().await {
            Input::Stdin(data) if &data[..] == b"die" => {
                session.finish(Outcome::ExitCode(3)).await.unwrap();
                return;
            }
            Input::Stdin(data) => session.stdout(&data).await.unwrap(),
            Input::StdinClosed => {
                session.stderr(b"eof").await.unwrap();
                session.finish(Outcome::Success).await.unwrap();
                return;
            }
            Input::Resize { columns, rows } => session.stdout(format!("{columns}x{rows}").as_bytes()).await.unwrap(),
            Input::Gone => return,
        }
    }
}

fn connect() -> DuplexStream {
    let (client, server) = tokio::io::duplex(8192);
    tokio::spawn(async move {
        let service = service_fn(|request| async move { Ok::<_, Infallible>(accept(request, run).map(|s| Full::new(Bytes::from(s)))) });
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service).with_upgrades().await;
    });
    client
}

async fn open(protocols: &str) -> (WebSocketStream<DuplexStream>, Response<Option<Vec<u8>>>) {
    let mut request = "ws://node/exec/default/web-0/c".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
    client_async(request, connect()).await.unwrap()
}

async fn next(socket: &mut WebSocketStream<DuplexStream>) -> (u8, Vec<u8>) {
    loop {
        if let Message::Binary(frame) = socket.next().await.unwrap().unwrap() {
            return (frame[0], frame[1..].to_vec());
        }
    }
}

fn frame(bytes: &[u8]) -> Message {
    Message::Binary(Bytes::copy_from_slice(bytes))
}

#[tokio::test]
async fn output_follows_input_and_half_close_ends_it() {
    let (mut socket, response) = open("v5.channel.k8s.io").await;
    assert_eq!(response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    socket.send(frame(b"\0hello")).await.unwrap();
    assert_eq!(next(&mut socket).await, (1, b"hello".to_vec()));
    socket.send(frame(b"\x04{\"Width\":80,\"Height\":24}")).await.unwrap();
    assert_eq!(next(&mut socket).await, (1, b"80x24".to_vec()));
    socket.send(frame(&[255, 0])).await.unwrap();
    assert_eq!(next(&mut socket).await, (2, b"eof".to_vec()));
    let (channel, status) = next(&mut socket).await;
    assert_eq!((channel, status), (3, br#"{"metadata":{},"status":"Success"}"#.to_vec()));
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
}

#[tokio::test]
async fn an_exit_code_reaches_the_client_as_a_cause() {
    let (mut socket, _) = open("v4.channel.k8s.io, v5.channel.k8s.io").await;
    socket.send(frame(b"\0die")).await.unwrap();
    let (channel, status) = next(&mut socket).await;
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    assert_eq!((channel, &status["reason"]), (3, &"NonZeroExitCode".into()));
    assert_eq!(status["details"]["causes"], serde_json::json!([{"reason": "ExitCode", "message": "3"}]));
}

#[tokio::test]
async fn the_fourth_version_has_no_half_close_and_large_output_comes_in_frames() {
    let (mut socket, response) = open("v4.channel.k8s.io").await;
    assert_eq!(response.headers()["sec-websocket-protocol"], "v4.channel.k8s.io");
    socket.send(frame(&[255, 0])).await.unwrap();
    let sent: Vec<u8> = std::iter::once(0).chain((0..200_000u32).map(|n| n as u8)).collect();
    let (mut sink, mut stream) = socket.split();
    let feed = tokio::spawn(async move {
        sink.send(frame(&sent)).await.unwrap();
        (sink, sent)
    });
    let mut got = Vec::new();
    while got.len() < 200_000 {
        if let Message::Binary(data) = stream.next().await.unwrap().unwrap() {
            assert!(data.len() <= 64 * 1024 + 1, "frame of {} bytes", data.len());
            got.extend_from_slice(&data[1..]);
        }
    }
    let (_, sent) = feed.await.unwrap();
    assert!(got == sent[1..]);
}

#[tokio::test]
async fn pings_are_answered_while_the_command_waits() {
    let (mut socket, _) = open("v5.channel.k8s.io").await;
    socket.send(Message::Ping(Bytes::from_static(b"x"))).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"x")));
}

#[tokio::test]
async fn what_is_no_websocket_of_ours_is_refused_in_words() {
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (headers, code, words) in [
        (String::new(), "400", "Upgrade request required"),
        ("Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n".to_owned(), "400", "use kubectl 1.31 or newer"),
        (websocket.to_owned(), "403", "v5.channel.k8s.io"),
        (format!("{websocket}Sec-WebSocket-Protocol: chat\r\n"), "403", "v5.channel.k8s.io"),
        (websocket.replace("13", "8"), "400", "must be 13"),
    ] {
        let mut client = connect();
        client.write_all(format!("POST /exec/a/b/c HTTP/1.1\r\nHost: node\r\nContent-Length: 0\r\n{headers}\r\n").as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let n = client.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..n]).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")) && answer.contains(words), "{headers}: {answer}");
    }
}
