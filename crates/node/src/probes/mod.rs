//! Startup, readiness and liveness probes: one task each, which tells the pod's worker when its verdict changes.
//!
//! A container that is starting is asked more often than its period says, so that a pod is Ready when its server answers and not a period
//! later. Those extra questions can only find success: failures are counted, and told in events, at the period's own times.

mod grpc;
pub(crate) mod http;

use crate::pod::events::Events;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mainstay_supervisor::{Container, Exec};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// Output of a command that reaches an event.
const OUTPUT_LIMIT_BYTES: usize = 10 * 1024;

/// Which question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
    pub(crate) fn of(self, container: &Spec) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
        }
    }
}

/// Whom to ask.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) pod: Arc<Pod>,
    pub(crate) spec: Spec,
    pub(crate) container: Container,
    pub(crate) ip: Ipv4Addr,
}

/// Counts answers as upstream's prober does (pkg/kubelet/prober/worker.go).
#[derive(Debug)]
struct Tally {
    kind: Kind,
    success_threshold: i32,
    failure_threshold: i32,
    successes: i32,
    failures: i32,
    /// The last verdict told.
    healthy: bool,
}

impl Tally {
    fn new(kind: Kind, probe: &Probe, healthy: bool) -> Self {
        Self {
            kind,
            success_threshold: probe.success_threshold.unwrap_or(1).max(1),
            failure_threshold: probe.failure_threshold.unwrap_or(3).max(1),
            successes: 0,
            failures: 0,
            healthy,
        }
    }
    /// A new verdict, if the answer makes one. `counts`: asked at one of the period's own times.
    fn answer(&mut self, ok: bool, counts: bool) -> Option<bool> {
        if ok {
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
            let news = self.successes >= self.success_threshold && !self.healthy;
            self.healthy |= news;
            return news.then_some(true);
        }
        if !counts {
            return None;
        }
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        let news = self.failures >= self.failure_threshold && (self.healthy || self.kind == Kind::Startup);
        self.healthy &= !news;
        news.then_some(false)
    }
    /// Nothing has answered yet: worth asking again soon.
    fn is_starting(&self) -> bool {
        !self.healthy && self.successes == 0
    }
}

/// How soon to ask a starting container again: a tenth of the time it has been starting (a fifth where asking starts a process in it).
fn soon(starting_for: Duration, exec: bool) -> Duration {
    if exec {
        (starting_for / 5).clamp(Duration::from_millis(50), Duration::from_millis(500))
    } else {
        (starting_for / 10).clamp(Duration::from_millis(10), Duration::from_millis(250))
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default))
}

/// Asks until the task is dropped, or the container has to be stopped; `tell` hears each change of the verdict. `healthy`: the verdict so far.
pub(crate) async fn run<F, Fut>(kind: Kind, target: Target, healthy: bool, events: Events, tell: F)
where
    F: Fn(bool, String) -> Fut,
    Fut: Future<Output = ()>,
{
    let Some(probe) = kind.of(&target.spec).cloned() else { return };
    let period = seconds(probe.period_seconds, 10);
    let up_for = Duration::try_from(Timestamp::now().duration_since(Timestamp::try_from(target.container.started_at()).unwrap_or_default())).unwrap_or_default();
    let began = Instant::now().checked_sub(up_for).unwrap_or_else(Instant::now);
    let delay = Duration::from_secs(probe.initial_delay_seconds.and_then(|v| u64::try_from(v).ok()).unwrap_or(0));
    sleep_until(began + delay).await;
    let mut tally = Tally::new(kind, &probe, healthy);
    // Upstream begins at a random moment of the first period. Here the first question comes at once and can only find success.
    let mut due = Instant::now() + period;
    if kind == Kind::Liveness {
        sleep_until(due).await;
    }
    loop {
        let counts = Instant::now() >= due;
        let answer = ask(&probe, &target).await;
        if let (Err(message), true) = (&answer, counts) {
            events.warn_container(&target.pod, &target.spec.name, "Unhealthy", format!("{} probe failed: {message}", kind.word()));
        }
        let message = answer.as_ref().err().cloned().unwrap_or_default();
        if let Some(verdict) = tally.answer(answer.is_ok(), counts) {
            tell(verdict, message).await;
            if (kind == Kind::Startup) || (kind == Kind::Liveness && !verdict) {
                return;
            }
        }
        let now = Instant::now();
        while due <= now {
            due += period;
        }
        let next = if kind != Kind::Liveness && tally.is_starting() { due.min(now + soon(now - began, probe.exec.is_some())) } else { due };
        sleep_until(next).await;
    }
}

