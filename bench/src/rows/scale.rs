//! Ten pods at once, and how fast their names follow.

use super::start::dns_address;
use crate::dns::Resolver;
use crate::figure::{Figure, Target, Unit};
use crate::lab::{Lab, PATIENCE};
use crate::manifests::{ENDS_ON_TERM, IGNORES_TERM, SERVICE, Set, pod_spec, stateful_set};
use crate::watch::{Objects, ready};
use anyhow::Result;
use serde_json::json;
use std::time::Instant;

pub(crate) async fn run(lab: &Lab) -> Result<Vec<Figure>> {
    let (mut connection, path) = lab.namespace("bench-scale").await?;
    let mut pods = Objects::watch(&lab.api, &path).await?;
    let sets = "/apis/apps/v1/namespaces/bench-scale/statefulsets";
    let set = stateful_set("ten", "bench-scale", Set { replicas: 1, parallel: true, claims: false }, pod_spec(IGNORES_TERM, 1));
    connection.create(sets, &set).await?;
    let ready_pods = |now: &std::collections::BTreeMap<_, _>| now.values().filter(|p| ready(p)).count();
    pods.until("the first Ready", PATIENCE, |now| ready_pods(now) == 1).await?;
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..lab.runs(20) {
        for (replicas, samples) in [(10, &mut up), (1, &mut down)] {
            let begun = Instant::now();
            connection.merge(&format!("{sets}/ten"), &json!({"spec": {"replicas": replicas}})).await?;
            let at = pods.until("the set scaled", PATIENCE, |now| now.len() == replicas && ready_pods(now) == replicas).await?;
            samples.push((at - begun).as_secs_f64() * 1e3);
        }
    }
    connection.delete(&format!("{sets}/ten"), &json!({})).await?;
    pods.until("the pods gone", PATIENCE, |now| now.is_empty()).await?;
    let f = &lab.floors;
    Ok(vec![
        Figure::new("scale a Parallel set 1 → 10, all Ready", Unit::Milliseconds, up)
            .target(Target::AtMost(500.0))
            .real("1.6 s")
            .floor(9.0 * f.container_ms / 2.0 + 3.0 * f.fsync_ms, "namespaces and exec of 9 on 2 cores, 3 fdatasync; bound by CPU"),
        Figure::new("10 → 1, all gone (grace of 1 s used up)", Unit::Milliseconds, down)
            .target(Target::AtMost(1300.0))
            .real("3.5 s")
            .floor(1000.0 + 3.0 * f.fsync_ms, "the grace period, 3 fdatasync; bound by the grace period"),
    ])
}

pub(crate) async fn dns(lab: &Lab) -> Result<Vec<Figure>> {
    let (mut connection, path) = lab.namespace("bench-dns").await?;
    let resolver = Resolver::open(dns_address(&mut connection).await?).await?;
    let mut pods = Objects::watch(&lab.api, &path).await?;
    let sets = "/apis/apps/v1/namespaces/bench-dns/statefulsets";
    let mut samples = Vec::new();
    for i in 0..lab.runs(20) {
        let name = format!("s{i}");
        connection.create(sets, &stateful_set(&name, "bench-dns", Set { replicas: 1, parallel: false, claims: false }, pod_spec(ENDS_ON_TERM, 1))).await?;
        let member = format!("{name}-0");
        let at = pods.until("the pod Ready", PATIENCE, |now| now.get(&member).is_some_and(ready)).await?;
        let answered = resolver.until_answered(&format!("{member}.{SERVICE}.bench-dns.svc.cluster.local"), PATIENCE).await?;
        samples.push((answered - at).as_secs_f64() * 1e3);
        connection.delete(&format!("{sets}/{name}"), &json!({})).await?;
    }
    pods.until("the pods gone", PATIENCE, |now| now.is_empty()).await?;
    Ok(vec![
        Figure::new("Ready → headless A record answered", Unit::Milliseconds, samples)
            .target(Target::AtMost(5.0))
            .real("11 ms")
            .floor(lab.floors.fsync_ms + lab.floors.udp_ms, "one fdatasync (the EndpointSlice), a datagram there and back; bound by the disk")
            .note("from the arrival of the Ready event to the first answer with the record; questions are asked from the host, one after another, from then on"),
    ])
}
