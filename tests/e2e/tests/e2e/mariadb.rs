//! `examples/mariadb`: a primary, replicas that are copies of each other, and what they survive.

use crate::own::{Own, replace};
use mainstay_e2e::{Kubectl, Machine, Terminal, Writer, eventually, lost, repository};
use std::time::Duration;

pub(crate) const TESTS: &[crate::Test] = &[("replicas_copy_follow_and_come_back", follows), ("a_set_of_one_grows_by_replicas_that_hold_the_earlier_rows", grows), ("the_image_understands_what_the_well_known_ones_do", others)];
pub(crate) const OWN: &[crate::OwnTest] = &[("mariadb_follows_while_the_engine_is_killed", engine_killed)];

const PASSWORD: &str = "rootpass123";
const INSERT: &str = r#"mysql -h mysql-0.mysql-headless -u root --connect-timeout=3 testapp -e "INSERT INTO w VALUES ($1)""#;

fn example() -> String {
    repository().join("examples/mariadb").to_string_lossy().into_owned()
}

/// SQL by exec, as root, in `testapp`.
fn sql(k: &Kubectl, pod: &str, text: &str) -> Result<String, String> {
    let answer = k.run(&["exec", pod, "-c", "mysql", "--", "mysql", "-u", "root", &format!("-p{PASSWORD}"), "-BN", "testapp", "-e", text]);
    if answer.code == 0 { Ok(answer.out.trim().to_owned()) } else { Err(answer.err) }
}

#[track_caller]
fn expect(k: &Kubectl, pod: &str, text: &str, value: &str) {
    eventually(&format!("{pod}: {text} gives {value}"), Duration::from_secs(60), || match sql(k, pod, text) {
        Ok(found) if found == value => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// Both threads run, in the words of this and of the documents' version.
#[track_caller]
fn follows_the_primary(k: &Kubectl, pod: &str) {
    for command in ["SHOW REPLICA STATUS\\G", "SHOW SLAVE STATUS\\G"] {
        eventually(&format!("{pod} follows"), Duration::from_secs(60), || {
            let status = k.run(&["exec", pod, "-c", "mysql", "--", "mysql", "-u", "root", &format!("-p{PASSWORD}"), "-e", command]).out;
            if status.contains("Slave_IO_Running: Yes") && status.contains("Slave_SQL_Running: Yes") { Ok(()) } else { Err(status) }
        });
    }
}

fn ready(k: &Kubectl, count: &str) {
    k.until("statefulset/mysql", "{.status.readyReplicas}", count, 120);
}

fn story(k: &Kubectl, mishap: &dyn Fn()) {
    k.ok(&["apply", "-f", &example()]);
    ready(k, "3");
    sql(k, "mysql-0", "CREATE TABLE w (n BIGINT PRIMARY KEY); CREATE TABLE t (x INT); INSERT INTO t VALUES (42)").expect("the primary takes writes");
    for replica in ["mysql-1", "mysql-2"] {
        follows_the_primary(k, replica);
        expect(k, replica, "SELECT x FROM t", "42");
        assert_eq!(sql(k, replica, "SELECT @@read_only"), Ok("1".into()));
    }
    let writer = Writer::start(k, "writer", "mariadb:10.11", &[("MYSQL_PWD", PASSWORD)], INSERT);
    mishap();
    for (pod, how) in [("mysql-1", &[] as &[&str]), ("mysql-0", &[]), ("mysql-0", &["--grace-period=0", "--force"])] {
        replace(k, pod, how);
        ready(k, "3");
        writer.advances(10, 60);
    }
    let acknowledged = writer.stop();
    // Whoever returns with its volume has what it acknowledged; the replicas receive it.
    assert_eq!(lost(&acknowledged, &sql(k, "mysql-0", "SELECT n FROM w").expect("rows")), Vec::<u64>::new());
    let count = sql(k, "mysql-0", "SELECT COUNT(*) FROM w").expect("rows");
    for replica in ["mysql-1", "mysql-2"] {
        follows_the_primary(k, replica);
        expect(k, replica, "SELECT COUNT(*) FROM w", &count);
    }
}

fn follows(machine: &Machine) {
    machine.import(&["mariadb"]).expect("the image");
    let k = machine.namespace("mariadb");
    story(&k, &|| ());
    // The documents' client: a pod with a terminal, and the password asked for there.
    let mut terminal = Terminal::start(&k.command(&["run", "mysql-client", "--image=mariadb:10.11", "-i", "--tty", "--rm", "--restart=Never", "--", "mysql", "-h", "mysql-0.mysql-headless", "-u", "root", "-p"]));
    terminal.expect("Enter password:", 60);
    terminal.types(PASSWORD);
    terminal.expect("MariaDB [(none)]>", 30);
    terminal.types("SELECT x + 1 FROM testapp.t;");
    terminal.expect("43", 30);
    terminal.types("exit");
    terminal.expect("deleted", 60);
    assert!(!terminal.shown().contains(PASSWORD), "the password is not echoed");
    assert_eq!(terminal.end(30), 0);
    k.ok(&["delete", "-f", &example(), "--wait=false"]);
}

fn grows(machine: &Machine) {
    machine.import(&["mariadb"]).expect("the image");
    let k = machine.namespace("mariadb-grows");
    let manifest = std::fs::read_to_string(repository().join("examples/mariadb/mariadb.yaml")).expect("the example");
    k.apply(&manifest.replace("replicas: 3", "replicas: 1"));
    ready(&k, "1");
    sql(&k, "mysql-0", "CREATE TABLE t (x INT); INSERT INTO t VALUES (1), (2), (3)").expect("the primary takes writes");
    k.ok(&["scale", "statefulset/mysql", "--replicas=3"]);
    ready(&k, "3");
    sql(&k, "mysql-0", "INSERT INTO t VALUES (4)").expect("the primary takes writes");
    for replica in ["mysql-1", "mysql-2"] {
        expect(&k, replica, "SELECT GROUP_CONCAT(x) FROM t", "1,2,3,4");
        follows_the_primary(&k, replica);
    }
    k.ok(&["scale", "statefulset/mysql", "--replicas=1"]);
    k.ok(&["wait", "--for=delete", "pod/mysql-1", "pod/mysql-2", "--timeout=90s"]);
    sql(&k, "mysql-0", "INSERT INTO t VALUES (5)").expect("the primary takes writes");
    k.ok(&["scale", "statefulset/mysql", "--replicas=2"]);
    ready(&k, "2");
    expect(&k, "mysql-1", "SELECT GROUP_CONCAT(x) FROM t", "1,2,3,4,5");
    k.ok(&["delete", "-f", &example(), "--wait=false"]);
}

/// A set as others write it for the well-known images: root's start, odd passwords, files, scripts, arguments, their health check.
const OTHERS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: initdb}
data:
  a.sql: "CREATE TABLE users (name VARCHAR(50)); INSERT INTO users VALUES ('Alice'), ('Bob');"
  b.sh: echo "from a script on $MYSQL_DATABASE"
  my.cnf: "[mysqld]\nmax_connections = 77\n"
---
apiVersion: v1
kind: Secret
metadata: {name: password}
stringData: {user: user-password}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: mysql}
spec:
  serviceName: mysql
  selector: {matchLabels: {app: mysql}}
  template:
    metadata: {labels: {app: mysql}}
    spec:
      containers:
      - name: mysql
        image: mariadb:10.11
        args: ["--character-set-server=utf8mb4", "--collation-server=utf8mb4_unicode_ci"]
        env:
        - {name: MYSQL_ROOT_PASSWORD, value: 'it''s "odd" \ x'}
        - {name: MYSQL_PWD, value: for-clients-only}
        - {name: MYSQL_DATABASE, value: test_app}
        - {name: MYSQL_USER, value: app}
        - {name: MYSQL_PASSWORD_FILE, value: /secret/user}
        readinessProbe: {exec: {command: [healthcheck.sh, --connect, --innodb_initialized]}, periodSeconds: 1}
        volumeMounts:
        - {name: data, mountPath: /var/lib/mysql}
        - {name: initdb, mountPath: /docker-entrypoint-initdb.d/a.sql, subPath: a.sql}
        - {name: initdb, mountPath: /docker-entrypoint-initdb.d/b.sh, subPath: b.sh}
        - {name: initdb, mountPath: /etc/mysql/conf.d/my.cnf, subPath: my.cnf}
        - {name: secret, mountPath: /secret}
      volumes:
      - {name: initdb, configMap: {name: initdb}}
      - {name: secret, secret: {secretName: password}}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: no-password}