/// One question; the error is what the event says.
async fn ask(probe: &Probe, target: &Target) -> Result<(), String> {
    let limit = seconds(probe.timeout_seconds, 1);
    if let Some(exec) = &probe.exec {
        return command(&target.container, exec.command.clone().unwrap_or_default(), limit).await;
    }
    if let Some(get) = &probe.http_get {
        return http::get(get, &target.spec, target.ip, limit).await;
    }
    if let Some(tcp) = &probe.tcp_socket {
        let host = tcp.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| target.ip.to_string());
        let port = port(&tcp.port, &target.spec)?;
        return connect(&host, port, limit).await.map(drop);
    }
    if let Some(check) = &probe.grpc {
        let port = u16::try_from(check.port).map_err(|_| format!("port {} is out of range", check.port))?;
        return grpc::check(target.ip, port, check.service.as_deref().unwrap_or_default(), limit).await;
    }
    Err("the probe names no action".to_owned())
}

/// A number, or the name of one of the container's ports.
pub(crate) fn port(port: &IntOrString, spec: &Spec) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = spec.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name)).map(|p| p.container_port);
            named.or_else(|| name.parse().ok())
        }
    };
    number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0).ok_or_else(|| format!("couldn't find port: {port:?}"))
}

pub(crate) async fn connect(host: &str, port: u16, limit: Duration) -> Result<tokio::net::TcpStream, String> {
    match timeout(limit, tokio::net::TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused => Err(format!("dial tcp {host}:{port}: connect: connection refused")),
        Ok(Err(e)) => Err(format!("dial tcp {host}:{port}: {e}")),
        Err(_) => Err(format!("dial tcp {host}:{port}: i/o timeout")),
    }
}

/// Runs a command in the container; its failure is its output.
pub(crate) async fn command(container: &Container, command: Vec<String>, limit: Duration) -> Result<(), String> {
    let shown = command.join(" ");
    let mut execution = container.exec(Exec { command, tty: false, stdin: false }).await.map_err(|e| e.to_string())?;
    let (stdout, stderr) = (execution.streams.stdout.take(), execution.streams.stderr.take());
    let ended = timeout(limit, async {
        let (out, err) = tokio::join!(read(stdout), read(stderr));
        (execution.wait().await, out, err)
    })
    .await;
    match ended {
        Err(_) => {
            if let Err(error) = execution.kill().await {
                tracing::warn!(container = container.id(), %error, "a command past its time could not be killed");
            }
            Err(format!("command timed out: \"{shown}\" timed out after {}s", limit.as_secs()))
        }
        Ok((Err(error), ..)) => Err(error.to_string()),
        Ok((Ok(exit), ..)) if exit.code == 0 => Ok(()),
        Ok((Ok(_), mut out, err)) => {
            out.push_str(&err);
            Err(out)
        }
    }
}

async fn read(stream: Option<tokio::net::unix::pipe::Receiver>) -> String {
    use tokio::io::AsyncReadExt;
    let Some(mut stream) = stream else { return String::new() };
    let mut kept = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut chunk).await {
        let room = OUTPUT_LIMIT_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&chunk[..n.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `s`, `f`: an answer that counts; `S`, `F`: one asked in between. The output has a letter a verdict, or a dot.
    fn check(kind: Kind, thresholds: (i32, i32), healthy: bool, answers: &str, want: &str) {
        let probe = Probe { success_threshold: Some(thresholds.0), failure_threshold: Some(thresholds.1), ..Probe::default() };
        let mut tally = Tally::new(kind, &probe, healthy);
        let told: String = answers
            .chars()
            .map(|c| match tally.answer(c.eq_ignore_ascii_case(&'s'), c.is_lowercase()) {
                Some(true) => 'H',
                Some(false) => 'U',
                None => '.',
            })
            .collect();
        assert_eq!(told, want, "{kind:?} {answers}");
    }

    #[test]
    fn verdicts_change_only_past_their_thresholds() {
        check(Kind::Readiness, (1, 3), false, "fffs", "...H");
        check(Kind::Readiness, (1, 3), true, "ffsfff", ".....U");
        check(Kind::Readiness, (2, 1), false, "ssf", ".HU");
        check(Kind::Readiness, (1, 3), false, "FFFFS", "....H");
        check(Kind::Liveness, (1, 2), true, "fsff", "...U");
        check(Kind::Startup, (1, 3), false, "FfFfFf", ".....U");
        check(Kind::Startup, (1, 3), false, "fFS", "..H");
    }

    #[test]
    fn a_port_may_go_by_its_name() {
        let spec: Spec = serde_json::from_value(serde_json::json!({"name": "c", "ports": [{"name": "web", "containerPort": 80}]})).unwrap();
        assert_eq!(port(&IntOrString::String("web".into()), &spec), Ok(80));
        assert_eq!(port(&IntOrString::Int(81), &spec), Ok(81));
        assert!(port(&IntOrString::String("none".into()), &spec).is_err());
    }
}
