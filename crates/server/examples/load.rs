//! Measures the API server over TLS, in a process of its own: durable creates, gets, a LIST of 10,000, watch fan-out.
//!
//! `cargo run --release -p mainstay-server --example load [creates] [watchers]`

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mainstay_api::Settings;
use mainstay_server::{Config, NodeEndpoints, Pki, Server};
use mainstay_store::{Options, Store};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use std::error::Error;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
type Sender = http1::SendRequest<Full<Bytes>>;

const CLIENTS: usize = 64;
const PATH: &str = "/api/v1/namespaces/default/configmaps";
const PORT: u16 = 28_643;

struct NoNodes;

impl NodeEndpoints for NoNodes {
    fn socket(&self, _: &str) -> Option<PathBuf> {
        None
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let [role, dir] = arguments.as_slice()
        && role == "serve"
    {
        return runtime.block_on(serve(Path::new(dir)));
    }
    let number = |at: usize, default| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    runtime.block_on(measure(number(0, 10_000), number(1, 1_000)))
}

/// The server, with what the parent has put into the directory.
async fn serve(dir: &Path) -> Result<()> {
    let read = |name: &str| std::fs::read_to_string(dir.join(name));
    let pki = Pki { ca_certificate: read("ca.pem")?, server_certificate: read("server.pem")?, server_key: read("server.key")?, token_key: read("token.key")? };
    let config = Config {
        pki,
        settings: Settings { service_range: (Ipv4Addr::new(10, 96, 0, 0), 16), node_ports: (30_000, 32_767), domain: "cluster.local".to_owned() },
        git_version: "v1.36.3".to_owned(),
        body_limit_bytes: 3 << 20,
        inflight_limit: 400,
        api_endpoint: (Ipv4Addr::new(10, 0, 0, 1), PORT),
        dns_endpoint: (Ipv4Addr::new(10, 96, 0, 10), 53),
    };
    let server = Server::new(Store::open(&dir.join("store"), Options::default())?, config, Arc::new(NoNodes));
    server.bootstrap().await?;
    let listener = TcpListener::bind(("127.0.0.1", PORT)).await?;
    Ok(server.serve(vec![listener], std::future::pending()).await?)
}

/// Keys and certificates; answers with what a client needs.
fn make_pki(dir: &Path) -> Result<Arc<rustls::ClientConfig>> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key)?.pem();
    let issuer = rcgen::Issuer::new(params, key);
    let server_key = rcgen::KeyPair::generate()?;
    let server = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&server_key, &issuer)?.pem();
    let client_key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "load");
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:masters");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let client = params.signed_by(&client_key, &issuer)?.pem();
    std::fs::create_dir_all(dir.join("store"))?;
    for (name, text) in [("ca.pem", &ca), ("server.pem", &server), ("server.key", &server_key.serialize_pem()), ("token.key", &rcgen::KeyPair::generate()?.serialize_pem())] {
        std::fs::write(dir.join(name), text)?;
    }
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes())?)?;
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![CertificateDer::from_pem_slice(client.as_bytes())?], PrivateKeyDer::from_pem_slice(client_key.serialize_pem().as_bytes())?)?;
    Ok(Arc::new(config))
}

async fn connect(config: &Arc<rustls::ClientConfig>, alpn: &[u8]) -> Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut config = rustls::ClientConfig::clone(config);
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", PORT)).await?;
    stream.set_nodelay(true)?;
    Ok(tokio_rustls::TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost")?, stream).await?)
}

