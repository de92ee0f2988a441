//! Clients that make a server wait, or come in crowds.

use crate::harness::*;
use crate::tls::{connect, serve};
use mainstay_server::Limits;
use mainstay_store::Options;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SHORT: Duration = Duration::from_millis(300);
const ADMIN: Option<(&str, &str)> = Some(("admin", "system:masters"));

/// All that the server says until it closes.
async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut said = Vec::new();
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut said)).await.expect("the server closes the connection");
    String::from_utf8_lossy(&said).into_owned()
}

fn limited(change: impl FnOnce(&mut Limits)) -> Api {
    let mut limits = Limits::default();
    change(&mut limits);
    Api::limited(|_| {}, Options::default(), limits)
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let api = limited(|limits| limits.handshake = SHORT);
    let served = serve(&api).await;
    let mut silent = TcpStream::connect(("127.0.0.1", served.port)).await.unwrap();
    assert_eq!(until_closed(&mut silent).await, "");
    let mut slow = TcpStream::connect(("127.0.0.1", served.port)).await.unwrap();
    slow.write_all(&[0x16, 3, 1]).await.unwrap();
    assert_eq!(until_closed(&mut slow).await, "");
}

#[tokio::test]
async fn headers_that_come_byte_by_byte_are_not_waited_for() {
    let api = limited(|limits| limits.headers = SHORT);
    let served = serve(&api).await;
    let stream = connect(&api, served.port, ADMIN, "http/1.1").await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let start = Instant::now();
    let drip = tokio::spawn(async move {
        write.write_all(b"GET /api HTTP/1.1\r\nHost: a\r\nX-Slow: ").await.unwrap();
        while write.write_all(b"x").await.is_ok() && write.flush().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let said = until_closed(&mut read).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{said}");
    assert!(start.elapsed() >= SHORT);
    drip.abort();
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_closed() {
    let api = limited(|limits| (limits.first_request, limits.headers) = (SHORT, Duration::from_secs(60)));
    let served = serve(&api).await;
    for alpn in ["h2", "http/1.1"] {
        let mut stream = connect(&api, served.port, ADMIN, alpn).await.unwrap();
        let start = Instant::now();
        until_closed(&mut stream).await;
        assert!(start.elapsed() < Duration::from_secs(15), "{alpn}");
    }
    // One that has asked may be silent for longer.
    let mut stream = connect(&api, served.port, ADMIN, "http/1.1").await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 12];
        tokio::time::timeout(DEADLINE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, b"HTTP/1.1 200");
        let mut rest = Vec::new();
        while !rest.ends_with(b"ok") {
            rest.push(stream.read_u8().await.unwrap());
        }
        tokio::time::sleep(2 * SHORT).await;
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_a_timeout_and_writes_nothing() {
    let api = limited(|limits| limits.body = SHORT);
    api.server.bootstrap().await.unwrap();
    let before = api.store.revision();
    let served = serve(&api).await;
    let mut stream = connect(&api, served.port, ADMIN, "http/1.1").await.unwrap();
    let head = format!("POST {MAPS} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{\"metadata\":");
    stream.write_all(head.as_bytes()).await.unwrap();
    let said = until_closed(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 504 ") && said.contains("request did not complete within the allotted timeout"), "{said}");
    assert_eq!(api.store.revision(), before);
}

#[tokio::test]
async fn a_crowd_of_connections_leaves_those_that_are_there_alone() {
    let api = limited(|limits| limits.connections = 3);
    let served = serve(&api).await;
    let mut there = Vec::new();
    for _ in 0..3 {
        there.push(connect(&api, served.port, ADMIN, "http/1.1").await.unwrap());
    }
    for _ in 0..20 {
        let mut refused = connect(&api, served.port, ADMIN, "http/1.1").await;
        assert!(refused.is_err() || refused.as_mut().unwrap().read_u8().await.is_err());
    }
    for stream in &mut there {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        assert!(until_closed(stream).await.starts_with("HTTP/1.1 200 "));
    }
    // Room again.
    let deadline = Instant::now() + DEADLINE;
    while connect(&api, served.port, ADMIN, "http/1.1").await.is_err() {
        assert!(Instant::now() < deadline, "no room again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn as_somebody_else_is_for_administrators() {
    let api = Api::new().await;
    let served = serve(&api).await;
    for (user, expected) in [(ADMIN, "HTTP/1.1 403 "), (Some(("joe", "devs")), "HTTP/1.1 403 ")] {
        let mut stream = connect(&api, served.port, user, "http/1.1").await.unwrap();
        let request = format!("GET {MAPS} HTTP/1.1\r\nHost: a\r\nImpersonate-User: jane\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let said = until_closed(&mut stream).await;
        let who = if user == ADMIN { "User \\\"jane\\\" cannot list" } else { "User \\\"joe\\\" cannot impersonate" };
        assert!(said.starts_with(expected) && said.contains(who), "{said}");
    }
}
