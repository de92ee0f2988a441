//! Commands over SPDY/3.1.

use crate::client::{Client, Frame, control, upgrade};
use tokio::io::DuplexStream;

/// The streams of a command, as client-go opens them.
async fn open(protocol: &str, path: &str, types: &[&str]) -> Client<DuplexStream> {
    let (mut client, head) = upgrade(path, &[protocol]).await;
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: SPDY/3.1"), "{head}");
    assert!(head.contains(&format!("x-stream-protocol-version: {protocol}\r\n")), "{head}");
    for (id, kind) in (1..).step_by(2).zip(types) {
        client.open_ok(id, &[("streamtype", kind)]).await;
    }
    client
}

fn text(frames: &[Frame], id: u32) -> String {
    let parts = frames.iter().filter_map(|frame| if let Frame::Data(of, data, _) = frame && *of == id { Some(&data[..]) } else { None });
    String::from_utf8(parts.collect::<Vec<_>>().concat()).unwrap()
}

#[tokio::test]
async fn a_command_has_a_stream_for_each_of_its_own_and_one_for_its_outcome() {
    let mut client = open("v4.channel.k8s.io", "/exec", &["error", "stdin", "stdout", "stderr"]).await;
    client.data(3, b"hello", false).await;
    assert_eq!(client.next().await, Some(Frame::Data(5, b"hello".to_vec(), false)));
    client.data(3, b"", true).await;
    let frames = client.rest().await;
    assert_eq!(text(&frames, 7), "eof");
    assert_eq!(text(&frames, 1), r#"{"metadata":{},"status":"Success"}"#);
    for id in [1, 5, 7] {
        assert!(frames.contains(&Frame::Data(id, vec![], true)), "stream {id} is finished: {frames:?}");
    }
    assert_eq!(frames.last(), Some(&Frame::GoAway(0)));
}

#[tokio::test]
async fn an_exit_code_is_a_status_from_the_fourth_version_on_and_words_before() {
    for (protocol, outcome) in [
        ("v5.channel.k8s.io", "\"reason\":\"NonZeroExitCode\""),
        ("v4.channel.k8s.io", "\"causes\":[{\"message\":\"3\",\"reason\":\"ExitCode\"}]"),
        ("v3.channel.k8s.io", "command terminated with non-zero exit code: exit status 3"),
        ("v2.channel.k8s.io", "command terminated with non-zero exit code: exit status 3"),
        ("channel.k8s.io", "command terminated with non-zero exit code: exit status 3"),
    ] {
        // The order is the client's own affair.
        let mut client = open(protocol, "/exec", &["stderr", "stdout", "stdin", "error"]).await;
        client.data(5, b"die", false).await;
        let frames = client.rest().await;
        let found = text(&frames, 7);
        assert!(found.contains(outcome) && found.starts_with('{') == outcome.starts_with('"'), "{protocol}: {found}");
    }
}

#[tokio::test]
async fn a_terminal_has_a_stream_for_its_size() {
    let mut client = open("v4.channel.k8s.io", "/exec?tty=true", &["error", "stdin", "stdout", "resize"]).await;
    client.data(7, b"{\"Width\":80,", false).await;
    client.data(7, b"\"Height\":24}\n{\"Width\":1,\"Height\":2}\n", false).await;
    let mut sizes = Vec::new();
    while sizes.len() < "80x241x2".len() {
        let Some(Frame::Data(5, data, false)) = client.next().await else { panic!("no size") };
        sizes.extend(data);
    }
    assert_eq!(sizes, b"80x241x2");
    // The second version knows no sizes, and its clients open no stream for them.
    let mut client = open("v2.channel.k8s.io", "/exec?tty=true", &["error", "stdin", "stdout"]).await;
    client.data(3, b"hello", false).await;
    assert_eq!(client.next().await, Some(Frame::Data(5, b"hello".to_vec(), false)));
}

#[tokio::test]
async fn what_is_no_stream_of_a_command_is_refused_and_the_rest_goes_on() {
    let mut client = open("v4.channel.k8s.io", "/exec", &["error", "stdin", "stdout"]).await;
    for (id, headers, status) in [
        (7, &[("streamtype", "stdinn")][..], 3),
        (9, &[], 3),
        (9, &[("streamtype", "stderr")], 1),
        (2, &[("streamtype", "stderr")], 1),
        (5, &[("streamtype", "stderr")], 1),
    ] {
        client.open(id, headers).await;
        assert_eq!(client.next().await, Some(Frame::Reset(id, status)), "{id} {headers:?}");
    }
    client.send(&control(6, 0, &[0, 0, 0, 9])).await;
    assert_eq!(client.next().await, Some(Frame::Ping(9)));
    client.send(&control(4, 0, &[0, 0, 0, 0])).await;
    client.data(99, b"nobody's", false).await;
    client.open_ok(11, &[("streamtype", "stderr")]).await;
    client.data(3, b"hello", false).await;
    assert_eq!(client.next().await, Some(Frame::Data(5, b"hello".to_vec(), false)));
}

#[tokio::test]
async fn a_client_that_speaks_something_else_is_told_and_left() {
    let mut client = open("v4.channel.k8s.io", "/exec", &["error"]).await;
    client.send(&[0x80, 2, 0, 1, 0, 0, 0, 0]).await;
    assert_eq!(client.rest().await, [Frame::GoAway(1)]);
}

#[tokio::test]
async fn windows_are_reported_to_clients_that_keep_them() {
    let mut client = open("v4.channel.k8s.io", "/exec", &["error", "stdin", "stdout", "stderr"]).await;
    client.data(3, &[b'x'; 40_000], false).await;
    let (mut echoed, mut window) = (0, 0);
    while echoed < 40_000 || window == 0 {
        match client.next().await.unwrap() {
            Frame::Data(5, data, false) => echoed += data.len(),
            Frame::Window(3, bytes) => window += bytes,
            other => panic!("{other:?}"),
        }
    }
    assert!((32_768..=40_000).contains(&window), "{window}");
}

#[tokio::test]
async fn streams_have_a_bound() {
    let (mut client, _) = upgrade("/portForward", &["portforward.k8s.io"]).await;
    for id in (1..).step_by(2).take(2048) {
        client.open_ok(id, &[("streamtype", "error"), ("port", "1"), ("requestid", &id.to_string())]).await;
    }
    client.open(4097, &[("streamtype", "error"), ("port", "1")]).await;
    assert_eq!(client.next().await, Some(Frame::Reset(4097, 3)));
}
