//! `examples/postgres`: three servers that stream, and what they survive.

use mainstay_e2e::{Kubectl, Machine, eventually, repository};
use std::time::Duration;

pub(crate) const TESTS: &[crate::Test] = &[("replicas_clone_stream_and_come_back", streams)];

fn psql(k: &Kubectl, pod: &str, sql: &str) -> Result<String, String> {
    let answer = k.run(&["exec", pod, "--", "psql", "-U", "postgres", "-Atc", sql]);
    if answer.code == 0 { Ok(answer.out.trim().to_owned()) } else { Err(answer.err) }
}

fn expect(k: &Kubectl, pod: &str, sql: &str, value: &str) {
    eventually(&format!("{pod}: {sql} gives {value}"), Duration::from_secs(60), || match psql(k, pod, sql) {
        Ok(found) if found == value => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

const STREAMING: &str = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";

fn streams(machine: &Machine) {
    let k = machine.namespace("postgres");
    let example = repository().join("examples/postgres").to_string_lossy().into_owned();
    k.ok(&["apply", "-f", &example]);
    k.ok(&["rollout", "status", "statefulset/postgres", "--timeout=180s"]);
    expect(&k, "postgres-0", STREAMING, "2");
    psql(&k, "postgres-0", "CREATE TABLE t (x int); INSERT INTO t VALUES (42)").expect("the primary takes writes");
    for replica in ["postgres-1", "postgres-2"] {
        expect(&k, replica, "SELECT x FROM t", "42");
        assert!(psql(&k, replica, "INSERT INTO t VALUES (1)").expect_err("a replica is read-only").contains("read-only"));
    }
    k.ok(&["delete", "pod", "postgres-1"]);
    k.until("statefulset/postgres", "{.status.readyReplicas}", "3", 90);
    expect(&k, "postgres-1", "SELECT x FROM t", "42");
    expect(&k, "postgres-0", STREAMING, "2");
    k.ok(&["delete", "pod", "postgres-0"]);
    k.until("statefulset/postgres", "{.status.readyReplicas}", "3", 90);
    expect(&k, "postgres-0", "SELECT x FROM t", "42");
    expect(&k, "postgres-0", STREAMING, "2");
    k.ok(&["delete", "-f", &example, "--wait=false"]);
}
