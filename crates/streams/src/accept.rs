//! The handshake.

use crate::{Session, outcome::refusal};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::future::Future;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// Bytes of the largest message a client may send; kubectl's are 32 KiB.
const MESSAGE_LIMIT_BYTES: usize = 1 << 20;

const SPDY_REFUSED: &str = "this server streams over WebSocket (v5.channel.k8s.io) and not over SPDY/3.1; use kubectl 1.31 or newer, \
                            or 1.29 and 1.30 with KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true";

/// The channel protocol that was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Without half close.
    V4,
    /// With channel 255.
    V5,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4.channel.k8s.io",
            Self::V5 => "v5.channel.k8s.io",
        }
    }

    /// The newest of those that the client offers.
    fn choose(headers: &HeaderMap) -> Option<Self> {
        let offers = |protocol: Self| {
            headers
                .get_all(header::SEC_WEBSOCKET_PROTOCOL)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(','))
                .any(|offered| offered.trim() == protocol.name())
        };
        [Self::V5, Self::V4].into_iter().find(|protocol| offers(*protocol))
    }
}

/// Answers an upgrade request with 101 and calls `serve` with the session once the connection is upgraded; answers what a client
/// expects (400, 403) when the request is no WebSocket upgrade or names no protocol known here: a client that wants SPDY gets a clear message.
pub fn accept<B, F, Fut>(mut request: Request<B>, serve: F) -> Response<String>
where
    F: FnOnce(Session) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (protocol, key) = match handshake(request.headers()) {
        Ok(agreed) => agreed,
        Err((code, message)) => return refuse(code, message),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        // The client went away between its request and our 101: there is nobody to serve.
        let Ok(io) = upgrade.await else { return };
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(MESSAGE_LIMIT_BYTES);
        config.max_frame_size = Some(MESSAGE_LIMIT_BYTES);
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, Some(config)).await;
        serve(Session::new(socket, protocol)).await;
    });

    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol.name()));
    response
}

/// What was agreed on, and the value that proves we read the client's key.
fn handshake(headers: &HeaderMap) -> Result<(Protocol, HeaderValue), (StatusCode, &'static str)> {
    let wants = |name: &str| contains_token(headers, header::UPGRADE, name);
    if wants("SPDY/3.1") {
        return Err((StatusCode::BAD_REQUEST, SPDY_REFUSED));
    }
    if !wants("websocket") || !contains_token(headers, header::CONNECTION, "upgrade") {
        return Err((StatusCode::BAD_REQUEST, "Upgrade request required"));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err((StatusCode::BAD_REQUEST, "Sec-WebSocket-Version must be 13"));
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
        return Err((StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing"));
    };
    let Some(protocol) = Protocol::choose(headers) else {
        return Err((StatusCode::FORBIDDEN, "unable to upgrade: Sec-WebSocket-Protocol must offer v5.channel.k8s.io or v4.channel.k8s.io"));
    };
    let accepted = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|_| (StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is malformed"))?;
    Ok((protocol, accepted))
}

fn contains_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}

fn refuse(code: StatusCode, message: &str) -> Response<String> {
    let reason = if code == StatusCode::FORBIDDEN { "Forbidden" } else { "BadRequest" };
    let mut response = Response::new(refusal(code.as_u16(), reason, message).to_string());
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
