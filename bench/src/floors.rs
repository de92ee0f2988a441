//! What this machine does at best for the work that cannot be left out.

use crate::api::Api;
use crate::figure::median;
use crate::kubectl::Kubectl;
use crate::process;
use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// An object's size on the wire.
const OBJECT_BYTES: usize = 1200;

/// Medians, in the unit each name ends with.
#[derive(Clone, Debug)]
pub(crate) struct Floors {
    /// `fdatasync` of 4 KiB appended to a file in the data directory.
    pub fsync_ms: f64,
    /// New network, IPC, UTS, mount and process namespaces, then fork, exec and end of a static program in them.
    pub container_ms: f64,
    /// Fork, exec and end of the program that is measured, which only prints its version.
    pub program_ms: f64,
    /// 1.2 KB there and back over TLS 1.3 on loopback.
    pub tls_ms: f64,
    /// The same with 64 connections at once, round trips a second; client and echo share the cores.
    pub tls_per_s: f64,
    /// CPU time to encrypt 1.2 KB and write it to a socket of its own.
    pub record_us: f64,
    /// One way over TLS, MB a second.
    pub tls_mb_per_s: f64,
    /// A datagram there and back on loopback.
    pub udp_ms: f64,
    /// `kubectl version --client`.
    pub kubectl_ms: f64,
    /// A Rust process with tokio and rustls, idle: this one, before it did anything.
    pub process_mib: f64,
}

impl Floors {
    pub(crate) fn words(&self) -> String {
        format!("  {self:.3?}")
    }
}

pub(crate) async fn measure(data: &Path, mainstay: &Path, kubectl: &Kubectl, quick: bool) -> Result<Floors> {
    let process_mib = process::memory_mib(std::process::id()).0;
    let n = if quick { 20 } else { 200 };
    let mut starts = Vec::new();
    for _ in 0..n / 10 {
        starts.push(kubectl.start_time().await?.as_secs_f64() * 1e3);
    }
    let (dir, program) = (data.to_owned(), mainstay.to_owned());
    let (fsync_ms, container_ms, program_ms, udp_ms) = tokio::task::spawn_blocking(move || -> Result<_> {
        Ok((fsync(&dir, n)?, containers(n / 4)?, programs(&program, n / 4)?, datagrams(n * 5)?))
    })
    .await??;
    let echo = Echo::start(data)?;
    let api = Api::from_data_dir(data, echo.port)?;
    let tls_ms = round_trips(&api, 1, n * 5).await?.0;
    let tls_per_s = round_trips(&api, 64, n * 2).await?.1;
    let (record_us, tls_mb_per_s) = one_way(&api, &echo, SMALL_RECORDS).await?;
    Ok(Floors { fsync_ms, container_ms, program_ms, tls_ms, tls_per_s, record_us, tls_mb_per_s, udp_ms, kubectl_ms: median(&starts), process_mib })
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn fsync(dir: &Path, n: usize) -> Result<f64> {
    let path = dir.join("bench-fsync");
    let mut file = std::fs::File::create(&path)?;
    let mut samples = Vec::with_capacity(n);
    for _ in 0..n {
        let begun = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        samples.push(ms(begun));
    }
    std::fs::remove_file(&path)?;
    Ok(median(&samples))
}

/// Each in a thread of its own, whose namespaces go with it.
fn containers(n: usize) -> Result<f64> {
    let program = ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(Path::new).find(|p| p.exists());
    let program: PathBuf = program.map_or_else(|| "/bin/true".into(), Path::to_path_buf);
    let one = |program: PathBuf| -> Result<f64> {
        let begun = Instant::now();
        let kinds = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
        unshare(kinds).context("unshare")?;
        let mut command = Command::new(&program);
        if program.ends_with("busybox") {
            command.arg("true");
        }
        let status = command.stdin(Stdio::null()).status()?;
        ensure!(status.success(), "{} failed", program.display());
        Ok(ms(begun))
    };
    let mut samples = Vec::with_capacity(n);
    for _ in 0..n.max(5) {
        let program = program.clone();
        samples.push(std::thread::spawn(move || one(program)).join().map_err(|_| anyhow!("the thread ended"))??);
    }
    Ok(median(&samples))
}

fn programs(mainstay: &Path, n: usize) -> Result<f64> {
    let mut samples = Vec::new();
    for _ in 0..n.max(5) {
        let begun = Instant::now();
        Command::new(mainstay).arg("version").stdout(Stdio::null()).status()?;
        samples.push(ms(begun));
    }
    Ok(median(&samples))
}

fn datagrams(n: usize) -> Result<f64> {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    client.connect(server.local_addr()?)?;
    let echo = std::thread::spawn(move || -> std::io::Result<()> {
        let mut buffer = [0; 512];
        for _ in 0..n {
            let (length, from) = server.recv_from(&mut buffer)?;
            server.send_to(&buffer[..length], from)?;
        }
        Ok(())
    });
    let mut samples = Vec::with_capacity(n);
    let mut buffer = [0; 512];
    for _ in 0..n {
        let begun = Instant::now();
        client.send(&[1; 64])?;
        client.recv(&mut buffer)?;
        samples.push(ms(begun));
    }
    echo.join().map_err(|_| anyhow!("the thread ended"))??;
    Ok(median(&samples))
}

/// What a client writes first says what the server does with the connection.
const ECHO: u8 = b'e';
const POUR: u8 = b'p';
/// Enough that a coarse CPU clock tells their cost.
const SMALL_RECORDS: usize = 20_000;
/// Bytes that are poured in large writes.
const POURED_BYTES: usize = 64 << 20;

/// A TLS server with the measured server's own certificate, a thread a connection.
struct Echo {
    port: u16,
    /// CPU time of one small record, in µs, from the thread that wrote them.
    record_us: std::sync::mpsc::Receiver<f64>,
}

impl Echo {
    fn start(data: &Path) -> Result<Self> {
        let read = |file: &str| std::fs::read(data.join("pki").join(file)).with_context(|| format!("read {file} of the engine"));
        let chain = CertificateDer::pem_slice_iter(&read("server.crt")?).collect::<Result<Vec<_>, _>>()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_slice(&read("server.key")?)?)?;
        let mut config = config;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let (tell, record_us) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, tell) = (config.clone(), tell.clone());
                // How a connection ends is the client's to see.
                std::thread::spawn(move || drop(serve(config, stream, &tell)));
            }
        });
        Ok(Self { port, record_us })
    }
}

