//! `pods/NAME/proxy/…` and `services/NAME/proxy/…`: plain HTTP to what listens in a pod, under the API server's own address.
//!
//! A name may say the port, `web:80` or `http:web:80`; of a service it may be the port's name. The request goes on with its method, body and
//! headers, but not with the credentials that were meant for this server.

use crate::body::Incoming;
use crate::handler::{Answer, Call};
use crate::object;
use crate::proxy::join;
use crate::status::Failure;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mainstay_store::Key;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;

/// How long a connection to a pod may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What concerns two neighbours only (RFC 9110, section 7.6.1), and what is addressed to this server.
const NOT_PASSED_ON: [HeaderName; 9] = [
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::AUTHORIZATION,
    header::HOST,
];

/// A path below `proxy`, cut behind that word: `/api/v1/namespaces/a/pods/p/proxy` and `/x/y`.
pub(crate) fn split(path: &str) -> Option<(&str, &str)> {
    const ROOT: &str = "/api/v1/namespaces/";
    let mut parts = path.strip_prefix(ROOT)?.split('/');
    let [namespace, kind, name] = [parts.next()?, parts.next()?, parts.next()?];
    if !matches!(kind, "pods" | "services") || parts.next()? != "proxy" {
        return None;
    }
    let lengths = [ROOT.len(), namespace.len(), 1, kind.len(), 1, name.len(), "/proxy".len()];
    path.split_at_checked(lengths.iter().sum())
}

