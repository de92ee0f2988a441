//! `httpGet`: one HTTP/1.1 request; the status decides, the body is not read.

use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// A status line is shorter.
const HEAD_LIMIT_BYTES: usize = 1024;

/// 200–399 is success. Upstream: pkg/probe/http.
pub(crate) async fn get(action: &HTTPGetAction, container: &Container, ip: Ipv4Addr, limit: Duration) -> Result<(), String> {
    let port = super::port(&action.port, container)?;
    let host = action.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| ip.to_string());
    let path = action.path.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| "/".into());
    let path = if path.starts_with('/') { path } else { format!("/{path}") };
    let tls = action.scheme.as_deref() == Some("HTTPS");
    let url = format!("{}://{host}:{port}{path}", if tls { "https" } else { "http" });
    let request = request(action, &host, port, &path);
    let code = timeout(limit, async {
        let stream = super::connect(&host, port, limit).await?;
        if tls { exchange(encrypt(stream, &host).await?, &request).await } else { exchange(stream, &request).await }
    })
    .await
    .unwrap_or_else(|_| Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned()))
    .map_err(|e| format!("Get \"{url}\": {e}"))?;
    if (200..400).contains(&code) { Ok(()) } else { Err(format!("HTTP probe failed with statuscode: {code}")) }
}

fn request(action: &HTTPGetAction, host: &str, port: u16, path: &str) -> String {
    let mut text = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n");
    let headers = action.http_headers.as_deref().unwrap_or(&[]);
    let has = |name: &str| headers.iter().any(|h| h.name.eq_ignore_ascii_case(name));
    if !has("Host") {
        text.push_str(&format!("Host: {host}:{port}\r\n"));
    }
    if !has("User-Agent") {
        text.push_str("User-Agent: kube-probe/1.36\r\n");
    }
    if !has("Accept") {
        text.push_str("Accept: */*\r\n");
    }
    let clean = |s: &str| s.replace(['\r', '\n'], " ");
    headers.iter().for_each(|h| text.push_str(&format!("{}: {}\r\n", clean(&h.name), clean(&h.value))));
    text.push_str("\r\n");
    text
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Result<u16, String> {
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    let mut head = Vec::new();
    let mut chunk = [0; 256];
    while !head.contains(&b'\n') && head.len() < HEAD_LIMIT_BYTES {
        match stream.read(&mut chunk).await.map_err(|e| e.to_string())? {
            0 => return Err("EOF".to_owned()),
            n => head.extend_from_slice(&chunk[..n]),
        }
    }
    let line = String::from_utf8_lossy(&head);
    let line = line.lines().next().unwrap_or_default();
    line.strip_prefix("HTTP/")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| format!("malformed HTTP response {line:?}"))
}

/// The certificate is not checked, as upstream: what is asked is whether the server answers.
async fn encrypt(stream: tokio::net::TcpStream, host: &str) -> Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|e| e.to_string())
}

#[derive(Debug)]
struct Unchecked(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_status_decides() {
        for (answer, want) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Ok(())),
            ("HTTP/1.0 302 Found\r\n\r\n", Ok(())),
            ("HTTP/1.1 503 No\r\n\r\n", Err("HTTP probe failed with statuscode: 503".to_owned())),
        ] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = i32::from(listener.local_addr().unwrap().port());
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 512];
                let n = stream.read(&mut buffer).await.unwrap();
                assert!(String::from_utf8_lossy(&buffer[..n]).starts_with("GET /healthz HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
            let action = HTTPGetAction { path: Some("healthz".into()), port: k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(port), ..HTTPGetAction::default() };
            let got = get(&action, &Container::default(), Ipv4Addr::LOCALHOST, Duration::from_secs(5)).await;
            assert_eq!(got, want, "{answer}");
        }
    }

    #[tokio::test]
    async fn a_server_with_a_certificate_that_nobody_signed_is_probed_over_tls() {
        let made = rcgen::generate_simple_self_signed(vec!["db".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = i32::from(listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
            let mut buffer = [0; 512];
            let _ = stream.read(&mut buffer).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let _ = stream.shutdown().await;
        });
        let port = k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(port);
        let action = HTTPGetAction { port, scheme: Some("HTTPS".into()), ..HTTPGetAction::default() };
        assert_eq!(get(&action, &Container::default(), Ipv4Addr::LOCALHOST, Duration::from_secs(5)).await, Ok(()));
    }
}
