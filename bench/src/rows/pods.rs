//! One pod: its first instruction, its replacement, its restart.

use crate::figure::{Figure, Target, Unit};
use crate::lab::{Lab, PATIENCE};
use crate::manifests::{ENDS_ON_TERM, IGNORES_TERM, SHARED, Set, pod, pod_spec, stateful_set, with_shared};
use crate::process;
use crate::watch::{Objects, ready, uid};
use anyhow::{Context as _, Result, ensure};
use nix::sys::stat::Mode;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

/// Created by us, answered by a pod's first instruction.
struct Fifo {
    receiver: pipe::Receiver,
    name: String,
}

impl Fifo {
    fn make(lab: &Lab, name: &str) -> Result<Self> {
        let path = lab.machine.shared_dir().join(name);
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o666)).with_context(|| format!("mkfifo {}", path.display()))?;
        // Open for writing too, so that a writer's end is no end of file.
        let receiver = pipe::OpenOptions::new().read_write(true).open_receiver(&path)?;
        Ok(Self { receiver, name: name.to_owned() })
    }

    /// The shell command that writes a byte to it.
    fn command(&self) -> String {
        format!("echo > {SHARED}/{}", self.name)
    }

    async fn byte(&mut self) -> Result<Instant> {
        let read = tokio::time::timeout(PATIENCE, self.receiver.read_u8()).await;
        read.context("the pod's first instruction did not run within 30 s")??;
        Ok(Instant::now())
    }
}

fn milliseconds(from: Instant, to: Instant) -> f64 {
    (to - from).as_secs_f64() * 1e3
}

pub(crate) async fn first_instruction(lab: &Lab) -> Result<Vec<Figure>> {
    let (mut connection, path) = lab.namespace("bench-first").await?;
    let mut pods = Objects::watch(&lab.api, &path).await?;
    let mut fifo = Fifo::make(lab, "first")?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for i in 0..lab.runs(30) {
        for token in [false, true] {
            let mut spec = with_shared(pod_spec(&format!("{}; {ENDS_ON_TERM}", fifo.command()), 1), &lab.machine.shared_dir());
            spec["automountServiceAccountToken"] = token.into();
            let object = pod(&format!("p{i}"), spec);
            let begun = Instant::now();
            let (created, ran) = tokio::join!(connection.create(&path, &object), fifo.byte());
            created?;
            if token { &mut with } else { &mut without }.push(milliseconds(begun, ran?));
            let name = format!("p{i}");
            pods.until("the pod Ready", PATIENCE, |now| now.get(&name).is_some_and(ready)).await?;
            connection.delete(&format!("{path}/{name}"), &json!({})).await?;
            pods.until("the pod gone", PATIENCE, |now| now.is_empty()).await?;
        }
    }
    let f = &lab.floors;
    let floor = f.container_ms + 2.0 * f.fsync_ms + f.tls_ms;
    let bound = "namespaces and exec, 2 fdatasync (create, binding), the request; bound by container set-up and the disk";
    let note = "from the sending of the request to a byte in a FIFO on the host, written by the first command of the container's shell: the shell's start and the wake-up of the reader are in it";
    Ok(vec![
        Figure::new("one pod, create → first instruction, no token", Unit::Milliseconds, without).target(Target::AtMost(25.0)).real("214 ms").floor(floor, bound).note(note),
        Figure::new("the same with the default token volume", Unit::Milliseconds, with).target(Target::AtMost(25.0)).real("519 ms").floor(floor, bound),
    ])
}

pub(crate) async fn delete(lab: &Lab) -> Result<Vec<Figure>> {
    let (mut connection, path) = lab.namespace("bench-delete").await?;
    let mut pods = Objects::watch(&lab.api, &path).await?;
    let set = stateful_set("one", "bench-delete", Set { replicas: 1, parallel: false, claims: false }, pod_spec(ENDS_ON_TERM, 30));
    connection.create("/apis/apps/v1/namespaces/bench-delete/statefulsets", &set).await?;
    pods.until("the pod Ready", PATIENCE, |now| now.values().any(ready)).await?;
    let mut samples = Vec::new();
    for _ in 0..lab.runs(20) {
        let old = uid(&pods.now["one-0"]);
        let begun = Instant::now();
        connection.delete(&format!("{path}/one-0"), &json!({})).await?;
        let at = pods.until("the replacement Ready", PATIENCE, |now| now.get("one-0").is_some_and(|p| uid(p) != old && ready(p))).await?;
        samples.push(milliseconds(begun, at));
    }
    let f = &lab.floors;
    remove_set(&mut connection, &mut pods, "bench-delete").await?;
    Ok(vec![
        Figure::new("pod deleted (exits on TERM) → replacement Ready", Unit::Milliseconds, samples)
            .target(Target::AtMost(150.0))
            .real("1.31 s")
            .floor(f.container_ms + 6.0 * f.fsync_ms, "namespaces and exec, 6 fdatasync in a row (deletion, end, removal, create, binding, Ready); bound by the disk and container set-up"),
    ])
}

