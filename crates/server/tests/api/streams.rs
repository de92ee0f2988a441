//! Logs and exec, through to a node that is a test.

use crate::harness::*;
use crate::tls::{connect, serve};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mainstay_streams::{Outcome, Wanted, accept_command};
use serde_json::json;
use std::convert::Infallible;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

/// A node that shows what it was asked as a log, and echoes on exec.
fn node(api: &Api, dir: &tempfile::TempDir) {
    let socket = dir.path().join("node.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    *api.nodes.0.lock().unwrap() = Some(socket);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                    let asked = request.uri().to_string();
                    let response = match asked.starts_with("/exec/") {
                        true => accept_command(request, Wanted { stdin: true, stdout: true, ..Wanted::default() }, |session| async move {
                            let mut stdin = session.stdin.unwrap();
                            while let Some(data) = stdin.next().await {
                                session.output.stdout(data).await.unwrap();
                            }
                            session.output.finish(Outcome::ExitCode(3)).await.unwrap();
                        }),
                        false => http::Response::new(asked),
                    };
                    Ok::<_, Infallible>(response.map(|text| Full::new(Bytes::from(text))))
                });
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            });
        }
    });
}

async fn with_pods() -> Api {
    let api = Api::new().await;
    api.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await.expect(201);
    let mut one = pod("one");
    one["spec"]["nodeName"] = "n1".into();
    api.post(PODS, one).await.expect(201);
    let mut two = pod("two");
    two["spec"]["containers"] = json!([{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]);
    two["spec"]["initContainers"] = json!([{"name": "i", "image": "x"}]);
    api.post(PODS, two).await.expect(201);
    api
}

#[tokio::test]
async fn a_log_comes_from_the_node_of_the_pod() {
    let api = with_pods().await;
    let dir = tempfile::tempdir().unwrap();
    let unreachable = api.get(&format!("{PODS}/one/log")).await.line();
    assert!(unreachable.starts_with("500 InternalError: ") && unreachable.contains("node n1"), "{unreachable}");
    node(&api, &dir);
    assert_eq!(api.get(&format!("{PODS}/one/log?tailLines=5&follow=true")).await.expect(200).text, "/containerLogs/default/one/c?tailLines=5&follow=true");
    assert_eq!(api.get(&format!("{PODS}/two/log?container=a")).await.expect(200).text, "", "no node has it yet");
    for (path, line) in [
        ("none/log", "404 NotFound: pods \"none\" not found"),
        ("one/log?container=x", "400 BadRequest: container x is not valid for pod one"),
        ("two/log", "400 BadRequest: a container name must be specified for pod two, choose one of: [a b] or one of the init containers: [i]"),
        ("two/exec?container=a&command=ls", "400 BadRequest: pod two does not have a host assigned"),
        ("one/exec?command=ls", "400 BadRequest: Upgrade request required"),
    ] {
        assert_eq!(api.get(&format!("{PODS}/{path}")).await.line(), line);
    }
}

#[tokio::test]
async fn exec_is_joined_to_the_node_byte_by_byte() {
    let api = with_pods().await;
    let dir = tempfile::tempdir().unwrap();
    node(&api, &dir);
    let served = serve(&api).await;
    let stream = connect(&api, served.port, Some(("admin", "system:masters")), "http/1.1").await.unwrap();
    let mut upgrade = format!("wss://localhost{PODS}/one/exec?command=cat&stdin=true").into_client_request().unwrap();
    upgrade.headers_mut().insert("sec-websocket-protocol", "v5.channel.k8s.io".parse().unwrap());
    let (mut socket, response) = tokio_tungstenite::client_async(upgrade, stream).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Binary(Bytes::from_static(b"\x01")), "connected");
    socket.send(Message::Binary(Bytes::from_static(b"\0hello"))).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Binary(Bytes::from_static(b"\x01hello")));
    socket.send(Message::Binary(Bytes::from_static(&[255, 0]))).await.unwrap();
    let Message::Binary(status) = socket.next().await.unwrap().unwrap() else { panic!("no status") };
    assert!(status[0] == 3 && String::from_utf8_lossy(&status).contains("NonZeroExitCode"));
    // A user without the right to does not reach the node.
    let stream = connect(&api, served.port, Some(("jane", "devs")), "http/1.1").await.unwrap();
    let mut upgrade = format!("wss://localhost{PODS}/one/exec?command=cat").into_client_request().unwrap();
    upgrade.headers_mut().insert("sec-websocket-protocol", "v5.channel.k8s.io".parse().unwrap());
    let Err(tokio_tungstenite::tungstenite::Error::Http(refused)) = tokio_tungstenite::client_async(upgrade, stream).await else { panic!("no refusal") };
    assert_eq!(refused.status(), 403);
}

#[tokio::test]
async fn a_spdy_upgrade_is_passed_on_with_its_protocol_and_so_is_its_refusal() {
    let api = with_pods().await;
    let dir = tempfile::tempdir().unwrap();
    node(&api, &dir);
    let served = serve(&api).await;
    for (offered, expected) in [
        ("v4.channel.k8s.io", ["HTTP/1.1 101 ", "\r\nx-stream-protocol-version: v4.channel.k8s.io\r\n"]),
        ("v9.channel.k8s.io", ["HTTP/1.1 403 ", "\r\nx-accepted-stream-protocol-versions: v2.channel.k8s.io\r\n"]),
    ] {
        let mut stream = connect(&api, served.port, Some(("admin", "system:masters")), "http/1.1").await.unwrap();
        let head = format!("POST {PODS}/one/exec?command=cat&stdin=true HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {offered}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(expected.iter().all(|words| answer.contains(words)), "{answer}");
    }
}
