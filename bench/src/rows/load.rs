//! Requests of many clients.

use crate::api::{Api, request};
use crate::figure::{Figure, Target, Unit, median};
use crate::lab::Lab;
use crate::machine::Machine;
use crate::manifests::config_map;
use crate::process;
use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: usize = 64;
pub(crate) const COLLECTION: &str = "/api/v1/namespaces/default/configmaps";

/// What one burst did.
struct Burst {
    per_s: f64,
    server_us: f64,
}

/// Every client sends its next request as soon as the last is answered, for a time.
async fn burst(api: &Api, engine: u32, time: Duration, make: impl Fn(u64) -> Request<Full<Bytes>> + Send + Sync + 'static) -> Result<Burst> {
    let (make, count) = (Arc::new(make), Arc::new(AtomicU64::new(0)));
    let mut connections = Vec::new();
    for _ in 0..CLIENTS {
        connections.push(api.connect().await?);
    }
    let (begun, before) = (Instant::now(), process::cpu_s(engine)?);
    let clients: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            let (make, count) = (make.clone(), count.clone());
            tokio::spawn(async move {
                while begun.elapsed() < time {
                    let (status, body) = connection.send(make(count.fetch_add(1, Ordering::Relaxed))).await?;
                    ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
                }
                Ok(())
            })
        })
        .collect();
    for client in clients {
        client.await??;
    }
    let done = count.load(Ordering::Relaxed) as f64;
    Ok(Burst { per_s: done / begun.elapsed().as_secs_f64(), server_us: (process::cpu_s(engine)? - before) / done * 1e6 })
}

fn create_request(name: &str) -> Request<Full<Bytes>> {
    request(Method::POST, COLLECTION, config_map(name, 0).into())
}

/// Twenty bursts of half a second.
async fn bursts(lab: &Lab, machine: &Machine, make: impl Fn(usize, u64) -> Request<Full<Bytes>> + Send + Sync + Clone + 'static) -> Result<(Vec<f64>, Vec<f64>)> {
    let api = machine.api()?;
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for round in 0..lab.runs(20) {
        let make = make.clone();
        let burst = burst(&api, machine.pid, Duration::from_millis(500), move |i| make(round, i)).await?;
        rates.push(burst.per_s);
        costs.push(burst.server_us);
    }
    Ok((rates, costs))
}

pub(crate) async fn create(lab: &Lab) -> Result<Vec<Figure>> {
    let mut machine = lab.other_machine("create")?;
    machine.up()?;
    let mut connection = machine.api()?.connect().await?;
    let mut alone = Vec::new();
    for i in 0..if lab.quick { 100 } else { 1000 } {
        let begun = Instant::now();
        let (status, body) = connection.send(create_request(&format!("alone-{i}"))).await?;
        alone.push(begun.elapsed().as_secs_f64() * 1e3);
        ensure!(status.is_success(), "create: {status}: {}", String::from_utf8_lossy(&body));
    }
    let (rates, costs) = bursts(lab, &machine, |round, i| create_request(&format!("c-{round}-{i}"))).await?;
    machine.purge()?;
    let f = &lab.floors;
    Ok(vec![
        Figure::new("durable creates (1.2 KB), 64 clients", Unit::PerSecond, rates)
            .target(Target::AtLeast(7000.0))
            .real("1,390/s")
            .floor(f.tls_per_s.min(CLIENTS as f64 / f.fsync_ms * 1e3), "64 TLS echoes at once, or 64 a fdatasync, whichever is less; bound by CPU that clients and server share")
            .note(format!("bursts of 0.5 s; server CPU {:.0} µs a create", median(&costs))),
        Figure::new("durable create, one client", Unit::Milliseconds, alone)
            .target(Target::AtMost(0.6))
            .real("1.5 ms")
            .floor(f.fsync_ms + f.tls_ms, "fdatasync of 4 KiB and a TLS round trip; bound by the disk"),
    ])
}

pub(crate) async fn get(lab: &Lab) -> Result<Vec<Figure>> {
    const OBJECTS: u64 = 1000;
    let mut machine = lab.other_machine("get")?;
    machine.up()?;
    let mut connection = machine.api()?.connect().await?;
    for i in 0..OBJECTS {
        connection.send(create_request(&format!("g-{i}"))).await?;
    }
    let (rates, costs) = bursts(lab, &machine, |_, i| request(Method::GET, &format!("{COLLECTION}/g-{}", i % OBJECTS), Bytes::new())).await?;
    machine.purge()?;
    Ok(vec![
        Figure::new("get, 64 clients", Unit::PerSecond, rates)
            .target(Target::AtLeast(20_000.0))
            .real("2,249/s")
            .floor(lab.floors.tls_per_s, "64 TLS echoes of 1.2 KB at once; bound by CPU that clients and server share")
            .note(format!("bursts of 0.5 s over 1,000 objects of 1.2 KB; server CPU {:.0} µs a get", median(&costs))),
    ])
}

/// Makes objects as fast as 64 clients can: `<prefix>-0` and so on.
pub(crate) async fn fill(api: &Api, prefix: &'static str, objects: u64) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let (mut connection, next) = (api.connect().await?, next.clone());
        clients.push(tokio::spawn(async move {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= objects {
                    return Ok(());
                }
                let (status, body) = connection.send(create_request(&format!("{prefix}-{i}"))).await?;
                ensure!(status.is_success(), "create: {status}: {}", String::from_utf8_lossy(&body));
            }
        }));
    }
    for client in clients {
        client.await??;
    }
    Ok(())
}