fn serve(config: Arc<rustls::ServerConfig>, stream: std::net::TcpStream, tell: &std::sync::mpsc::Sender<f64>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut tls = rustls::StreamOwned::new(rustls::ServerConnection::new(config)?, stream);
    let mut buffer = vec![0; OBJECT_BYTES];
    tls.read_exact(&mut buffer[..1])?;
    if buffer[0] == POUR {
        let mut count = [0; 4];
        tls.read_exact(&mut count)?;
        let records = u32::from_be_bytes(count);
        let before = thread_cpu_us();
        for _ in 0..records {
            tls.write_all(&buffer)?;
        }
        let _ = tell.send((thread_cpu_us() - before) / f64::from(records));
        let large = vec![b'x'; 1 << 20];
        for _ in 0..POURED_BYTES / large.len() {
            tls.write_all(&large)?;
        }
        return Ok(tls.flush()?);
    }
    loop {
        tls.read_exact(&mut buffer)?;
        tls.write_all(&buffer)?;
    }
}

/// User and system time of this thread.
fn thread_cpu_us() -> f64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_THREAD) else { return 0.0 };
    [usage.user_time(), usage.system_time()].iter().map(|t| t.tv_sec() as f64 * 1e6 + t.tv_usec() as f64).sum()
}

/// Median of one round trip in ms, and round trips a second.
async fn round_trips(api: &Api, connections: usize, each: usize) -> Result<(f64, f64)> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        let mut stream = api.raw().await?;
        stream.write_all(&[ECHO]).await?;
        streams.push(stream);
    }
    let begun = Instant::now();
    let clients: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            tokio::spawn(async move {
                let mut buffer = [1; OBJECT_BYTES];
                let mut samples = Vec::with_capacity(each);
                for _ in 0..each {
                    let begun = Instant::now();
                    stream.write_all(&buffer).await?;
                    stream.read_exact(&mut buffer).await?;
                    samples.push(ms(begun));
                }
                Ok::<_, std::io::Error>(samples)
            })
        })
        .collect();
    let mut samples = Vec::new();
    for client in clients {
        samples.extend(client.await??);
    }
    Ok((median(&samples), samples.len() as f64 / begun.elapsed().as_secs_f64()))
}

/// CPU time of a record, and MB a second.
async fn one_way(api: &Api, echo: &Echo, records: usize) -> Result<(f64, f64)> {
    let mut stream = api.raw().await?;
    let mut order = vec![POUR];
    order.extend(u32::try_from(records)?.to_be_bytes());
    stream.write_all(&order).await?;
    let mut buffer = vec![0; 64 << 10];
    let mut left = records * OBJECT_BYTES;
    while left > 0 {
        let most = left.min(buffer.len());
        left -= some(stream.read(&mut buffer[..most]).await?)?;
    }
    let begun = Instant::now();
    let mut left = POURED_BYTES;
    while left > 0 {
        left = left.saturating_sub(some(stream.read(&mut buffer).await?)?);
    }
    let rate = POURED_BYTES as f64 / 1e6 / begun.elapsed().as_secs_f64();
    Ok((echo.record_us.recv_timeout(Duration::from_secs(10))?, rate))
}

fn some(n: usize) -> Result<usize> {
    ensure!(n > 0, "the echo closed the connection");
    Ok(n)
}
