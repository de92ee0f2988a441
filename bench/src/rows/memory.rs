//! What an idle cluster costs.

use crate::figure::{Figure, Target, Unit};
use crate::lab::{Lab, PATIENCE};
use crate::manifests::{ENDS_ON_TERM, pod, pod_spec};
use crate::process;
use crate::watch::{Objects, ready};
use anyhow::Result;
use serde_json::json;
use std::time::Duration;

const PODS: usize = 10;

pub(crate) async fn run(lab: &Lab) -> Result<Vec<Figure>> {
    settle(lab).await;
    let idle = sample(lab).await;
    let (mut connection, path) = lab.namespace("bench-memory").await?;
    let mut pods = Objects::watch(&lab.api, &path).await?;
    for i in 0..PODS {
        connection.create(&path, &pod(&format!("idle-{i}"), pod_spec(ENDS_ON_TERM, 1))).await?;
    }
    pods.until("10 pods Ready", PATIENCE, |now| now.values().filter(|p| ready(p)).count() == PODS).await?;
    settle(lab).await;
    let busy = sample(lab).await;
    connection.delete(&path, &json!({"gracePeriodSeconds": 1})).await?;
    pods.until("no pods", PATIENCE, |now| now.is_empty()).await?;
    let floor = lab.floors.process_mib;
    let words = |s: &Sample| format!("PSS {:.1} MiB; engine alone {:.1} MiB; {} processes. The containers' own processes are not counted, as the real figure's are not", s.pss, s.engine, s.processes);
    Ok(vec![
        Figure::new("memory of all processes, idle (RSS)", Unit::MiB, idle.rss.clone())
            .target(Target::AtMost(40.0))
            .real("787 MiB")
            .floor(floor, "an idle Rust process with tokio and rustls; bound by the program's own pages, the OpenAPI documents and caches")
            .note(words(&idle)),
        Figure::new("memory of all processes, 10 idle pods (RSS)", Unit::MiB, busy.rss.clone())
            .target(Target::AtMost(60.0))
            .real("1,001 MiB")
            .floor(floor, "the same; bound by one supervisor a container, whose program is shared")
            .note(words(&busy)),
    ])
}

async fn settle(lab: &Lab) {
    tokio::time::sleep(Duration::from_secs(if lab.quick { 1 } else { 10 })).await;
}

struct Sample {
    rss: Vec<f64>,
    pss: f64,
    engine: f64,
    processes: usize,
}

/// Twenty looks, a tenth of a second apart.
async fn sample(lab: &Lab) -> Sample {
    let mut sample = Sample { rss: Vec::new(), pss: 0.0, engine: 0.0, processes: 0 };
    for _ in 0..lab.runs(20) {
        let family = process::family(lab.machine.pid);
        let each: Vec<_> = family.iter().map(|pid| process::memory_mib(*pid)).collect();
        sample.rss.push(each.iter().map(|(rss, _)| rss).sum());
        sample.pss = each.iter().map(|(_, pss)| pss).sum();
        sample.engine = process::memory_mib(lab.machine.pid).0;
        sample.processes = family.len();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    sample
}

pub(crate) async fn idle_cpu(lab: &Lab) -> Result<Vec<Figure>> {
    let seconds = if lab.quick { 5 } else { 30 };
    settle(lab).await;
    let mut samples = Vec::new();
    for _ in 0..3 {
        let before = process::cpu_s(lab.machine.pid)?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        samples.push((process::cpu_s(lab.machine.pid)? - before) / seconds as f64 * 100.0);
    }
    Ok(vec![
        Figure::new("idle CPU, no pods, of a core", Unit::Percent, samples)
            .target(Target::AtMost(0.3))
            .real("5%")
            .floor(0.0, "nothing has to happen; bound by timers (leases, probes, compaction)")
            .note(format!("user and system time of the engine over {seconds} s; the kernel counts in steps of 10 ms ({:.2}%)", 1.0 / seconds as f64)),
    ])
}
