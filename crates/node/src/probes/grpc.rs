//! `grpc`: the health protocol, `grpc.health.v1.Health/Check`, over HTTP/2 without TLS.

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::time::timeout;

const ANSWER_LIMIT_BYTES: usize = 64 * 1024;
const SERVING: u8 = 1;

pub(super) async fn check(ip: Ipv4Addr, port: u16, service: &str, limit: Duration) -> Result<(), String> {
    match timeout(limit, call(ip, port, service, limit)).await {
        Ok(result) => result,
        Err(_) => Err(format!("timeout: failed to connect service \"{ip}:{port}\" within {}s: context deadline exceeded", limit.as_secs())),
    }
}

async fn call(ip: Ipv4Addr, port: u16, service: &str, limit: Duration) -> Result<(), String> {
    let stream = super::connect(&ip.to_string(), port, limit).await?;
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{ip}:{port}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(message(service)))
        .map_err(|e| e.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let in_head = response.headers().get("grpc-status").cloned();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT_BYTES).collect().await.map_err(|e| e.to_string())?;
        let status = body.trailers().and_then(|t| t.get("grpc-status").cloned()).or(in_head);
        Ok::<_, String>((status, body.to_bytes()))
    }
    .await;
    driver.abort();
    let (status, body) = answer?;
    match status.as_ref().and_then(|s| s.to_str().ok()) {
        Some("0") => {}
        Some(code) => return Err(format!("error: health rpc probe failed: grpc status {code}")),
        None => return Err("error: health rpc probe failed: no grpc status".to_owned()),
    }
    // One message: flag, length, then field 1 as a varint.
    match body.get(5..) {
        Some([0x08, SERVING, ..]) => Ok(()),
        other => Err(format!("service unhealthy (responded with {:?})", other.and_then(|b| b.get(1)).copied().unwrap_or(0))),
    }
}

/// A HealthCheckRequest in gRPC's framing.
fn message(service: &str) -> Bytes {
    let mut body = BytesMut::new();
    if !service.is_empty() && service.len() < 128 {
        body.put_u8(0x0a);
        body.put_u8(u8::try_from(service.len()).unwrap_or(0));
        body.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(body.len()).unwrap_or(0));
    framed.extend_from_slice(&body);
    framed.freeze()
}
