//! Ten thousand objects: what listing them takes, and what keeping them costs.

use super::load::{COLLECTION, fill};
use crate::api::request;
use crate::figure::{Figure, Target, Unit};
use crate::lab::Lab;
use crate::process;
use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Method;
use std::time::{Duration, Instant};

const OBJECTS: u64 = 10_000;

pub(crate) async fn run(lab: &Lab) -> Result<Vec<Figure>> {
    let (mut lists, mut costs, mut bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..lab.runs(3) {
        let mut machine = lab.other_machine("objects")?;
        machine.up()?;
        let api = machine.api()?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let before = process::memory_mib(machine.pid).0;
        fill(&api, "o", OBJECTS).await?;
        // Compaction and what allocators give back.
        tokio::time::sleep(Duration::from_secs(3)).await;
        costs.push((process::memory_mib(machine.pid).0 - before) * 1024.0 * 1.024 / OBJECTS as f64);
        let mut connection = api.connect().await?;
        for _ in 0..lab.runs(20) {
            let begun = Instant::now();
            let response = connection.open(request(Method::GET, COLLECTION, Bytes::new())).await?;
            ensure!(response.status().is_success(), "list: {}", response.status());
            let mut body = response.into_body();
            bytes = 0;
            while let Some(frame) = body.frame().await {
                bytes += frame?.data_ref().map_or(0, Bytes::len);
            }
            lists.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        machine.purge()?;
    }
    let megabytes = bytes as f64 / 1e6;
    Ok(vec![
        Figure::new("LIST of 10,000, raw JSON", Unit::Milliseconds, lists)
            .target(Target::AtMost(30.0))
            .real("158 ms")
            .floor(megabytes / lab.floors.tls_mb_per_s * 1e3, format!("{megabytes:.1} MB one way over TLS on loopback, both ends on this machine; bound by encryption and copying"))
            .note("from the request to the last byte; the answer is counted, not parsed"),
        Figure::new("memory per stored 1.2 KB object", Unit::Kilobytes, costs)
            .target(Target::AtMost(4.0))
            .real("10.9 KB")
            .floor(bytes as f64 / OBJECTS as f64 / 1e3, "the object's own bytes; bound by the watch history, the index and the allocator")
            .note("growth of the engine's RSS by 10,000 creates of 64 clients on a fresh engine, 3 s after the last, by 10,000: buffers of connections and SQLite's pages are in it"),
    ])
}
