//! A thousand watchers of one collection.

use super::load::COLLECTION;
use crate::api::{Api, request, request_http2};
use crate::figure::{Figure, Target, Unit};
use crate::lab::Lab;
use crate::machine::Machine;
use crate::manifests::config_map;
use crate::process;
use anyhow::{Context as _, Result, ensure};
use http_body_util::BodyExt as _;
use hyper::Method;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

const WATCHERS: usize = 1000;
/// Streams on one HTTP/2 connection.
const STREAMS: usize = 100;
const WRITERS: usize = 8;
const WRITES: u64 = 100;

pub(crate) async fn run(lab: &Lab) -> Result<Vec<Figure>> {
    let mut machine = lab.other_machine("fan-out")?;
    machine.up()?;
    let api = machine.api()?;
    let mut connection = api.connect().await?;
    for i in 0..WRITERS {
        connection.send(request(Method::POST, COLLECTION, config_map(&format!("w-{i}"), 0).into())).await?;
    }
    let version = connection.get(&format!("{COLLECTION}?limit=1")).await?["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let path = format!("{COLLECTION}?watch=true&resourceVersion={version}");
    let own = measure(lab, &machine, &api, Kind::Connections, &path).await?;
    let version = connection.get(&format!("{COLLECTION}?limit=1")).await?["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let path = format!("{COLLECTION}?watch=true&resourceVersion={version}");
    let shared = measure(lab, &machine, &api, Kind::Streams, &path).await?;
    machine.purge()?;
    let f = &lab.floors;
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let rate = cores * 1e6 / (2.0 * f.record_us);
    Ok(vec![
        Figure::new("watch fan-out, 1,000 connections", Unit::PerSecond, own.0)
            .target(Target::AtLeast(150_000.0))
            .real("51,600/s")
            .floor(rate, format!("{cores:.0} cores that encrypt and write a 1.2 KB record an event, and read and decrypt it; bound by CPU, half of it the client's"))
            .note(format!("{WRITES} updates by {WRITERS} writers a run; each watcher has a TLS connection of its own and only counts lines")),
        Figure::new("watch fan-out, server CPU an event, 1,000 connections", Unit::Microseconds, own.1)
            .target(Target::AtMost(4.0))
            .real("15.6 µs")
            .floor(f.record_us, "encrypting 1.2 KB and one write(2) an event, a reader woken by each; less is possible only by writing several events at once"),
        Figure::new("watch fan-out, 10 HTTP/2 connections of 100 watches", Unit::PerSecond, shared.0).target(Target::AtLeast(150_000.0)).real("51,600/s").floor(rate, "as above"),
        Figure::new("watch fan-out, server CPU an event, HTTP/2", Unit::Microseconds, shared.1)
            .target(Target::AtMost(4.0))
            .real("15.6 µs")
            .floor(1200.0 / f.tls_mb_per_s, "encrypting 1.2 KB in large records"),
    ])
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Connections,
    Streams,
}

/// Events a second, and µs of server CPU an event, of each run.
async fn measure(lab: &Lab, machine: &Machine, api: &Api, kind: Kind, path: &str) -> Result<(Vec<f64>, Vec<f64>)> {
    let seen = Arc::new(AtomicU64::new(0));
    let mut watchers = JoinSet::new();
    if kind == Kind::Connections {
        for _ in 0..WATCHERS {
            connection(api, path, &seen, &mut watchers).await?;
        }
    } else {
        for _ in 0..WATCHERS / STREAMS {
            streams(api, path, &seen, &mut watchers).await?;
        }
    }
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for run in 0..lab.runs(20) {
        let (begun, before, cpu) = (Instant::now(), seen.load(Ordering::Relaxed), process::cpu_s(machine.pid)?);
        write(api, run as u64).await?;
        let events = WRITES * WATCHERS as u64;
        while seen.load(Ordering::Relaxed) - before < events {
            ensure!(begun.elapsed() < Duration::from_secs(60), "{} of {events} events came within 60 s", seen.load(Ordering::Relaxed) - before);
            if let Some(ended) = watchers.try_join_next() {
                anyhow::bail!("a watch ended: {:?}", ended?);
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        rates.push(events as f64 / begun.elapsed().as_secs_f64());
        costs.push((process::cpu_s(machine.pid)? - cpu) / events as f64 * 1e6);
    }
    Ok((rates, costs))
}

async fn write(api: &Api, run: u64) -> Result<()> {
    let mut writers = JoinSet::new();
    for i in 0..WRITERS {
        let mut connection = api.connect().await?;
        writers.spawn(async move {
            let name = format!("w-{i}");
            for n in (i as u64..WRITES).step_by(WRITERS) {
                let (status, body) = connection.send(request(Method::PUT, &format!("{COLLECTION}/{name}"), config_map(&name, run * WRITES + n + 1).into())).await?;
                ensure!(status.is_success(), "update: {status}: {}", String::from_utf8_lossy(&body));
            }
            Ok(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    Ok(())
}

/// A watch over HTTP/1.1 on a TLS connection of its own. In a chunked body, an event's line ends in a bare newline, all framing in CR LF.
async fn connection(api: &Api, path: &str, seen: &Arc<AtomicU64>, watchers: &mut JoinSet<Result<()>>) -> Result<()> {
    let mut stream = api.raw().await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: application/json\r\n\r\n").as_bytes()).await?;
    let mut head = [0; 4096];
    let n = stream.read(&mut head).await?;
    ensure!(head.starts_with(b"HTTP/1.1 200") && head[..n].windows(4).any(|w| w == b"\r\n\r\n"), "watch: {}", String::from_utf8_lossy(&head[..n]));
    let seen = seen.clone();
    watchers.spawn(async move {
        let mut buffer = [0; 8192];
        let mut last = 0;
        loop {
            let n = stream.read(&mut buffer).await?;
            ensure!(n > 0, "end of stream");
            let lines = count(&buffer[..n], last);
            last = buffer[n - 1];
            seen.fetch_add(lines, Ordering::Relaxed);
        }
    });
    Ok(())
}

/// Newlines that no CR stands before.
fn count(bytes: &[u8], mut last: u8) -> u64 {
    let mut lines = 0;
    for byte in bytes {
        lines += u64::from(*byte == b'\n' && last != b'\r');
        last = *byte;
    }
    lines
}

async fn streams(api: &Api, path: &str, seen: &Arc<AtomicU64>, watchers: &mut JoinSet<Result<()>>) -> Result<()> {
    let mut sender = api.connect_http2().await?;
    for _ in 0..STREAMS {
        sender.ready().await?;
        let response = sender.send_request(request_http2(path, api.port)?).await?;
        ensure!(response.status().is_success(), "watch: {}", response.status());
        let (mut body, seen, open) = (response.into_body(), seen.clone(), sender.clone());
        watchers.spawn(async move {
            let _open = open;
            loop {
                let frame = body.frame().await.context("end of stream")??;
                if let Some(data) = frame.data_ref() {
                    seen.fetch_add(count(data, 0), Ordering::Relaxed);
                }
            }
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn lines_of_events_are_told_from_framing_across_reads() {
        let body = b"5\r\n{}{}\n\r\n3\r\n{}\n\r\n";
        assert_eq!(count(body, 0), 2);
        for cut in 1..body.len() {
            assert_eq!(count(&body[..cut], 0) + count(&body[cut..], body[cut - 1]), 2, "cut at {cut}");
        }
    }
}
