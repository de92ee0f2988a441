//! What the server is told at start.

use mainstay_api::Settings;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// Keys and certificates, PEM. Made and renewed by `mainstay::pki`.
#[derive(Clone)]
pub struct Pki {
    /// Signs client certificates; what clients trust.
    pub ca_certificate: String,
    /// The server's chain.
    pub server_certificate: String,
    /// The server's key, PKCS#8.
    pub server_key: String,
    /// Signs ServiceAccount tokens: ECDSA P-256, PKCS#8 PEM.
    pub token_key: String,
}

/// Keys stay out of logs.
impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").finish_non_exhaustive()
    }
}

/// Where a node's kubelet-like service (`log`, `exec`, `attach`) listens: HTTP/1.1 on a unix socket. Paths are
/// `/containerLogs/<namespace>/<pod>/<container>?…`, `/exec/<namespace>/<pod>/<container>?…`, `/attach/…`, `/portForward/<namespace>/<pod>` with the API's own
/// query parameters; upgrades pass through byte by byte.
pub trait NodeEndpoints: Send + Sync + 'static {
    /// The socket of a node, if it is known.
    fn socket(&self, node: &str) -> Option<PathBuf>;
}

/// Everything else.
#[derive(Clone, Debug)]
pub struct Config {
    /// Keys and certificates.
    pub pki: Pki,
    /// Service range, node ports, domain.
    pub settings: Settings,
    /// `v1.36.3`-like version this server speaks, and our own, for `/version`.
    pub git_version: String,
    /// Bytes of a request body. 3 MiB upstream.
    pub body_limit_bytes: usize,
    /// Requests in flight, watches not counted; past it 429.
    pub inflight_limit: usize,
    /// Where pods reach this server: the endpoint of the `kubernetes` service.
    pub api_endpoint: (Ipv4Addr, u16),
    /// Where pods reach the cluster's DNS: the endpoint of the `kube-dns` service.
    pub dns_endpoint: (Ipv4Addr, u16),
}

/// How long a client may make a connection wait, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the connection to the end of the TLS handshake.
    pub handshake: Duration,
    /// To the end of a request's headers, and between two requests of HTTP/1.1; upstream closes at 32 s.
    pub headers: Duration,
    /// From the handshake to the first request.
    pub first_request: Duration,
    /// To the end of a request's body; upstream's `--request-timeout`.
    pub body: Duration,
    /// After which a client that no longer answers is given up, at most and to the second: a watcher whose machine is gone.
    pub silence: Duration,
    /// Connections at once. Past it new ones are closed: a client tries again.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(30),
            first_request: Duration::from_secs(30),
            body: Duration::from_secs(60),
            silence: Duration::from_secs(60),
            connections: 20_000,
        }
    }
}
