//! The server as a service: over TLS, and in process.

use crate::{Config, Identity, NodeEndpoints};
use mainstay_store::Store;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The body of every answer.
pub type Body = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, std::io::Error>;

/// The API server. Cheap to clone.
#[derive(Clone)]
pub struct Server {}

impl Server {
    /// Prepares tables; touches neither disk nor network. Creates the system namespaces and the `kubernetes` service when first asked.
    pub fn new(_store: Store, _config: Config, _nodes: Arc<dyn NodeEndpoints>) -> Self {
        todo!()
    }

    /// Serves TLS (HTTP/1.1 and HTTP/2) on listeners that are already bound, until `shutdown` resolves; then ends watches and drains.
    pub async fn serve(&self, _listeners: Vec<tokio::net::TcpListener>, _shutdown: impl Future<Output = ()> + Send) -> std::io::Result<()> {
        todo!()
    }

    /// Takes a renewed certificate into use for new connections.
    pub fn renew(&self, _pki: &crate::Pki) {
        todo!()
    }

    /// The same handler in process, for `kube::Client::new(server.local(identity), "default")`.
    pub fn local(&self, _identity: Identity) -> Local {
        todo!()
    }
}

/// An in-memory tower service; the identity is fixed when it is made.
#[derive(Clone)]
pub struct Local {}

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

    fn call(&mut self, _request: http::Request<B>) -> Self::Future {
        todo!()
    }
}
