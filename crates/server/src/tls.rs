//! Connections: TLS 1.3 with optional client certificates, HTTP/1.1 and HTTP/2 by ALPN, bounds on everything a client may make us wait for
//! or remember, and a shutdown that lets answers finish.

use crate::authenticate;
use crate::body::{Body, Incoming};
use crate::config::Pki;
use crate::handler::Caller;
use crate::identity::Identity;
use crate::server::Inner;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// From the connection to the end of the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// From the first byte of a request to the end of its headers; upstream closes at 32 s.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Headers of one HTTP/2 request; HTTP/1.1 stops at hyper's 400 KiB. Both answer 431.
const HEADER_LIMIT_BYTES: u32 = 256 * 1024;

/// Requests at once on one HTTP/2 connection; upstream's figure.
const STREAMS_LIMIT: u32 = 250;

/// Connections at once.
const CONNECTIONS_LIMIT: usize = 20_000;

/// How long answers in progress may take once the server is asked to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What TLS needs, from PEM.
pub(crate) fn config(pki: &Pki) -> io::Result<rustls::ServerConfig> {
    let broken = |what: &str, error: &dyn std::fmt::Display| io::Error::other(format!("{what}: {error}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pki.ca_certificate.as_bytes()) {
        let certificate = certificate.map_err(|error| broken("read the CA certificate", &error))?;
        roots.add(certificate).map_err(|error| broken("use the CA certificate", &error))?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| broken("use the CA certificate", &error))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pki.server_certificate.as_bytes()).collect();
    let chain = chain.map_err(|error| broken("read the server certificate", &error))?;
    let key = PrivateKeyDer::from_pem_slice(pki.server_key.as_bytes()).map_err(|error| broken("read the server key", &error))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| broken("configure TLS", &error))?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(|error| broken("use the server certificate", &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Accepts until `shutdown`, then drains.
pub(crate) async fn serve(server: Arc<Inner>, listeners: Vec<TcpListener>, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
    let mut tasks = JoinSet::new();
    let mut accepts = JoinSet::new();
    let (sender, mut accepted) = tokio::sync::mpsc::channel::<TcpStream>(64);
    for listener in listeners {
        let sender = sender.clone();
        accepts.spawn(async move { accept(listener, sender).await });
    }
    drop(sender);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            stream = accepted.recv() => {
                let Some(stream) = stream else { break };
                // Past the bound the connection is dropped: a client sees it closed and tries again.
                if tasks.len() < CONNECTIONS_LIMIT {
                    tasks.spawn(connection(server.clone(), stream));
                }
            }
            Some(_) = tasks.join_next() => {}
        }
    }
    accepts.abort_all();
    server.close();
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!("some connections did not finish within {DRAIN_TIMEOUT:?} and were cut");
        tasks.shutdown().await;
    }
    Ok(())
}

async fn accept(listener: TcpListener, sender: tokio::sync::mpsc::Sender<TcpStream>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if sender.send(stream).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Out of file descriptors: others will be given back.
                tracing::warn!(%error, "accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(server: Arc<Inner>, stream: TcpStream) {
    let mut closing = server.closing();
    let _ = stream.set_nodelay(true);
    let acceptor = match server.tls() {
        Some(config) => TlsAcceptor::from(config),
        None => return,
    };
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else { return };
    let session = stream.get_ref().1;
    let certificate = session.peer_certificates().and_then(|chain| authenticate::from_certificate(chain.first()?));
    let http2 = session.alpn_protocol() == Some(b"h2");
    let certificate = certificate.map(Arc::new);
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (server, certificate) = (server.clone(), certificate.clone());
        async move { Ok::<_, Infallible>(answer(&server, certificate.as_deref(), request).await) }
    });
    let io = TokioIo::new(stream);
    // How a connection ends (a client that goes away, broken framing) concerns its client only.
    if http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_LIMIT)
            .max_header_list_size(HEADER_LIMIT_BYTES)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(30));
        let mut connection = std::pin::pin!(builder.serve_connection(io, service));
        tokio::select! {
            _ = &mut connection => return,
            _ = closing.wait_for(|closing| *closing) => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        let mut connection = std::pin::pin!(builder.serve_connection(io, service).with_upgrades());
        tokio::select! {
            _ = &mut connection => return,
            _ = closing.wait_for(|closing| *closing) => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

async fn answer(server: &Arc<Inner>, certificate: Option<&Identity>, request: Request<hyper::body::Incoming>) -> Response<Body> {
    let identity = match authenticate::authenticate(server, request.headers(), certificate) {
        Ok(identity) => identity,
        Err(failure) => return failure.into_response(),
    };
    let request = request.map(|body| -> Incoming { body.map_err(io::Error::other).boxed_unsync() });
    server.handle(request, Caller { identity, local: false }).await
}
