//! Over the network: certificates, HTTP versions, limits on headers, shutdown.

use crate::harness::*;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::client::TlsStream;

pub struct Served {
    pub port: u16,
    pub stop: oneshot::Sender<()>,
    pub task: tokio::task::JoinHandle<std::io::Result<()>>,
}

pub async fn serve(api: &Api) -> Served {
    // Below the ephemeral range, so that no connection of another test has it.
    let mut listener = None;
    for port in 21_000 + (std::process::id() as u16 % 4_000)..29_000 {
        listener = TcpListener::bind(("127.0.0.1", port)).await.ok();
        if listener.is_some() {
            break;
        }
    }
    let listener = listener.expect("a free port");
    let port = listener.local_addr().unwrap().port();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = api.server.clone();
    let task = tokio::spawn(async move { server.serve(vec![listener], async { drop(stopped.await) }).await });
    Served { port, stop, task }
}

pub async fn connect(api: &Api, port: u16, user: Option<(&str, &str)>, alpn: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(api.ca.pki.ca_certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut config = match user {
        Some((name, group)) => {
            let (certificate, key) = api.ca.client(name, group);
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

async fn get(api: &Api, port: u16, user: Option<(&str, &str)>, headers: &[(&str, &str)], path: &str) -> (u16, String) {
    let stream = connect(api, port, user, "http/1.1").await.unwrap();
    let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut all = vec![("host", "localhost")];
    all.extend(headers);
    let response = sender.send_request(request("GET", path, &all, "")).await.unwrap();
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn certificates_and_tokens_say_who_asks() {
    let api = Api::new().await;
    let served = serve(&api).await;
    let admin = Some(("admin", "system:masters"));
    assert_eq!(get(&api, served.port, admin, &[], "/api/v1/pods").await.0, 200);
    let (code, body) = get(&api, served.port, Some(("jane", "devs")), &[], "/api/v1/pods").await;
    assert!(code == 403 && body.contains("User \\\"jane\\\" cannot list resource \\\"pods\\\""), "{body}");
    assert_eq!(get(&api, served.port, None, &[], "/livez").await, (200, "ok".to_owned()));
    assert_eq!(get(&api, served.port, None, &[], "/api").await.0, 403);
    for bad in ["Bearer nonsense", "Basic eA==", "Bearer"] {
        let (code, body) = get(&api, served.port, None, &[("authorization", bad)], "/api").await;
        assert!(code == 401 && body.contains("\"reason\":\"Unauthorized\""), "{bad}: {body}");
    }
    api.post("/api/v1/namespaces/default/serviceaccounts", serde_json::json!({"metadata": {"name": "web"}})).await.expect(201);
    let request = api.call("POST", "/api/v1/namespaces/default/serviceaccounts/web/token", "{}").await.expect(201).json();
    let bearer = format!("Bearer {}", request["status"]["token"].as_str().unwrap());
    assert_eq!(get(&api, served.port, None, &[("authorization", &bearer)], "/api").await.0, 200);
    assert_eq!(get(&api, served.port, None, &[("authorization", &bearer)], "/api/v1/pods").await.0, 403);
    // A certificate of another authority does not get as far as a request.
    let other = Api::empty(|_| {}, mainstay_store::Options::default());
    let stranger = other.ca.client("admin", "system:masters");
    drop(stranger);
    let mut refused = connect(&other, served.port, None, "http/1.1").await;
    assert!(refused.is_err() || refused.as_mut().unwrap().read_u8().await.is_err());
}

#[tokio::test]
async fn http2_serves_many_requests_and_a_watch_on_one_connection() {
    let api = Api::new().await;
    let served = serve(&api).await;
    let stream = connect(&api, served.port, Some(("admin", "system:masters")), "h2").await.unwrap();
    assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let (sender, connection) = http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let url = |path: &str| format!("https://localhost{path}");
    let mut watching = sender.clone();
    let watch = watching.send_request(request("GET", &url(&format!("{MAPS}?watch=true&resourceVersion={}", api.store.revision())), &[], "")).await.unwrap();
    let requests = (0..100).map(|n| {
        let mut sender = sender.clone();
        let body = format!(r#"{{"metadata":{{"name":"m{n}"}}}}"#);
        async move { sender.send_request(request("POST", &url(MAPS), &[("content-type", "application/json")], body)).await.unwrap().status().as_u16() }
    });
    assert!(futures::future::join_all(requests).await.iter().all(|code| *code == 201));
    let mut body = watch.into_body();
    let mut seen = 0;
    while seen < 100 {
        let frame = tokio::time::timeout(DEADLINE, body.frame()).await.unwrap().unwrap().unwrap().into_data().unwrap();
        seen += frame.iter().filter(|byte| **byte == b'\n').count();
    }
    let big = "x".repeat(600_000);
    let refused = sender.clone().send_request(request("GET", &url(MAPS), &[("x-big", &big)], "")).await;
    assert!(refused.is_err() || refused.unwrap().status() == 431);
    served.stop.send(()).unwrap();
    tokio::time::timeout(DEADLINE, served.task).await.unwrap().unwrap().unwrap();
    while let Some(frame) = tokio::time::timeout(DEADLINE, body.frame()).await.unwrap() {
        if frame.is_err() {
            break;
        }
    }
}

#[tokio::test]
async fn headers_and_urls_have_a_limit() {
    let api = Api::new().await;
    let served = serve(&api).await;
    for head in [format!("GET /api?x={} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(2 << 20)), format!("GET /api HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(2 << 20))] {
        let stream = connect(&api, served.port, None, "http/1.1").await.unwrap();
        let (mut read, mut write) = tokio::io::split(stream);
        // The server answers before it has read all of it, and closes.
        let writing = tokio::spawn(async move { drop(write.write_all(head.as_bytes()).await) });
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(DEADLINE, read.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        writing.abort();
    }
}

#[tokio::test]
async fn past_the_limit_in_flight_a_client_is_told_to_come_again() {
    let api = Api::empty(|config| config.inflight_limit = 0, mainstay_store::Options::default());
    let served = serve(&api).await;
    let (code, body) = get(&api, served.port, Some(("admin", "system:masters")), &[], "/api/v1/pods").await;
    assert!(code == 429 && body.contains("\"retryAfterSeconds\":1"), "{body}");
    assert_eq!(get(&api, served.port, None, &[], "/livez").await.0, 200);
    api.get("/api/v1/pods").await.expect(200);
}

#[tokio::test]
async fn tls_before_1_3_is_refused() {
    let api = Api::new().await;
    let served = serve(&api).await;
    let mut stream = TcpStream::connect(("127.0.0.1", served.port)).await.unwrap();
    // A ClientHello of TLS 1.2 without extensions.
    let mut hello = vec![0x03, 0x03];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    let mut record = vec![0x16, 0x03, 0x01, 0, (hello.len() + 4) as u8, 1, 0, 0, hello.len() as u8];
    record.append(&mut hello);
    stream.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty() || answer[0] == 0x15, "an alert, not {answer:?}");
}