/// Passes the request on.
pub(crate) async fn answer(call: &Call<'_>, parts: &Parts, body: Incoming, upgrade: Option<OnUpgrade>) -> Answer {
    let (prefix, rest) = split(parts.uri.path()).ok_or_else(Failure::no_such_path)?;
    let (scheme, name, port) = parse(call.name)?;
    if scheme == "https" {
        return Err(Failure::bad_request("proxying to a port that speaks https is not supported"));
    }
    let address = match call.row.kind.storage {
        "services" => of_service(call, name, port)?,
        _ => of_pod(call, name, port)?,
    };
    let unreachable = |why: &dyn std::fmt::Display| Failure::new(503, "ServiceUnavailable", format!("error trying to reach service: dial tcp {address}: {why}"));
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let stream = connected.map_err(|_| unreachable(&"i/o timeout"))?.map_err(|error| unreachable(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    let mut closing = call.server.closing();
    tokio::spawn(async move {
        tokio::select! {
            // How the connection ends shows in what its client has or has not got.
            _ = connection.with_upgrades() => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
    });
    let mut response = sender.send_request(request(parts, body, address, rest)?).await.map_err(|error| unreachable(&error))?;
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let mut headers = passed_on(response.headers(), switches);
    if let Some(location) = headers.get_mut(header::LOCATION) {
        relocate(location, prefix);
    }
    let mut answer = match (switches, upgrade) {
        (true, Some(client)) => {
            join(client, hyper::upgrade::on(&mut response), call.server.closing());
            Response::new(crate::body::full(""))
        }
        (true, None) => return Err(Failure::internal("the pod upgraded a request that asked for none")),
        (false, _) => {
            let status = response.status();
            let mut answer = Response::new(response.into_body().map_err(std::io::Error::other).boxed_unsync());
            *answer.status_mut() = status;
            answer
        }
    };
    if switches {
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    }
    *answer.headers_mut() = headers;
    Ok(answer)
}

fn request(parts: &Parts, body: Incoming, address: SocketAddr, rest: &str) -> Result<Request<Incoming>, Failure> {
    let path = if rest.is_empty() { "/" } else { rest };
    let uri = parts.uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let bodiless = parts.method == Method::GET || parts.method == Method::HEAD;
    let body = if bodiless { crate::body::full("") } else { body };
    let mut request = Request::builder().method(parts.method.clone()).uri(uri).body(body).map_err(Failure::internal)?;
    *request.headers_mut() = passed_on(&parts.headers, parts.headers.contains_key(header::UPGRADE));
    if bodiless {
        request.headers_mut().remove(header::CONTENT_LENGTH);
    }
    let host = HeaderValue::try_from(address.to_string()).map_err(Failure::internal)?;
    request.headers_mut().insert(header::HOST, host);
    Ok(request)
}

fn passed_on(headers: &HeaderMap, upgrades: bool) -> HeaderMap {
    let mut passed = headers.clone();
    for name in &NOT_PASSED_ON {
        if !upgrades || (*name != header::CONNECTION && *name != header::UPGRADE) {
            passed.remove(name);
        }
    }
    passed
}

/// A redirection within the pod leads to the same place through this server.
fn relocate(location: &mut HeaderValue, prefix: &str) {
    let moved = location.to_str().ok().filter(|to| to.starts_with('/') && !to.starts_with("//")).map(|to| format!("{prefix}{to}"));
    if let Some(moved) = moved.and_then(|moved| HeaderValue::try_from(moved).ok()) {
        *location = moved;
    }
}

/// `web`, `web:80`, `http:web:80`: scheme, name and port.
fn parse(name: &str) -> Result<(&str, &str, &str), Failure> {
    let parts: Vec<&str> = name.split(':').collect();
    match parts[..] {
        [name] => Ok(("", name, "")),
        [name, port] => Ok(("", name, port)),
        [scheme @ ("" | "http" | "https"), name, port] => Ok((scheme, name, port)),
        _ => Err(Failure::bad_request(format!("invalid name {name:?}: it is NAME, NAME:PORT or SCHEME:NAME:PORT"))),
    }
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|port| u16::try_from(port).ok())
}

fn read(call: &Call<'_>, resource: &str, name: &str) -> Result<Option<Value>, Failure> {
    let Some(row) = call.server.rows.find("", "v1", resource) else { return Ok(None) };
    let key: Key = object::key(row, call.namespace.unwrap_or(""), name);
    call.server.store.get(&key).map(|stored| object::read(row, &stored)).transpose()
}

/// Its address, and the port that is named or else its first (pkg/registry/core/pod/strategy.go, `ResourceLocation`).
fn of_pod(call: &Call<'_>, name: &str, port: &str) -> Result<SocketAddr, Failure> {
    let pod = read(call, "pods", name)?.ok_or_else(|| Failure::not_found(call.row.kind, name))?;
    let ip = pod.pointer("/status/podIP").and_then(Value::as_str).unwrap_or("");
    let ip: IpAddr = ip.parse().map_err(|_| Failure::bad_request(format!("pod {name} has no IP address yet")))?;
    let mut ports = list(&pod, "/spec/containers").iter().flat_map(|container| list(container, "/ports"));
    let port = match port {
        "" => ports.find_map(|port| number(&port["containerPort"])).unwrap_or(80),
        port => {
            let named = ports.find(|known| known["name"] == port).and_then(|known| number(&known["containerPort"]));
            named.or_else(|| port.parse().ok()).ok_or_else(|| Failure::bad_request(format!("invalid port {port:?}")))?
        }
    };
    allowed(ip, port)
}

/// One of its ready endpoints (pkg/registry/core/service/storage/storage.go, `ResourceLocation`).
fn of_service(call: &Call<'_>, name: &str, port: &str) -> Result<SocketAddr, Failure> {
    let unavailable = |message: String| Failure::new(503, "ServiceUnavailable", message);
    let service = read(call, "services", name)?.ok_or_else(|| Failure::not_found(call.row.kind, name))?;
    let ports = list(&service, "/spec/ports");
    let chosen = match (port, ports) {
        ("", [only]) => Some(only),
        ("", _) => ports.iter().find(|port| port["name"].as_str().unwrap_or("").is_empty()),
        (port, _) => ports.iter().find(|known| known["name"] == port || port.parse().is_ok_and(|port: u16| number(&known["port"]) == Some(port))),
    };
    let chosen = chosen.ok_or_else(|| unavailable(format!("no service port {port:?} found for service {name:?}")))?;
    let wanted = chosen["name"].as_str().unwrap_or("");
    let endpoints = read(call, "endpoints", name)?.unwrap_or_default();
    let mut ready = Vec::new();
    for subset in list(&endpoints, "/subsets") {
        let port = list(subset, "/ports").iter().find(|port| port["name"].as_str().unwrap_or("") == wanted).and_then(|port| number(&port["port"]));
        let ips = list(subset, "/addresses").iter().filter_map(|address| address["ip"].as_str()?.parse().ok());
        ready.extend(port.into_iter().flat_map(|port| ips.clone().map(move |ip: IpAddr| (ip, port))));
    }
    // Any will do, and not always the same: requests are spread by the clock.
    let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos() as usize / 1000);
    let (ip, port) = ready.get(at % ready.len().max(1)).copied().ok_or_else(|| unavailable(format!("no endpoints available for service {name:?}")))?;
    allowed(ip, port)
}

/// This machine's own services are no pod's (apimachinery pkg/util/proxy and CVE-2020-8562).
fn allowed(ip: IpAddr, port: u16) -> Result<SocketAddr, Failure> {
    let own = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if own || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() {
        return Err(Failure::bad_request("address not allowed"));
    }
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cut_behind_the_word_proxy() {
        for (path, expected) in [
            ("/api/v1/namespaces/a/pods/p/proxy", Some(("/api/v1/namespaces/a/pods/p/proxy", ""))),
            ("/api/v1/namespaces/a/services/http:s:80/proxy/x/y/", Some(("/api/v1/namespaces/a/services/http:s:80/proxy", "/x/y/"))),
            ("/api/v1/namespaces/a/pods/p/proxyx", None),
            ("/api/v1/namespaces/a/pods/p", None),
            ("/api/v1/namespaces/a/secrets/p/proxy", None),
            ("/api/v1/pods/p/proxy", None),
        ] {
            assert_eq!(split(path), expected, "{path}");
        }
    }

    #[test]
    fn names_may_have_a_scheme_and_a_port() {
        let check = |name: &'static str| parse(name).map_err(|failure| failure.code());
        assert_eq!(check("web"), Ok(("", "web", "")));
        assert_eq!(check("web:http"), Ok(("", "web", "http")));
        assert_eq!(check("https:web:443"), Ok(("https", "web", "443")));
        assert_eq!(check("ftp:web:21"), Err(400));
        assert_eq!(check("a:b:c:d"), Err(400));
    }

    #[test]
    fn this_machines_own_addresses_are_not_reached() {
        for (ip, fine) in [("10.42.0.5", true), ("127.0.0.1", false), ("169.254.169.254", false), ("0.0.0.0", false), ("::1", false), ("224.0.0.1", false)] {
            assert_eq!(allowed(ip.parse().unwrap(), 80).is_ok(), fine, "{ip}");
        }
    }

    #[test]
    fn redirections_stay_below_the_proxy() {
        for (to, expected) in [("/login", "/p/proxy/login"), ("//other/", "//other/"), ("http://other/", "http://other/")] {
            let mut location = HeaderValue::from_static(to);
            relocate(&mut location, "/p/proxy");
            assert_eq!(location, expected);
        }
    }
}
