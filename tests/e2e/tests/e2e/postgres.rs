//! `examples/postgres`: three servers that stream, and what they survive.

use crate::own::{Own, replace};
use mainstay_e2e::{Kubectl, Machine, Writer, eventually, lost, repository};
use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

pub(crate) const TESTS: &[crate::Test] = &[
    ("replicas_clone_stream_and_come_back", streams),
    ("no_acknowledged_write_is_lost_by_kills_and_a_failover", kills_and_failover),
    ("updates_go_primary_last_or_by_ondelete_primary_first", updates),
];
pub(crate) const OWN: &[crate::OwnTest] = &[("version_16_loses_no_acknowledged_write_while_the_engine_is_killed", engine_killed)];

const MEMBERS: [&str; 3] = ["postgres-0", "postgres-1", "postgres-2"];
const STREAMING: &str = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
const QUORUM: &str = r#"'ANY 1 ("postgres-0", "postgres-1", "postgres-2")'"#;
const PASSWORD: (&str, &str) = ("PGPASSWORD", "change-me");
const INSERT: &str = r#"PGCONNECT_TIMEOUT=3 psql -h postgres-primary -U postgres -v ON_ERROR_STOP=1 -qc "INSERT INTO w VALUES ($1)""#;

fn manifest() -> String {
    std::fs::read_to_string(repository().join("examples/postgres/postgres.yaml")).expect("the example")
}

/// Replication that a commit waits for.
fn synchronous(manifest: &str) -> String {
    let changed = manifest.replace("synchronous_standby_names = ''", &format!("synchronous_standby_names = {QUORUM}"));
    assert_ne!(changed, manifest);
    changed
}

fn psql(k: &Kubectl, pod: &str, sql: &str) -> Result<String, String> {
    let answer = k.run(&["exec", pod, "-c", "postgres", "--", "psql", "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-Atc", sql]);
    if answer.code == 0 { Ok(answer.out.trim().to_owned()) } else { Err(answer.err) }
}

