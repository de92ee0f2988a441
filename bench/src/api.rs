//! A lean client of the API server: TLS with the administrator's certificate, HTTP/1.1 with keep-alive, or HTTP/2.

use anyhow::{Context as _, Result, anyhow, ensure};
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// No single answer takes longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// How to reach one API server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    pub port: u16,
}

impl Api {
    /// From PEM: the authority, and the client's certificate and key.
    pub(crate) fn new(authority: &[u8], certificate: &[u8], key: &[u8], port: u16) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(authority) {
            roots.add(root?)?;
        }
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>()?;
        let config = |protocol: &[u8]| -> Result<Arc<ClientConfig>> {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
            let mut config = builder.with_root_certificates(roots.clone()).with_client_auth_cert(chain.clone(), PrivateKeyDer::from_pem_slice(key)?)?;
            config.alpn_protocols = vec![protocol.to_vec()];
            Ok(Arc::new(config))
        };
        Ok(Self { http1: config(b"http/1.1")?, http2: config(b"h2")?, port })
    }

    /// With what stands in a kubeconfig, as kubectl reads it.
    pub(crate) fn from_kubeconfig(file: &Path, port: u16) -> Result<Self> {
        let config = crate::kubectl::read_config(file)?;
        let field = |list: &str, entry: &str, name: &str| -> Result<Vec<u8>> {
            let encoded = config[list][0][entry][name].as_str().with_context(|| format!("{} holds no {name}", file.display()))?;
            Ok(base64::engine::general_purpose::STANDARD.decode(encoded)?)
        };
        let user = |name: &str| field("users", "user", name);
        Self::new(&field("clusters", "cluster", "certificate-authority-data")?, &user("client-certificate-data")?, &user("client-key-data")?, port)
    }

    /// With the keys of a data directory, which are there before a kubeconfig is.
    pub(crate) fn from_data_dir(data: &Path, port: u16) -> Result<Self> {
        let read = |file: &str| std::fs::read(data.join("pki").join(file));
        Self::new(&read("ca.crt")?, &read("admin.crt")?, &read("admin.key")?, port)
    }

    async fn stream(&self, config: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.context("connect to the API server")?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
        TlsConnector::from(config.clone()).connect(name, stream).await.context("TLS with the API server")
    }

    /// A stream for HTTP/1.1 written by hand.
    pub(crate) async fn raw(&self) -> Result<TlsStream<TcpStream>> {
        self.stream(&self.http1).await
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        let (sender, connection) = http1::handshake(TokioIo::new(self.stream(&self.http1).await?)).await?;
        // How it ends is seen by whoever waits for an answer.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { sender })
    }

    /// One HTTP/2 connection, with windows no list or watch fills.
    pub(crate) async fn connect_http2(&self) -> Result<http2::SendRequest<Full<Bytes>>> {
        let stream = TokioIo::new(self.stream(&self.http2).await?);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(4 << 20).initial_connection_window_size(64 << 20);
        let (sender, connection) = builder.handshake(stream).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}

/// One keep-alive connection; one request at a time.
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Sends a request; its answer's body is still to be read.
    pub(crate) async fn open(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        self.sender.ready().await?;
        tokio::time::timeout(ANSWER_LIMIT, self.sender.send_request(request)).await.context("no answer within 60 s")?.map_err(Into::into)
    }

    /// Status and body.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
        let response = self.open(request).await?;
        let status = response.status();
        let body = tokio::time::timeout(ANSWER_LIMIT, response.into_body().collect()).await.context("half an answer within 60 s")??;
        Ok((status, body.to_bytes()))
    }

    async fn value(&mut self, request: Request<Full<Bytes>>) -> Result<Value> {
        let what = format!("{} {}", request.method(), request.uri());
        let (status, body) = self.send(request).await?;
        let value: Value = serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into());
        ensure!(status.is_success(), "{what}: {status}: {}", value["message"].as_str().unwrap_or_default());
        Ok(value)
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Value> {
        self.value(request(Method::GET, path, Bytes::new())).await
    }

    pub(crate) async fn create(&mut self, path: &str, object: &Value) -> Result<Value> {
        self.value(request(Method::POST, path, object.to_string().into())).await
    }

    pub(crate) async fn delete(&mut self, path: &str, options: &Value) -> Result<Value> {
        self.value(request(Method::DELETE, path, options.to_string().into())).await
    }

    /// A JSON merge patch.
    pub(crate) async fn merge(&mut self, path: &str, patch: &Value) -> Result<Value> {
        let mut request = request(Method::PATCH, path, patch.to_string().into());
        request.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/merge-patch+json"));
        self.value(request).await
    }
}

/// A request with a JSON body, or none.
pub(crate) fn request(method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
    let builder = Request::builder().method(method).uri(path).header("host", "127.0.0.1").header("accept", "application/json");
    let builder = if body.is_empty() { builder } else { builder.header("content-type", "application/json") };
    builder.body(Full::new(body)).expect("method, path and headers are this program's own")
}

/// For HTTP/2, where the authority is part of the address.
pub(crate) fn request_http2(path: &str, port: u16) -> Result<Request<Full<Bytes>>> {
    Request::get(format!("https://127.0.0.1:{port}{path}")).body(Full::new(Bytes::new())).map_err(|e| anyhow!(e))
}
