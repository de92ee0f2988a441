//! `examples/postgres-cross-region`: a set that follows another namespace's, and takes over.

use crate::own::{Own, example, exec, kill_pod, ready};
use mainstay_e2e::{Kubectl, Machine, Writer, eventually, lost};
use std::time::Duration;

pub(crate) const TESTS: &[crate::Test] = &[("the_other_region_follows_by_name_and_is_promoted", promoted)];
pub(crate) const OWN: &[crate::OwnTest] = &[("the_other_region_follows_while_the_engine_is_killed", engine_killed)];

const INSERT: &str = r#"PGCONNECT_TIMEOUT=3 psql -h postgres-primary-0.postgres-primary -U postgres -v ON_ERROR_STOP=1 -qc "INSERT INTO w VALUES ($1)""#;

fn psql(k: &Kubectl, pod: &str, sql: &str) -> Result<String, String> {
    exec(k, pod, &["psql", "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-Atc", sql])
}

fn story(machine: &Machine, mishap: &dyn Fn()) {
    let (a, b) = (machine.kubectl().within("region-a"), machine.kubectl().within("region-b"));
    a.ok(&["apply", "-f", &example("postgres-cross-region/region-a.yaml")]);
    b.ok(&["apply", "-f", &example("postgres-cross-region/region-b.yaml")]);
    ready(&a, "postgres-primary", 1, 120);
    ready(&b, "postgres-replica", 1, 120);
    psql(&a, "postgres-primary-0", "CREATE TABLE w (n bigint PRIMARY KEY)").expect("the primary takes writes");
    let writer = Writer::start(&a, "writer", "postgres:15", &[("PGPASSWORD", "change-me")], INSERT);
    mishap();
    kill_pod(&b, "postgres-replica-0");
    ready(&b, "postgres-replica", 1, 90);
    // The primary returns with another address; the name leads there.
    kill_pod(&a, "postgres-primary-0");
    ready(&a, "postgres-primary", 1, 90);
    writer.advances(10, 60);
    let acknowledged = writer.stop();
    let rows = psql(&a, "postgres-primary-0", "SELECT n FROM w ORDER BY n").expect("rows");
    assert_eq!(lost(&acknowledged, &rows), Vec::<u64>::new());
    eventually("region B has every row", Duration::from_secs(60), || match psql(&b, "postgres-replica-0", "SELECT n FROM w ORDER BY n") {
        Ok(found) if found == rows => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(psql(&b, "postgres-replica-0", "INSERT INTO w VALUES (-1)").expect_err("a replica").contains("read-only"));
    a.ok(&["scale", "statefulset/postgres-primary", "--replicas=0"]);
    a.ok(&["wait", "--for=delete", "pod/postgres-primary-0", "--timeout=60s"]);
    assert_eq!(psql(&b, "postgres-replica-0", "SELECT pg_promote()"), Ok("t".into()));
    psql(&b, "postgres-replica-0", "INSERT INTO w VALUES (-1)").expect("it takes writes now");
    kill_pod(&b, "postgres-replica-0");
    ready(&b, "postgres-replica", 1, 90);
    assert_eq!(psql(&b, "postgres-replica-0", "SELECT pg_is_in_recovery(), min(n) FROM w"), Ok("f|-1".into()), "and stays the primary");
    machine.kubectl().ok(&["delete", "namespace", "region-a", "region-b", "--wait=false"]);
}

fn promoted(machine: &Machine) {
    story(machine, &|| ());
}

fn engine_killed() {
    let machine = Own::start("regions", 16465, &["postgres"]);
    story(&machine, &|| machine.kill_and_up());
}
