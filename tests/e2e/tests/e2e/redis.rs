//! `examples/redis-cluster`: six servers joined by a Job; a primary lost, and all addresses changed.

use crate::own::{Own, replace};
use mainstay_e2e::{Kubectl, Machine, Writer, eventually, lost, repository};
use std::time::Duration;

pub(crate) const TESTS: &[crate::Test] = &[("a_replica_is_promoted_and_new_addresses_are_learnt", survives)];
pub(crate) const OWN: &[crate::OwnTest] = &[("redis_cluster_while_the_engine_is_killed", engine_killed)];

const MEMBERS: [&str; 6] = ["redis-0", "redis-1", "redis-2", "redis-3", "redis-4", "redis-5"];
/// Through whichever member the number falls on; the client follows redirections.
const SET: &str = r#"redis-cli -c -h redis-$(($1 % 6)).redis set "w:$1" "$1" | grep -qx OK"#;

fn example() -> String {
    repository().join("examples/redis-cluster").to_string_lossy().into_owned()
}

fn redis(k: &Kubectl, pod: &str, words: &[&str]) -> String {
    k.run(&[&["exec", pod, "--", "redis-cli", "-c"], words].concat()).out
}

/// Every member sees all slots served and every other member connected.
#[track_caller]
fn healthy(k: &Kubectl) {
    k.until("statefulset/redis", "{.status.readyReplicas}", "6", 120);
    for pod in MEMBERS {
        eventually(&format!("{pod} sees a whole cluster"), Duration::from_secs(60), || {
            let (info, nodes) = (redis(k, pod, &["cluster", "info"]), redis(k, pod, &["cluster", "nodes"]));
            let connected = nodes.lines().filter(|l| l.contains(" connected") && !l.contains("fail")).count();
            let served = info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384") && info.contains("cluster_known_nodes:6") && info.contains("cluster_size:3");
            if served && connected == 6 { Ok(()) } else { Err(format!("{info}{nodes}")) }
        });
    }
    // Whoever replicates has caught up.
    for pod in MEMBERS {
        eventually(&format!("{pod} is linked"), Duration::from_secs(60), || {
            let state = redis(k, pod, &["info", "replication"]);
            if state.contains("role:master") || state.contains("master_link_status:up") { Ok(()) } else { Err(state) }
        });
    }
}

fn begin(k: &Kubectl) -> Writer<'_> {
    k.ok(&["apply", "-f", &example()]);
    k.ok(&["wait", "--for=condition=complete", "job/redis-create", "--timeout=180s"]);
    assert!(k.ok(&["logs", "job/redis-create"]).contains("[OK] All 16384 slots covered."));
    healthy(k);
    Writer::start(k, "writer", "redis:7.0", &[], SET)
}

/// Every key that was acknowledged is there. Replication is asynchronous: a promotion may lose what the replica had not received.
fn missing(k: &Kubectl, acknowledged: &[u64]) -> Vec<u64> {
    let keys: String = acknowledged.iter().map(|n| format!("get w:{n}\n")).collect();
    lost(acknowledged, &k.with_input(&["exec", "-i", "redis-0", "--", "redis-cli", "-c"], &keys).out)
}

fn survives(machine: &Machine) {
    machine.import(&["redis"]).expect("the image");
    let k = machine.namespace("redis");
    let writer = begin(&k);
    // Ends twice within ten seconds: the second time the kubelet waits before it starts it again, and its replica takes over.
    let id = redis(&k, "redis-0", &["cluster", "myid"]);
    eventually("a replica of redis-0 is promoted", Duration::from_secs(60), || {
        redis(&k, "redis-0", &["shutdown", "nosave", "force"]);
        let nodes = redis(&k, "redis-1", &["cluster", "nodes"]);
        if nodes.lines().any(|l| l.contains("master") && !l.contains("fail") && l.ends_with("0-5460") && !l.starts_with(id.trim())) { Ok(()) } else { Err(nodes) }
    });
    writer.advances(10, 60);
    healthy(&k);
    for pod in MEMBERS {
        replace(&k, pod, &[]);
        healthy(&k);
    }
    writer.advances(10, 60);
    let acknowledged = writer.stop();
    let promoted = missing(&k, &acknowledged);
    println!("redis cluster: {} of {} acknowledged writes missing", promoted.len(), acknowledged.len());
    assert!(promoted.len() * 100 <= acknowledged.len(), "{promoted:?}");
    // One after the other, as fast as readiness allows: there is no moment at which a key cannot be read.
    k.ok(&["rollout", "restart", "statefulset/redis"]);
    k.ok(&["rollout", "status", "statefulset/redis", "--timeout=180s"]);
    assert_eq!(missing(&k, &acknowledged), promoted);
    // All at once: every address in every nodes.conf is stale.
    k.ok(&["scale", "statefulset/redis", "--replicas=0"]);
    k.ok(&["wait", "--for=delete", "pod/redis-0", "pod/redis-5", "--timeout=90s"]);
    k.ok(&["scale", "statefulset/redis", "--replicas=6"]);
    healthy(&k);
    assert_eq!(missing(&k, &acknowledged), promoted, "a stop loses nothing");
    k.ok(&["delete", "-f", &example(), "--wait=false"]);
}

fn engine_killed() {
    let machine = Own::start("redis", 16463, &["redis"]);
    let k = machine.kubectl();
    let writer = begin(&k);
    machine.kill_and_up();
    writer.advances(10, 60);
    k.ok(&["delete", "pod", "redis-1", "redis-4"]);
    machine.kill_and_up();
    healthy(&k);
    let acknowledged = writer.stop();
    assert!(missing(&k, &acknowledged).len() * 100 <= acknowledged.len());
}
