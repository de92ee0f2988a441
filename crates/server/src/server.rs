//! The server as a service: over TLS, and in process.

pub use crate::body::Body;
use crate::body::Incoming;
use crate::config::Pki;
use crate::discovery::Discovery;
use crate::handler::Caller;
use crate::metrics::Metrics;
use crate::openapi::OpenApi;
use crate::rows::Rows;
use crate::tokens::Tokens;
use crate::{Config, Identity, Limits, NodeEndpoints, tls};
use http_body_util::BodyExt;
use mainstay_store::Store;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use tokio::sync::{Semaphore, watch};

/// The API server. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    pub(crate) inner: Arc<Inner>,
}

/// What all requests share.
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) config: Config,
    pub(crate) limits: Limits,
    pub(crate) nodes: Arc<dyn NodeEndpoints>,
    pub(crate) rows: Rows,
    pub(crate) discovery: Discovery,
    pub(crate) openapi: OpenApi,
    pub(crate) metrics: Metrics,
    /// One permit a request that is not a watch or a stream.
    pub(crate) inflight: Semaphore,
    /// The system objects are there.
    pub(crate) ready: AtomicBool,
    tokens: Result<Tokens, String>,
    tls: RwLock<Option<Arc<rustls::ServerConfig>>>,
    closing: watch::Sender<bool>,
}

impl Inner {
    /// Makes and checks ServiceAccount tokens; an error where the key cannot be read.
    pub(crate) fn tokens(&self) -> Result<&Tokens, &str> {
        self.tokens.as_ref().map_err(String::as_str)
    }

    /// The certificate for new connections.
    pub(crate) fn tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends watches and streams.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Resolves (changes to true) when the server closes.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }
}

impl Server {
    /// Prepares tables; touches neither disk nor network.
    pub fn new(store: Store, config: Config, nodes: Arc<dyn NodeEndpoints>) -> Self {
        Self::with_limits(store, config, nodes, Limits::default())
    }

    /// The same, with other bounds on what clients may make it wait for.
    pub fn with_limits(store: Store, config: Config, nodes: Arc<dyn NodeEndpoints>, limits: Limits) -> Self {
        let inner = Inner {
            rows: Rows::new(),
            discovery: Discovery::default(),
            openapi: OpenApi::default(),
            metrics: Metrics::default(),
            inflight: Semaphore::new(config.inflight_limit),
            ready: AtomicBool::new(false),
            tokens: Tokens::new(&config.pki.token_key, &config.settings.domain),
            tls: RwLock::new(None),
            closing: watch::Sender::new(false),
            store,
            config,
            limits,
            nodes,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Creates, or restores, the system namespaces, the `kubernetes` service and `kube-dns`. `/readyz` is good from then on.
    pub async fn bootstrap(&self) -> Result<(), crate::BootstrapError> {
        crate::bootstrap::run(self).await?;
        self.inner.ready.store(true, Ordering::Release);
        Ok(())
    }

    /// Serves TLS (HTTP/1.1 and HTTP/2) on listeners that are already bound, until `shutdown` resolves; then ends watches and drains.
    pub async fn serve(&self, listeners: Vec<tokio::net::TcpListener>, shutdown: impl Future<Output = ()> + Send) -> std::io::Result<()> {
        self.inner.tokens().map_err(std::io::Error::other)?;
        if self.inner.tls().is_none() {
            let config = tls::config(&self.inner.config.pki)?;
            self.use_tls(config);
        }
        tls::serve(self.inner.clone(), listeners, shutdown).await
    }

    /// Takes a renewed certificate into use for new connections. One that cannot be read is logged and the old one stays.
    pub fn renew(&self, pki: &Pki) {
        match tls::config(pki) {
            Ok(config) => self.use_tls(config),
            Err(error) => tracing::error!(%error, "the renewed certificate cannot be used; the old one stays"),
        }
    }

    fn use_tls(&self, config: rustls::ServerConfig) {
        *self.inner.tls.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(config));
    }

    /// Ends watches and streams of all clients, in process ones too; for when nothing is served over TLS.
    pub fn close(&self) {
        self.inner.close();
    }

    /// The same handler in process, for `kube::Client::new(server.local(identity), "default")`.
    pub fn local(&self, identity: Identity) -> Local {
        Local { inner: self.inner.clone(), identity }
    }
}

/// An in-memory tower service; the identity is fixed when it is made.
#[derive(Clone)]
pub struct Local {
    inner: Arc<Inner>,
    identity: Identity,
}

impl<B> tower::Service<http::Request<B>> for Local
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let inner = self.inner.clone();
        let caller = Caller { identity: self.identity.clone(), local: true };
        let request = request.map(|body| -> Incoming { body.map_err(std::io::Error::other).boxed_unsync() });
        Box::pin(async move { Ok(inner.handle(request, caller).await) })
    }
}