async fn remove_set(connection: &mut crate::api::Connection, pods: &mut Objects, namespace: &str) -> Result<()> {
    connection.delete(&format!("/apis/apps/v1/namespaces/{namespace}/statefulsets/one"), &json!({})).await?;
    // Background deletion takes the pods; those that ignore TERM are not worth the wait.
    tokio::time::sleep(Duration::from_millis(50)).await;
    connection.delete(&format!("/api/v1/namespaces/{namespace}/pods"), &json!({"gracePeriodSeconds": 1})).await?;
    pods.until("the set's pods gone", PATIENCE, |now| now.is_empty()).await.map(drop)
}

pub(crate) async fn force_delete(lab: &Lab) -> Result<Vec<Figure>> {
    let (mut connection, path) = lab.namespace("bench-force").await?;
    let mut pods = Objects::watch(&lab.api, &path).await?;
    let mut fifo = Fifo::make(lab, "force")?;
    let spec = with_shared(pod_spec(&format!("{}; {IGNORES_TERM}", fifo.command()), 30), &lab.machine.shared_dir());
    let set = stateful_set("one", "bench-force", Set { replicas: 1, parallel: false, claims: false }, spec);
    connection.create("/apis/apps/v1/namespaces/bench-force/statefulsets", &set).await?;
    fifo.byte().await?;
    pods.until("the pod Ready", PATIENCE, |now| now.values().any(ready)).await?;
    let (mut samples, mut overlaps) = (Vec::new(), 0);
    for _ in 0..lab.runs(20) {
        let old = uid(&pods.now["one-0"]);
        let process = process::first_of_pod(&old).context("the pod has no process")?;
        let begun = Instant::now();
        connection.delete(&format!("{path}/one-0"), &json!({"gracePeriodSeconds": 0})).await?;
        fifo.byte().await?;
        overlaps += usize::from(process::runs(process));
        let at = pods.until("the replacement Ready", PATIENCE, |now| now.get("one-0").is_some_and(|p| uid(p) != old && ready(p))).await?;
        samples.push(milliseconds(begun, at));
    }
    remove_set(&mut connection, &mut pods, "bench-force").await?;
    let f = &lab.floors;
    let runs = samples.len();
    ensure!(overlaps == 0, "in {overlaps} of {runs} runs the old process still ran when the new one's first instruction did");
    Ok(vec![
        Figure::new("force delete (ignores TERM) → replacement Ready", Unit::Milliseconds, samples)
            .target(Target::AtMost(150.0))
            .real("0.59 s, the old process living on for 1.5 s")
            .floor(f.container_ms + 4.0 * f.fsync_ms, "namespaces and exec, 4 fdatasync in a row (removal, create, binding, Ready); bound by the old cgroup becoming empty")
            .note(format!("in {overlaps} of {runs} runs did the old process still run when the new one's first instruction did")),
    ])
}

pub(crate) async fn kill(lab: &Lab) -> Result<Vec<Figure>> {
    let (mut connection, path) = lab.namespace("bench-kill").await?;
    let mut pods = Objects::watch(&lab.api, &path).await?;
    let mut samples = Vec::new();
    for i in 0..lab.runs(20) {
        let name = format!("p{i}");
        connection.create(&path, &pod(&name, pod_spec(ENDS_ON_TERM, 1))).await?;
        pods.until("the pod Ready", PATIENCE, |now| now.get(&name).is_some_and(ready)).await?;
        let process = process::first_of_pod(&uid(&pods.now[&name])).context("the pod has no process")?;
        let begun = Instant::now();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), nix::sys::signal::Signal::SIGKILL)?;
        let at = pods.until("the container restarted", PATIENCE, |now| now.get(&name).is_some_and(restarted)).await?;
        samples.push(milliseconds(begun, at));
        connection.delete(&format!("{path}/{name}"), &json!({})).await?;
    }
    pods.until("the pods gone", PATIENCE, |now| now.is_empty()).await?;
    let f = &lab.floors;
    Ok(vec![
        Figure::new("container killed → restarted (first time)", Unit::Milliseconds, samples)
            .target(Target::AtMost(50.0))
            .real("423 ms (129–1,069)")
            .floor(f.container_ms + f.fsync_ms, "namespaces and exec, one fdatasync; bound by container set-up")
            .note("from `kill -9` of the container's first process to the event with restartCount 1 and ready"),
    ])
}

fn restarted(pod: &Value) -> bool {
    let status = &pod["status"]["containerStatuses"][0];
    status["restartCount"] == 1 && status["ready"] == true && ready(pod)
}
