//! `examples/galera`: three servers that replicate synchronously; a member lost, and all of them.

use crate::own::{Own, replace};
use mainstay_e2e::{Kubectl, Machine, Writer, eventually, lost, repository};
use std::time::Duration;

pub(crate) const TESTS: &[crate::Test] = &[("a_member_and_then_all_of_them_are_lost_and_no_acknowledged_write", survives)];
pub(crate) const OWN: &[crate::OwnTest] = &[("galera_starts_again_after_down_and_a_killed_engine", engine_stops)];

const PASSWORD: &str = "change-me";
const INSERT: &str = r#"mysql -h galera-any -u root --connect-timeout=3 test -e "INSERT INTO w VALUES ($1)""#;

fn example() -> String {
    repository().join("examples/galera").to_string_lossy().into_owned()
}

fn sql(k: &Kubectl, pod: &str, text: &str) -> Result<String, String> {
    let answer = k.run(&["exec", pod, "--", "mysql", "-u", "root", &format!("-p{PASSWORD}"), "-BN", "-e", text]);
    if answer.code == 0 { Ok(answer.out.trim().to_owned()) } else { Err(answer.err) }
}

/// All three are synced members of one primary component.
#[track_caller]
fn formed(k: &Kubectl) {
    k.until("statefulset/galera", "{.status.readyReplicas}", "3", 150);
    for pod in ["galera-0", "galera-1", "galera-2"] {
        eventually(&format!("{pod} sees three members"), Duration::from_secs(60), || {
            match sql(k, pod, "SELECT GROUP_CONCAT(variable_value ORDER BY variable_name) FROM information_schema.global_status WHERE variable_name IN ('wsrep_cluster_size', 'wsrep_cluster_status', 'wsrep_local_state_comment')") {
                Ok(found) if found == "3,Primary,Synced" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
}

fn begin(k: &Kubectl) -> Writer<'_> {
    k.ok(&["apply", "-f", &example()]);
    formed(k);
    sql(k, "galera-0", "CREATE DATABASE IF NOT EXISTS test; CREATE TABLE test.w (n BIGINT PRIMARY KEY)").expect("a member takes writes");
    Writer::start(k, "writer", "mariadb:10.11", &[("MYSQL_PWD", PASSWORD)], INSERT)
}

#[track_caller]
fn nothing_is_lost(k: &Kubectl, writer: Writer<'_>) {
    let acknowledged = writer.stop();
    for pod in ["galera-0", "galera-1", "galera-2"] {
        let found = sql(k, pod, "SET SESSION wsrep_sync_wait = 1; SELECT n FROM test.w").expect("rows");
        assert_eq!(lost(&acknowledged, &found), Vec::<u64>::new(), "{pod} of {} acknowledged", acknowledged.len());
    }
}

fn survives(machine: &Machine) {
    machine.import(&["mariadb"]).expect("the image");
    let k = machine.namespace("galera");
    let writer = begin(&k);
    replace(&k, "galera-0", &[]);
    writer.advances(10, 60);
    formed(&k);
    replace(&k, "galera-2", &["--grace-period=0", "--force"]);
    writer.advances(10, 60);
    formed(&k);
    // A full stop in order, and one without warning.
    k.ok(&["scale", "statefulset/galera", "--replicas=0"]);
    k.ok(&["wait", "--for=delete", "pod/galera-0", "pod/galera-1", "pod/galera-2", "--timeout=90s"]);
    k.ok(&["scale", "statefulset/galera", "--replicas=3"]);
    formed(&k);
    writer.advances(10, 60);
    k.ok(&["delete", "pod", "galera-0", "galera-1", "galera-2", "--grace-period=0", "--force"]);
    formed(&k);
    writer.advances(10, 60);
    nothing_is_lost(&k, writer);
    k.ok(&["delete", "-f", &example(), "--wait=false"]);
}

fn engine_stops() {
    let machine = Own::start("galera", 16462, &["mariadb"]);
    let k = machine.kubectl();
    let writer = begin(&k);
    machine.kill_and_up();
    writer.advances(10, 60);
    k.ok(&["delete", "pod", "galera-1"]);
    machine.kill_and_up();
    formed(&k);
    let acknowledged = writer.stop();
    machine.down(&[]).expect("down");
    machine.up().expect("up");
    formed(&k);
    assert_eq!(lost(&acknowledged, &sql(&k, "galera-2", "SELECT n FROM test.w").expect("rows")), Vec::<u64>::new());
}
