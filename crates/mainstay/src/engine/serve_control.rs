//! The engine's end of `control.sock`.

use super::{Engine, VERSION};
use crate::control::{Answer, Request, Status, socket};
use crate::kubeconfig;
use anyhow::{Context as _, Result};
use mainstay_client::k8s_openapi::api::core::v1 as core;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

/// Bytes of a request.
const REQUEST_LIMIT_BYTES: u64 = 64 << 10;

/// Passes the wish to stop on to the engine.
#[derive(Clone)]
pub(super) struct Stop(mpsc::Sender<Stopping>);

/// Somebody asked for the end, and hears how it goes.
pub(super) struct Stopping {
    /// Longest time for all pods together.
    pub limit: Duration,
    steps: mpsc::UnboundedSender<String>,
    written: oneshot::Receiver<()>,
}

impl Stop {
    pub(super) fn channel() -> (Self, mpsc::Receiver<Stopping>) {
        let (send, receive) = mpsc::channel(1);
        (Self(send), receive)
    }
}

impl Stopping {
    /// Two steps at most are sent, so the channel needs no bound.
    pub(super) fn step(&self, words: &str) {
        let _ = self.steps.send(words.to_owned());
    }

    /// Tells that all is stored; returns when the asker has it.
    pub(super) async fn done(self) {
        drop(self.steps);
        let _ = tokio::time::timeout(Duration::from_secs(2), self.written).await;
    }
}

/// Binds, and answers until dropped.
pub(super) fn run(engine: Arc<Engine>, stop: Stop) -> Result<impl Future<Output = ()> + Send> {
    let path = socket(engine.data.dir());
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("bind {}", path.display()))?;
    Ok(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let (engine, stop) = (Arc::clone(&engine), stop.clone());
            tokio::spawn(async move {
                if let Err(error) = answer(stream, &engine, &stop).await {
                    tracing::warn!("control: {error:#}");
                }
            });
        }
    })
}

async fn answer(stream: UnixStream, engine: &Engine, stop: &Stop) -> Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(REQUEST_LIMIT_BYTES)).read_line(&mut line).await?;
    match serde_json::from_str(&line).context("not a request")? {
        Request::Status => say(&mut write, &Answer::Status(Box::new(status(engine).await))).await,
        Request::Down { timeout_seconds } => {
            let (steps, mut heard) = mpsc::unbounded_channel();
            let (wrote, written) = oneshot::channel();
            stop.0.send(Stopping { limit: Duration::from_secs(timeout_seconds), steps, written }).await.ok().context("already stopping")?;
            while let Some(words) = heard.recv().await {
                say(&mut write, &Answer::Step { words }).await?;
            }
            say(&mut write, &Answer::Done).await?;
            let _ = wrote.send(());
            Ok(())
        }
    }
}

async fn say(write: &mut (impl tokio::io::AsyncWrite + Unpin), answer: &Answer) -> Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    write.write_all(&line).await?;
    Ok(write.flush().await?)
}

async fn status(engine: &Engine) -> Status {
    let pods = engine.cluster.pods().list();
    let has = |conditions: Option<&Vec<core::PodCondition>>| conditions.is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    let node = engine.cluster.nodes().get("", &engine.node);
    let node_ready = node.is_some_and(|n| n.status.as_ref().and_then(|s| s.conditions.as_ref()).is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == "True")));
    let phase = |p: &core::Pod| p.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
    let data_dir = engine.data.dir().path().to_owned();
    Status {
        running: true,
        pid: std::process::id(),
        version: VERSION.to_owned(),
        url: kubeconfig::url(engine.port),
        port: engine.port,
        store_bytes: std::fs::read_dir(data_dir.join("store")).into_iter().flatten().flatten().filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum(),
        data_dir,
        node: engine.node.clone(),
        node_ready,
        pods: pods.len(),
        pods_running: pods.iter().filter(|p| phase(p) == "Running").count(),
        pods_ready: pods.iter().filter(|p| has(p.status.as_ref().and_then(|s| s.conditions.as_ref()))).count(),
        memory_bytes: resident_bytes(),
        uptime_seconds: engine.begun.elapsed().as_secs(),
        warnings: engine.network.warnings().await,
    }
}

/// `/proc/self/statm`: the second number is resident pages.
fn resident_bytes() -> u64 {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok().and_then(|t| t.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0);
    pages * 4096
}
