//! Connections: TLS 1.3 with optional client certificates, HTTP/1.1 and HTTP/2 by ALPN, bounds on everything a client may make us wait for
//! or remember, and a shutdown that lets answers finish.

use crate::authenticate;
use crate::body::{Body, Incoming};
use crate::config::Pki;
use crate::handler::Caller;
use crate::identity::Identity;
use crate::impersonate;
use crate::server::Inner;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Headers of one HTTP/2 request; HTTP/1.1 stops at hyper's 400 KiB. Both answer 431.
const HEADER_LIMIT_BYTES: u32 = 256 * 1024;

/// Requests at once on one HTTP/2 connection; upstream's figure.
const STREAMS_LIMIT: u32 = 250;

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
                if tasks.len() < server.limits.connections {
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
    let limits = server.limits;
    let _ = stream.set_nodelay(true);
    notice_silence(&stream, limits.silence);
    let acceptor = match server.tls() {
        Some(config) => TlsAcceptor::from(config),
        None => return,
    };
    let Ok(Ok(stream)) = tokio::time::timeout(limits.handshake, acceptor.accept(stream)).await else { return };
    let (socket, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(|chain| authenticate::from_certificate(chain.first()?));
    let http2 = session.alpn_protocol() == Some(b"h2");
    // Of HTTP/2 the pings tell a dead client from one that only does not read; of HTTP/1.1 the kernel does, until a stream takes over.
    let socket = if http2 { None } else { socket.as_fd().try_clone_to_owned().ok() };
    if let Some(socket) = &socket {
        limit_unacknowledged(socket, limits.silence);
    }
    let (certificate, socket) = (certificate.map(Arc::new), socket.map(Arc::new));
    let asked = Arc::new(AtomicBool::new(false));
    let asks = asked.clone();
    let closing = server.closing();
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        asks.store(true, Ordering::Relaxed);
        let (server, certificate, socket) = (server.clone(), certificate.clone(), socket.clone());
        async move {
            let response = answer(&server, certificate.as_deref(), request).await;
            if let (StatusCode::SWITCHING_PROTOCOLS, Some(socket)) = (response.status(), &socket) {
                // Whoever pauses the output of `exec` for minutes means to go on.
                limit_unacknowledged(socket.as_ref(), Duration::ZERO);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let io = TokioIo::new(stream);
    // How a connection ends (a client that goes away, broken framing) concerns its client only.
    if http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_LIMIT)
            .max_header_list_size(HEADER_LIMIT_BYTES)
            .keep_alive_interval(limits.silence / 2)
            .keep_alive_timeout(limits.silence / 2);
        let mut connection = std::pin::pin!(builder.serve_connection(io, service));
        match watch_over(connection.as_mut(), &asked, limits.first_request, closing).await {
            Watched::Over => return,
            Watched::Closing => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(limits.headers);
        let mut connection = std::pin::pin!(builder.serve_connection(io, service).with_upgrades());
        match watch_over(connection.as_mut(), &asked, limits.first_request, closing).await {
            Watched::Over => return,
            Watched::Closing => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

/// What came of a connection.
enum Watched {
    /// It has ended, or must: nothing was ever asked on it.
    Over,
    /// The server closes.
    Closing,
}

/// Follows a connection until it ends, its client has let the time for a first request pass, or the server closes.
async fn watch_over(mut connection: impl Future + Unpin, asked: &AtomicBool, first_request: Duration, mut closing: watch::Receiver<bool>) -> Watched {
    let first = tokio::time::sleep(first_request);
    tokio::select! {
        _ = &mut connection => return Watched::Over,
        _ = closing.wait_for(|closing| *closing) => return Watched::Closing,
        () = first => {}
    }
    if !asked.load(Ordering::Relaxed) {
        return Watched::Over;
    }
    tokio::select! {
        _ = &mut connection => Watched::Over,
        _ = closing.wait_for(|closing| *closing) => Watched::Closing,
    }
}

/// Asks the kernel to probe a client that is silent, so that one whose machine is gone is noticed while nothing is sent to it.
fn notice_silence(stream: &TcpStream, silence: Duration) {
    let seconds = u32::try_from(silence.as_secs()).unwrap_or(u32::MAX).max(4);
    // A socket that cannot be set so is only noticed later.
    let _ = setsockopt(stream, sockopt::TcpKeepIdle, &(seconds / 2));
    let _ = setsockopt(stream, sockopt::TcpKeepInterval, &(seconds / 4));
    let _ = setsockopt(stream, sockopt::TcpKeepCount, &2);
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
}

/// How long the kernel waits for what it has sent to be acknowledged, and for a client that does not read to read; zero: its own 15 minutes.
fn limit_unacknowledged(socket: &impl AsFd, time: Duration) {
    let _ = setsockopt(socket, sockopt::TcpUserTimeout, &u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
}

async fn answer(server: &Arc<Inner>, certificate: Option<&Identity>, request: Request<hyper::body::Incoming>) -> Response<Body> {
    let identity = match authenticate::authenticate(server, request.headers(), certificate) {
        Ok(identity) => identity,
        Err(failure) => return failure.into_response(),
    };
    let identity = match impersonate::apply(identity, request.headers()) {
        Ok(identity) => identity,
        Err(failure) => return failure.into_response(),
    };
    let request = request.map(|body| -> Incoming { body.map_err(io::Error::other).boxed_unsync() });
    server.handle(request, Caller { identity, local: false }).await
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use nix::sys::socket::getsockopt;

    /// A machine that is gone cannot be played here; what the kernel was asked to do about it can be read.
    #[tokio::test]
    async fn a_silent_client_is_given_up_after_about_a_minute() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let silence = crate::Limits::default().silence;
        notice_silence(&stream, silence);
        limit_unacknowledged(&stream, silence);
        assert!(getsockopt(&stream, sockopt::KeepAlive).unwrap());
        let [idle, interval, count] = [getsockopt(&stream, sockopt::TcpKeepIdle), getsockopt(&stream, sockopt::TcpKeepInterval), getsockopt(&stream, sockopt::TcpKeepCount)].map(Result::unwrap);
        assert_eq!(idle + interval * count, 60);
        assert_eq!(getsockopt(&stream, sockopt::TcpUserTimeout).unwrap(), 60_000);
        limit_unacknowledged(&stream, Duration::ZERO);
        assert_eq!(getsockopt(&stream, sockopt::TcpUserTimeout).unwrap(), 0);
    }
}
