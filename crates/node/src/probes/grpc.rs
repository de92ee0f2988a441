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

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    /// Answers one connection as a gRPC server does: head, one message (if any), trailers.
    async fn serve(state: Option<u8>, status: &'static str) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| async move {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let body = request.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(&body[..], b"\0\0\0\0\x04\x0a\x02db");
                let message = state.map(|s| Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 0x08, s])));
                let trailers = http::HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static(status))]);
                let frames = message.into_iter().chain([Frame::trailers(trailers)]).map(Ok::<_, std::convert::Infallible>);
                let answer = http::Response::builder().header("content-type", "application/grpc").body(StreamBody::new(futures::stream::iter(frames)));
                Ok::<_, http::Error>(answer.unwrap())
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
        port
    }

    #[tokio::test]
    async fn the_health_services_answer_decides() {
        for (state, status, want) in [
            (Some(1), "0", Ok(())),
            (Some(2), "0", Err("service unhealthy (responded with 2)")),
            (None, "12", Err("error: health rpc probe failed: grpc status 12")),
        ] {
            let port = serve(state, status).await;
            let got = check(Ipv4Addr::LOCALHOST, port, "db", Duration::from_secs(5)).await;
            assert_eq!(got, want.map_err(str::to_owned));
        }
    }
}
