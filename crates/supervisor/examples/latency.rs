//! Hot launch and exec latency. `cargo run --release --example latency` as root; prints medians of 40.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};
use support::{Host, exec};

fn summary(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!("{what}: median {:.2} ms, p90 {:.2} ms, least {:.2} ms, n = {}", at(0.5), at(0.9), at(0.0), times.len());
}

/// Proportional set size of a process, in KiB, and its private dirty part.
fn pss(pid: i32) -> (u64, u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    (field("Pss:"), field("Private_Dirty:"), field("Rss:"))
}

#[tokio::main]
async fn main() {
    let host = Host::new();
    let (mut launches, mut execs, mut removes) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..43 {
        let launch = host.command(&format!("c{round}"), &["sleep", "1000"]);
        let begin = Instant::now();
        let container = host.launch(launch).await;
        let launched = begin.elapsed();
        let begin = Instant::now();
        let mut execution = container.exec(exec(&["true"])).await.unwrap();
        assert_eq!(execution.wait().await.unwrap().code, 0);
        let executed = begin.elapsed();
        let begin = Instant::now();
        container.kill_all().await.unwrap();
        container.wait().await;
        container.remove().await.unwrap();
        if round >= 3 {
            launches.push(launched);
            execs.push(executed);
            removes.push(begin.elapsed());
        }
    }
    summary("launch (call to return)", launches);
    summary("exec true (call to exit code)", execs);
    summary("kill, wait, remove", removes);

    let mut containers = Vec::new();
    for number in 0..10 {
        containers.push(host.launch(host.command(&format!("m{number}"), &["sleep", "1000"])).await);
    }
    let mut sizes = Vec::new();
    for entry in std::fs::read_dir(host.dir.path().join("containers")).unwrap().flatten() {
        let supervisor = mainstay_supervisor::protocol::read_record::<mainstay_supervisor::process::Process>(&entry.path(), "supervisor.json");
        if let Ok(Some(supervisor)) = supervisor {
            sizes.push(pss(supervisor.pid));
        }
    }
    sizes.sort();
    println!("ten supervisors: (PSS, private dirty, RSS) in KiB each, sorted: {sizes:?}");
    for container in containers {
        container.kill_all().await.unwrap();
        container.wait().await;
        container.remove().await.unwrap();
    }
}
