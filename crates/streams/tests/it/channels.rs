//! Commands over WebSocket channels.

use crate::connect;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use tokio_tungstenite::{WebSocketStream, client_async};

pub(crate) async fn open_at(path: &str, protocols: &str) -> (WebSocketStream<DuplexStream>, Response<Option<Vec<u8>>>) {
    let mut request = format!("ws://node{path}").into_client_request().unwrap();
    if !protocols.is_empty() {
        request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
    }
    client_async(request, connect()).await.unwrap()
}

async fn open(protocols: &str) -> (WebSocketStream<DuplexStream>, Response<Option<Vec<u8>>>) {
    open_at("/exec", protocols).await
}

/// The next message that says something.
pub(crate) async fn next(socket: &mut WebSocketStream<DuplexStream>) -> (u8, Vec<u8>) {
    loop {
        if let Message::Binary(frame) = socket.next().await.unwrap().unwrap()
            && frame.len() > 1
        {
            return (frame[0], frame[1..].to_vec());
        }
    }
}

pub(crate) fn frame(bytes: &[u8]) -> Message {
    Message::Binary(Bytes::copy_from_slice(bytes))
}

#[tokio::test]
async fn output_follows_input_and_half_close_ends_it() {
    let (mut socket, response) = open("v5.channel.k8s.io").await;
    assert_eq!(response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    socket.send(frame(b"\0hello")).await.unwrap();
    assert_eq!(next(&mut socket).await, (1, b"hello".to_vec()));
    socket.send(frame(&[255, 0])).await.unwrap();
    assert_eq!(next(&mut socket).await, (2, b"eof".to_vec()));
    let (channel, status) = next(&mut socket).await;
    assert_eq!((channel, status), (3, br#"{"metadata":{},"status":"Success"}"#.to_vec()));
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
}

#[tokio::test]
async fn a_terminal_has_a_size_and_no_standard_error() {
    let (mut socket, _) = open_at("/exec?tty=true", "v5.channel.k8s.io").await;
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Binary(Bytes::from_static(b"\x01")), "the client is told that it is connected");
    socket.send(frame(b"\x04{\"Width\":80,\"Height\":24}")).await.unwrap();
    assert_eq!(next(&mut socket).await, (1, b"80x24".to_vec()));
    socket.send(frame(b"\x04nonsense}{\"Width\":1,\"Height\":2}\n")).await.unwrap();
    assert_eq!(next(&mut socket).await, (1, b"1x2".to_vec()));
    socket.send(frame(&[255, 0])).await.unwrap();
    assert_eq!(next(&mut socket).await.0, 3, "the outcome, and nothing of standard error before it");
}

#[tokio::test]
async fn older_clients_get_words_instead_of_a_status() {
    for protocol in ["channel.k8s.io", ""] {
        let (mut socket, response) = open(protocol).await;
        assert_eq!(response.headers().get("sec-websocket-protocol").map(|name| name.to_str().unwrap()), Some(protocol).filter(|name| !name.is_empty()));
        // As the Python client sends strings.
        socket.send(Message::text("\0die")).await.unwrap();
        assert_eq!(next(&mut socket).await, (3, b"command terminated with non-zero exit code: exit status 3".to_vec()));
        assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
    }
}

#[tokio::test]
async fn browsers_get_text() {
    let (mut socket, _) = open("v4.base64.channel.k8s.io").await;
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("1"));
    socket.send(Message::text("0aGk=")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("1aGk="));
}

#[tokio::test]
async fn input_that_nobody_reads_holds_up_its_sender() {
    let (mut socket, _) = open("v5.channel.k8s.io").await;
    socket.send(frame(b"\0stall")).await.unwrap();
    let input = [&[0][..], &[7; 32 * 1024]].concat();
    let flood = async {
        for sent in 0..1000 {
            if tokio::time::timeout(std::time::Duration::from_millis(300), socket.send(frame(&input))).await.is_err() {
                return sent;
            }
        }
        1000
    };
    let sent = flood.await;
    assert!((30..60).contains(&sent), "{sent} messages of 32 KiB were taken in: 1 MiB may wait");
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
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Binary(Bytes::from_static(b"\x01")));
    socket.send(Message::Ping(Bytes::from_static(b"x"))).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"x")));
}

#[tokio::test]
async fn what_is_no_websocket_of_ours_is_refused_in_words() {
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (headers, code, words) in [
        (String::new(), "400", "Upgrade request required"),
        ("Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n".to_owned(), "400", "X-Stream-Protocol-Version"),
        ("Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v9.channel.k8s.io\r\n".to_owned(), "403", "client supports [v9.channel.k8s.io]"),
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