#[track_caller]
fn expect(k: &Kubectl, pod: &str, sql: &str, value: &str) {
    eventually(&format!("{pod}: {sql} gives {value}"), Duration::from_secs(90), || match psql(k, pod, sql) {
        Ok(found) if found == value => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[track_caller]
fn formed(k: &Kubectl, primary: &str) {
    k.until("statefulset/postgres", "{.status.readyReplicas}", "3", 120);
    expect(k, primary, STREAMING, "2");
}

fn streams(machine: &Machine) {
    let k = machine.namespace("postgres");
    k.apply(&manifest());
    k.ok(&["rollout", "status", "statefulset/postgres", "--timeout=180s"]);
    formed(&k, "postgres-0");
    assert_eq!(psql(&k, "postgres-0", "SHOW max_connections"), Ok("100".into()), "the ConfigMap's settings");
    psql(&k, "postgres-0", "CREATE TABLE t (x int); INSERT INTO t VALUES (42)").expect("the primary takes writes");
    for replica in ["postgres-1", "postgres-2"] {
        expect(&k, replica, "SELECT x FROM t", "42");
        assert!(psql(&k, replica, "INSERT INTO t VALUES (1)").expect_err("a replica is read-only").contains("read-only"));
    }
    // From another pod: thirty connections reach more than one member.
    let line = "for i in $(seq 30); do psql -h postgres-read -U postgres -Atc 'SELECT inet_server_addr()'; done";
    let served = k.ok(&["run", "reader", "--rm", "-i", "--quiet", "--restart=Never", "--image=postgres:15", "--image-pull-policy=IfNotPresent", "--env=PGPASSWORD=change-me", "--", "bash", "-c", line]);
    assert!(served.lines().collect::<HashSet<_>>().len() > 1, "{served}");
    answers_through_a_forwarded_port(&k);
    for member in ["postgres-1", "postgres-0"] {
        k.ok(&["delete", "pod", member]);
        formed(&k, "postgres-0");
        expect(&k, member, "SELECT x FROM t", "42");
    }
    k.ok(&["delete", "-f", &repository().join("examples/postgres").to_string_lossy(), "--wait=false"]);
}

/// From the host, which need not have psql: the protocol's first question (may I use TLS?) has a one-letter answer.
#[track_caller]
fn answers_through_a_forwarded_port(k: &Kubectl) {
    let mut forward = k.command(&["port-forward", "service/postgres-primary", ":5432"]).stdout(Stdio::piped()).spawn().expect("kubectl runs");
    let mut line = String::new();
    // Kept open: kubectl says more, and ends when nobody can hear it.
    let mut said = BufReader::new(forward.stdout.take().expect("it was piped"));
    said.read_line(&mut line).expect("a line");
    let address = line.strip_prefix("Forwarding from ").and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| panic!("{line:?}")).to_owned();
    let mut answer = [0];
    let asked = TcpStream::connect(&address).and_then(|mut server| {
        server.set_read_timeout(Some(Duration::from_secs(20)))?;
        server.write_all(&[0, 0, 0, 8, 4, 210, 22, 47])?;
        server.read_exact(&mut answer)
    });
    let _ = forward.kill();
    let _ = forward.wait();
    asked.expect("PostgreSQL answers");
    assert!(matches!(answer, [b'N' | b'S']), "{answer:?}");
}

/// `failover.sh`, as a user runs it; the new primary.
#[track_caller]
fn fail_over(k: &Kubectl) -> String {
    let kubectl = k.command(&[]);
    let mut script = Command::new(repository().join("examples/postgres/failover.sh"));
    script.args(kubectl.get_args()).env("KUBECTL", kubectl.get_program()).envs(kubectl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = script.output().expect("bash runs it");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "failover.sh: {said}{}", String::from_utf8_lossy(&output.stderr));
    k.field("configmap/postgres-role", "{.data.primary}")
}

/// A writing client; replicas and primary killed, roughly and gently; two failovers. `mishap` happens between any two of them.
fn story(k: &Kubectl, manifest: &str, image: &str, mishap: &dyn Fn()) {
    k.apply(manifest);
    formed(k, "postgres-0");
    expect(k, "postgres-0", "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'", "2");
    psql(k, "postgres-0", "CREATE TABLE w (n bigint PRIMARY KEY)").expect("the primary takes writes");
    let writer = Writer::start(k, "writer", image, &[PASSWORD], INSERT);
    mishap();
    for (pod, how) in [("postgres-2", &[] as &[&str]), ("postgres-0", &[]), ("postgres-0", &["--grace-period=0", "--force"])] {
        replace(k, pod, how);
        writer.advances(5, 90);
        formed(k, "postgres-0");
    }
    let second = fail_over(k);
    assert_ne!(second, "postgres-0");
    mishap();
    writer.advances(5, 90);
    // The primary dies without warning, and is not waited for.
    k.ok(&["delete", "pod", &second, "--grace-period=0", "--force"]);
    let third = fail_over(k);
    assert_ne!(third, second);
    writer.advances(5, 90);
    formed(k, &third);
    let acknowledged = writer.stop();
    let rows = psql(k, &third, "SELECT count(*) FROM w").expect("rows");
    for pod in MEMBERS {
        expect(k, pod, "SELECT count(*) FROM w", &rows);
        assert_eq!(lost(&acknowledged, &psql(k, pod, "SELECT n FROM w").expect("rows")), Vec::<u64>::new(), "{pod}, of {} acknowledged", acknowledged.len());
    }
}

fn kills_and_failover(machine: &Machine) {
    let k = machine.namespace("postgres-failover");
    story(&k, &synchronous(&manifest()), "postgres:15", &|| ());
    k.ok(&["delete", "-f", &repository().join("examples/postgres").to_string_lossy(), "--wait=false"]);
}

fn engine_killed() {
    let machine = Own::start("postgres", 16464, &["postgres16"]);
    let k = machine.kubectl();
    story(&k, &synchronous(&manifest()).replace("postgres:15", "postgres:16"), "postgres:16", &|| {
        machine.kill_and_up();
    });
    assert!(psql(&k, "postgres-1", "SHOW server_version").is_ok_and(|v| v.starts_with("16.")));
}

/// The members in the order in which they started.
fn order(k: &Kubectl) -> Vec<String> {
    let mut started: Vec<(String, &str)> = MEMBERS.iter().map(|pod| (psql(k, pod, "SELECT pg_postmaster_start_time() AT TIME ZONE 'UTC'").expect("a time"), *pod)).collect();
    started.sort();
    started.into_iter().map(|(_, pod)| pod.to_owned()).collect()
}

fn updates(machine: &Machine) {
    let k = machine.namespace("postgres-updates");
    k.apply(&manifest());
    formed(&k, "postgres-0");
    k.ok(&["patch", "statefulset/postgres", "-p", r#"{"spec":{"template":{"metadata":{"annotations":{"round":"1"}}}}}"#]);
    k.ok(&["rollout", "status", "statefulset/postgres", "--timeout=180s"]);
    formed(&k, "postgres-0");
    assert_eq!(order(&k), ["postgres-2", "postgres-1", "postgres-0"], "the primary is updated last");
    k.ok(&["patch", "statefulset/postgres", "-p", r#"{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null},"template":{"metadata":{"annotations":{"round":"2"}}}}}"#]);
    for pod in MEMBERS {
        assert_eq!(k.field(&format!("pod/{pod}"), "{.metadata.annotations.round}"), "1", "nothing happens until it is deleted");
        k.ok(&["delete", "pod", pod]);
        eventually("the new pod is of the new revision", Duration::from_secs(60), || {
            let found = k.run(&["get", "pod", pod, "-o", "jsonpath={.metadata.annotations.round}"]);
            if found.out == "2" { Ok(()) } else { Err(found.err) }
        });
        formed(&k, "postgres-0");
    }
    assert_eq!(order(&k), MEMBERS, "the primary was updated first");
    k.ok(&["delete", "-f", &repository().join("examples/postgres").to_string_lossy(), "--wait=false"]);
}