async fn client(config: &Arc<rustls::ClientConfig>) -> Result<Sender> {
    let (sender, connection) = http1::handshake(TokioIo::new(connect(config, b"http/1.1").await?)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn call(sender: &mut Sender, method: &str, path: &str, body: impl Into<Bytes>) -> Result<(u16, usize)> {
    let request = Request::builder().method(method).uri(path).header("host", "localhost").header("content-type", "application/json").body(Full::new(body.into()))?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let code = response.status().as_u16();
    let mut body = response.into_body();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        size += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok((code, size))
}

fn object(name: &str) -> String {
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","labels":{{"app":"load"}}}},"data":{{"text":"{}"}}}}"#, "x".repeat(900))
}

/// Does something `total` times from `clients` connections; answers with the rate.
async fn rate(config: &Arc<rustls::ClientConfig>, clients: usize, total: usize, work: fn(usize) -> (&'static str, String, String), good: u16) -> Result<f64> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(client(config).await?);
    }
    let start = Instant::now();
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|mut sender| {
            let next = next.clone();
            tokio::spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= total {
                        return Ok::<(), Box<dyn Error + Send + Sync>>(());
                    }
                    let (method, path, body) = work(n);
                    let (code, _) = call(&mut sender, method, &path, body).await?;
                    if code != good {
                        return Err(format!("{method} {path}: {code}").into());
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(total as f64 / start.elapsed().as_secs_f64())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// User and system time of a process.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}

async fn measure(creates: usize, watchers: usize) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("mainstay-load-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let config = make_pki(&dir)?;
    let mut child = std::process::Command::new(std::env::current_exe()?).arg("serve").arg(&dir).spawn()?;
    let result = run(&config, child.id(), creates, watchers).await;
    child.kill()?;
    child.wait()?;
    std::fs::remove_dir_all(&dir)?;
    result
}

async fn run(config: &Arc<rustls::ClientConfig>, pid: u32, creates: usize, watchers: usize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut one = loop {
        match client(config).await {
            Ok(sender) => break sender,
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    println!("idle: {} KiB RSS", rss_kib(pid));
    let mut times = Vec::new();
    for n in 0..200 {
        let start = Instant::now();
        call(&mut one, "POST", PATH, object(&format!("one-{n}"))).await?;
        times.push(start.elapsed());
    }
    println!("create, one client: p50 {:?}", median(times));
    let before = (cpu(pid), rss_kib(pid));
    let created = rate(config, CLIENTS, creates, |n| ("POST", PATH.to_owned(), object(&format!("o-{n}"))), 201).await?;
    let used = cpu(pid) - before.0;
    println!("create, {CLIENTS} clients: {created:.0}/s, server {:?} CPU each, {:.1} KiB RSS each", used / creates as u32, (rss_kib(pid) - before.1) as f64 / creates as f64);
    let before = cpu(pid);
    let got = rate(config, CLIENTS, 100_000, |n| ("GET", format!("{PATH}/o-{}", n % 1_000), String::new()), 200).await?;
    println!("get, {CLIENTS} clients: {got:.0}/s, server {:?} CPU each", (cpu(pid) - before) / 100_000);
    let mut times = Vec::new();
    let mut size = 0;
    for _ in 0..20 {
        let start = Instant::now();
        size = call(&mut one, "GET", PATH, "").await?.1;
        times.push(start.elapsed());
    }
    println!("list of {}, {} KiB: p50 {:?}", creates + 200, size / 1024, median(times));
    fan_out(config, pid, watchers).await
}

/// Many watchers of the same objects; each sees each change.
async fn fan_out(config: &Arc<rustls::ClientConfig>, pid: u32, watchers: usize) -> Result<()> {
    const EVENTS: usize = 500;
    let seen = Arc::new(AtomicUsize::new(0));
    let before = rss_kib(pid);
    for start in (0..watchers).step_by(100) {
        let stream = TokioIo::new(connect(config, b"h2").await?);
        let (sender, connection) = http2::Builder::new(TokioExecutor::new()).initial_stream_window_size(1 << 20).initial_connection_window_size(64 << 20).handshake(stream).await?;
        tokio::spawn(connection);
        for _ in start..(start + 100).min(watchers) {
            let mut sender = sender.clone();
            // A field selector keeps the objects of the earlier measurements out of the initial state.
            let uri = format!("https://localhost{PATH}?watch=true&labelSelector=app%3Dfan");
            let request = Request::builder().uri(uri).body(Full::new(Bytes::new()))?;
            let mut body = sender.send_request(request).await?.into_body();
            let seen = seen.clone();
            tokio::spawn(async move {
                while let Some(Ok(frame)) = body.frame().await {
                    let lines = frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
                    seen.fetch_add(lines, Ordering::Relaxed);
                }
            });
        }
    }
    println!("{watchers} idle watchers: {:.1} KiB RSS each", (rss_kib(pid) - before) as f64 / watchers as f64);
    let (start, before) = (Instant::now(), cpu(pid));
    rate(config, 16, EVENTS, |n| ("POST", PATH.to_owned(), object(&format!("f-{n}")).replace("load", "fan")), 201).await?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while seen.load(Ordering::Relaxed) < EVENTS * watchers && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (seen, elapsed, used) = (seen.load(Ordering::Relaxed), start.elapsed(), cpu(pid) - before);
    println!("fan-out to {watchers}: {seen} events in {elapsed:?}, {:.0}/s, server {:?} CPU each", seen as f64 / elapsed.as_secs_f64(), used / seen.max(1) as u32);
    Ok(())
}
