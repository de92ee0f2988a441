//! From an HTTP request to an upgraded connection: which transport and which protocol, or why none.

use crate::outcome::refusal;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::future::Future;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// SPDY's list of what a client speaks, and what was chosen.
pub const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// What would have been accepted.
pub const ACCEPTED_STREAM_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// Protocols by name, best first. Of WebSocket's the empty name stands for a client that names none.
pub(crate) struct Protocols<T: 'static> {
    pub(crate) websocket: &'static [(&'static str, T)],
    pub(crate) spdy: &'static [(&'static str, T)],
}

/// What was agreed on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Agreed<T> {
    pub(crate) means: T,
    answer: Vec<(HeaderName, HeaderValue)>,
}

/// Why not.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    code: StatusCode,
    message: String,
    accepted: Vec<&'static str>,
}

impl Refused {
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self { code: StatusCode::BAD_REQUEST, message: message.into(), accepted: Vec::new() }
    }

    pub(crate) fn into_response(self) -> Response<String> {
        let reason = if self.code == StatusCode::FORBIDDEN { "Forbidden" } else { "BadRequest" };
        let mut response = Response::new(refusal(self.code.as_u16(), reason, &self.message).to_string());
        *response.status_mut() = self.code;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for protocol in self.accepted {
            response.headers_mut().append(ACCEPTED_STREAM_PROTOCOLS, HeaderValue::from_static(protocol));
        }
        response
    }
}

/// Whether a client asks for one of the transports spoken here.
pub fn asks_to_stream(headers: &HeaderMap) -> bool {
    asks(headers, "websocket") || asks(headers, "SPDY/3.1")
}

fn asks(headers: &HeaderMap, transport: &str) -> bool {
    tokens(headers, &header::UPGRADE).any(|token| token.eq_ignore_ascii_case(transport))
        && tokens(headers, &header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// Chooses transport and protocol.
pub(crate) fn negotiate<T: Copy>(headers: &HeaderMap, protocols: &Protocols<T>) -> Result<Agreed<T>, Refused> {
    if asks(headers, "SPDY/3.1") {
        return spdy(headers, protocols.spdy);
    }
    if !asks(headers, "websocket") {
        return Err(Refused::bad("Upgrade request required"));
    }
    websocket(headers, protocols.websocket)
}

fn spdy<T: Copy>(headers: &HeaderMap, known: &'static [(&'static str, T)]) -> Result<Agreed<T>, Refused> {
    let offered: Vec<&str> = tokens(headers, &STREAM_PROTOCOL).collect();
    if offered.is_empty() {
        return Err(Refused::bad("unable to upgrade: header X-Stream-Protocol-Version does not name a protocol"));
    }
    let Some((name, means)) = known.iter().find(|(name, _)| offered.contains(name)) else {
        let accepted: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let message = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
            offered.join(" "),
            accepted.join(" ")
        );
        return Err(Refused { code: StatusCode::FORBIDDEN, message, accepted });
    };
    let answer = vec![(header::UPGRADE, HeaderValue::from_static("SPDY/3.1")), (STREAM_PROTOCOL, HeaderValue::from_static(name))];
    Ok(Agreed { means: *means, answer })
}

fn websocket<T: Copy>(headers: &HeaderMap, known: &'static [(&'static str, T)]) -> Result<Agreed<T>, Refused> {
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refused::bad("Sec-WebSocket-Version must be 13"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| Refused::bad("Sec-WebSocket-Key is missing"))?;
    let accepted = HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| Refused::bad("Sec-WebSocket-Key is malformed"))?;
    let offered: Vec<&str> = tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).collect();
    let chosen = known.iter().find(|(name, _)| if offered.is_empty() { name.is_empty() } else { offered.contains(name) });
    let Some((name, means)) = chosen else {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
        let message = format!("unable to upgrade: Sec-WebSocket-Protocol offers [{}], and must offer one of [{}]", offered.join(" "), names.join(" "));
        return Err(Refused { code: StatusCode::FORBIDDEN, message, accepted: Vec::new() });
    };
    let mut answer = vec![(header::UPGRADE, HeaderValue::from_static("websocket")), (header::SEC_WEBSOCKET_ACCEPT, accepted)];
    if !name.is_empty() {
        answer.push((header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name)));
    }
    Ok(Agreed { means: *means, answer })
}

/// Answers 101 and calls `serve` once the connection is upgraded.
pub(crate) fn switch<B, T, F, Fut>(mut request: Request<B>, agreed: Agreed<T>, serve: F) -> Response<String>
where
    F: FnOnce(TokioIo<Upgraded>, T) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
    T: Send + 'static,
{
    let upgrade = hyper::upgrade::on(&mut request);
    let Agreed { means, answer } = agreed;
    tokio::spawn(async move {
        // An error: the client went away between its request and our 101, and there is nobody to serve.
        if let Ok(io) = upgrade.await {
            serve(TokioIo::new(io), means).await;
        }
    });
    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().extend(answer);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Protocols<u8> = Protocols { websocket: &[("new", 2), ("old", 1), ("", 0)], spdy: &[("five", 5), ("four", 4)] };

    fn check(words: &[(&'static str, &'static str)], expected: Result<u8, &str>) {
        let mut headers = HeaderMap::new();
        for (name, value) in words {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let found = negotiate(&headers, &KNOWN).map(|agreed| agreed.means).map_err(|refused| format!("{} {}", refused.code.as_u16(), refused.message));
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(*found, expected, "{words:?}"),
            (Err(found), Err(words)) => assert!(found.contains(words), "{found}"),
            _ => panic!("{words:?}: {found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn the_best_protocol_that_both_know_is_chosen() {
        let spdy = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
        let with = |more: &[(&'static str, &'static str)]| -> Vec<(&'static str, &'static str)> { spdy.iter().chain(more).copied().collect() };
        check(&with(&[("x-stream-protocol-version", "four"), ("x-stream-protocol-version", "five")]), Ok(5));
        check(&with(&[("x-stream-protocol-version", "one, four")]), Ok(4));
        check(&with(&[("x-stream-protocol-version", "one")]), Err("403 unable to upgrade: unable to negotiate protocol: client supports [one], server accepts [five four]"));
        check(&with(&[]), Err("400 unable to upgrade: header X-Stream-Protocol-Version"));
        let websocket = [("connection", "keep-alive, upgrade"), ("upgrade", "WebSocket"), ("sec-websocket-version", "13"), ("sec-websocket-key", "x")];
        let with = |more: &[(&'static str, &'static str)]| -> Vec<(&'static str, &'static str)> { websocket.iter().chain(more).copied().collect() };
        check(&with(&[("sec-websocket-protocol", "old, new")]), Ok(2));
        check(&with(&[]), Ok(0));
        check(&with(&[("sec-websocket-protocol", "chat")]), Err("403 unable to upgrade: Sec-WebSocket-Protocol offers [chat], and must offer one of [new old]"));
        check(&websocket[..2], Err("400 Sec-WebSocket-Version must be 13"));
        check(&websocket[..3], Err("400 Sec-WebSocket-Key is missing"));
        check(&[("upgrade", "h2c"), ("connection", "upgrade")], Err("400 Upgrade request required"));
        check(&[("upgrade", "SPDY/3.1")], Err("400 Upgrade request required"));
    }
}
