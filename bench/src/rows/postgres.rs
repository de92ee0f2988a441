//! `examples/postgres` from apply to three streaming servers, and the same work by hand outside containers.

use crate::figure::{Figure, Unit, median};
use crate::lab::Lab;
use crate::watch::{Objects, ready};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(180);
/// Where Debian's package puts them.
const BINARIES: &str = "/usr/lib/postgresql/15/bin";
const STREAMING: &str = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";

pub(crate) async fn run(lab: &Lab) -> Result<Vec<Figure>> {
    lab.machine.import(&["postgres"])?;
    let by_hand = by_hand_possible();
    let (mut cluster, mut hand) = (Vec::new(), Vec::new());
    for i in 0..lab.runs(5) {
        cluster.push(in_cluster(lab, &format!("bench-pg-{i}")).await?);
        if by_hand.is_ok() {
            let dir = lab.machine.data_dir().with_file_name("by-hand");
            hand.push(tokio::task::spawn_blocking(move || ByHand::new(&dir)?.run()).await??);
        }
    }
    let words = "the same initdb, server starts, role and pg_basebackups by hand, without containers; bound by PostgreSQL itself";
    let figure = Figure::new("`examples/postgres`: apply → three streaming", Unit::Milliseconds, cluster);
    let mut figures = vec![match &by_hand {
        Ok(()) => figure.floor(median(&hand), words),
        Err(reason) => figure.bound(format!("the same by hand was not measured: {reason}")),
    }];
    figures[0].note = "from kubectl's start to both replicas in state `streaming` and all three pods Ready; the readiness probe's first success gates each next pod (OrderedReady)".into();
    if !hand.is_empty() {
        figures.push(Figure::new("the same by hand, without containers", Unit::Milliseconds, hand).bound("PostgreSQL itself").note(
            "initdb, a first server that makes the role and ends, as the image's entrypoint does, the server; then for each replica pg_basebackup, server, until it accepts connections; until both stream",
        ));
    }
    Ok(figures)
}