spec: {restartPolicy: Never, containers: [{name: c, image: "mariadb:10.11"}]}
"#;

fn others(machine: &Machine) {
    machine.import(&["mariadb"]).expect("the image");
    let k = machine.namespace("mariadb-others");
    k.apply(OTHERS);
    ready(&k, "1");
    // Ready means that it serves: not the server of the first start, which has no TCP.
    let user = ["exec", "mysql-0", "--", "mysql", "-u", "app", "-puser-password", "-BN", "test_app", "-e"];
    assert_eq!(k.ok(&[&user[..], &["SELECT GROUP_CONCAT(name), @@max_connections, @@collation_server FROM users"]].concat()), "Alice,Bob\t77\tutf8mb4_unicode_ci");
    let root = k.ok(&["exec", "mysql-0", "--", "sh", "-c", r#"mysql -u root -p"$MYSQL_ROOT_PASSWORD" -BNe "SELECT COUNT(*) FROM mysql.global_priv WHERE JSON_VALUE(priv, '$.authentication_string') = '' AND user <> 'mariadb.sys'"; stat -c %u:%g /proc/1"#]);
    assert_eq!(root.split_whitespace().collect::<Vec<_>>(), ["0", "999:999"], "no account without a password; the server runs as mysql");
    assert!(k.ok(&["logs", "mysql-0"]).contains("from a script on test_app"));
    replace(&k, "mysql-0", &[]);
    ready(&k, "1");
    eventually("the rows are there", Duration::from_secs(30), || match k.run(&[&user[..], &["SELECT COUNT(*) FROM users"]].concat()) {
        found if found.out.trim() == "2" => Ok(()),
        found => Err(found.err),
    });
    k.until("pod/no-password", "{.status.phase}", "Failed", 30);
    assert!(k.ok(&["logs", "no-password"]).contains("MARIADB_ROOT_PASSWORD"));
    k.ok(&["delete", "namespace", "mariadb-others", "--wait=false"]);
}

fn engine_killed() {
    let machine = Own::start("mariadb", 16461, &["mariadb"]);
    story(&machine.kubectl(), &|| {
        machine.kill_and_up();
    });
}