async fn in_cluster(lab: &Lab, namespace: &str) -> Result<f64> {
    let mut connection = lab.api.connect().await?;
    connection.create("/api/v1/namespaces", &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await?;
    let mut pods = Objects::watch(&lab.api, &format!("/api/v1/namespaces/{namespace}/pods")).await?;
    let begun = Instant::now();
    lab.kubectl.run(&["--namespace", namespace, "apply", "-f", "examples/postgres"], "").await?;
    pods.until("three PostgreSQL pods Ready", LIMIT, |now| now.values().filter(|p| ready(p)).count() == 3).await?;
    let address = pods.now.get("postgres-0").and_then(|p| p["status"]["podIP"].as_str()).context("postgres-0 has no address")?.to_owned();
    while streaming(lab, namespace, &address).await?.trim() != "2" {
        ensure!(begun.elapsed() < LIMIT, "the replicas do not stream");
    }
    let took = begun.elapsed().as_secs_f64() * 1e3;
    lab.kubectl.run(&["--namespace", namespace, "delete", "-f", "examples/postgres", "--wait=false"], "").await?;
    pods.until("the pods gone", LIMIT, |now: &std::collections::BTreeMap<String, Value>| now.is_empty()).await?;
    connection.delete(&format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims"), &json!({})).await?;
    Ok(took)
}

/// With the host's psql where there is one, else with kubectl's exec, which takes longer.
async fn streaming(lab: &Lab, namespace: &str, address: &str) -> Result<String> {
    let psql = Path::new(BINARIES).join("psql");
    if !psql.exists() {
        return Ok(lab.kubectl.run(&["--namespace", namespace, "exec", "postgres-0", "--", "psql", "-U", "postgres", "-Atc", STREAMING], "").await?.0);
    }
    let output = tokio::process::Command::new(psql).env("PGPASSWORD", "change-me").args(["-h", address, "-U", "postgres", "-Atc", STREAMING]).output().await?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn by_hand_possible() -> Result<(), String> {
    for program in ["initdb", "postgres", "pg_basebackup", "psql", "pg_isready"] {
        if !Path::new(BINARIES).join(program).exists() {
            return Err(format!("{BINARIES}/{program} is not on this machine"));
        }
    }
    nix::unistd::User::from_name("postgres").ok().flatten().map(drop).ok_or_else(|| "there is no user postgres".to_owned())
}

/// Three servers in a directory, on ports of loopback.
struct ByHand {
    dir: PathBuf,
    user: (u32, u32),
    ports: [u16; 3],
    servers: Vec<std::process::Child>,
}

impl ByHand {
    fn new(dir: &Path) -> Result<Self> {
        let user = nix::unistd::User::from_name("postgres")?.context("there is no user postgres")?;
        let user = (user.uid.as_raw(), user.gid.as_raw());
        std::fs::create_dir_all(dir)?;
        chown(dir, Some(user.0), Some(user.1))?;
        Ok(Self { dir: dir.to_owned(), user, ports: free_ports()?, servers: Vec::new() })
    }

    /// Milliseconds.
    fn run(mut self) -> Result<f64> {
        let begun = Instant::now();
        let first = self.data(0);
        self.done("initdb", &["-D", &first, "--auth-host=scram-sha-256", "--auth-local=trust", "--username=postgres"])?;
        std::fs::write(Path::new(&first).join("pg_hba.conf"), "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n")?;
        self.start(0)?;
        self.sql("CREATE ROLE replicator LOGIN REPLICATION")?;
        self.stop_last()?;
        self.start(0)?;
        for member in 1..3 {
            let (data, source) = (self.data(member), format!("host=127.0.0.1 port={} user=replicator application_name=hand-{member}", self.ports[0]));
            self.done("pg_basebackup", &["-d", &source, "-D", &data, "--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf"])?;
            self.start(member)?;
        }
        while self.sql(STREAMING)?.trim() != "2" {
            ensure!(begun.elapsed() < LIMIT, "the replicas started by hand do not stream");
        }
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    fn data(&self, member: usize) -> String {
        self.dir.join(format!("data-{member}")).to_string_lossy().into_owned()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(Path::new(BINARIES).join(program));
        command.uid(self.user.0).gid(self.user.1).current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    fn done(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.command(program).args(arguments).output().with_context(|| format!("run {program}"))?;
        ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn sql(&self, statement: &str) -> Result<String> {
        self.done("psql", &["-h", "127.0.0.1", "-p", &self.ports[0].to_string(), "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-Atc", statement])
    }

    /// A server with the example's settings; returns when it accepts connections.
    fn start(&mut self, member: usize) -> Result<()> {
        let port = self.ports[member].to_string();
        let mut command = self.command("postgres");
        command.args(["-D", &self.data(member), "-p", &port, "-k", &self.dir.to_string_lossy()]);
        for setting in ["listen_addresses=127.0.0.1", "shared_buffers=64MB", "wal_keep_size=256MB", "hot_standby_feedback=on", "log_min_messages=warning", "wal_retrieve_retry_interval=500ms"] {
            command.args(["-c", setting]);
        }
        self.servers.push(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("start postgres")?);
        let begun = Instant::now();
        while self.done("pg_isready", &["-q", "-h", "127.0.0.1", "-p", &port]).is_err() {
            ensure!(begun.elapsed() < LIMIT, "the server on port {port} accepts no connections");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn stop_last(&mut self) -> Result<()> {
        let Some(mut server) = self.servers.pop() else { return Ok(()) };
        interrupt(&server);
        server.wait()?;
        Ok(())
    }
}

/// A fast shutdown.
fn interrupt(server: &std::process::Child) {
    if let Ok(pid) = i32::try_from(server.id()) {
        // It may have ended by itself.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGINT);
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        for server in self.servers.iter().rev() {
            interrupt(server);
        }
        for server in &mut self.servers {
            drop(server.wait());
        }
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// Three that nobody listens on, below the ephemeral range.
fn free_ports() -> Result<[u16; 3]> {
    let mut free = (17_432..17_900).filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    let mut next = || free.next().context("no free port");
    Ok([next()?, next()?, next()?])
}
