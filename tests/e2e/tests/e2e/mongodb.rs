//! `examples/mongodb`: a replica set with authentication, and what it survives. A client writes with majority throughout; nothing it was told
//! is written may be missing at the end.

use crate::own::{Own, example, exec, kill_pod, logged, ready, replace, writes_on};
use mainstay_e2e::{Kubectl, eventually};
use std::time::Duration;

pub(crate) const TESTS: &[crate::OwnTest] = &[("a_set_elects_rejoins_and_grows_and_loses_no_acknowledged_write", survives), ("a_set_as_documents_write_it_works", as_documents_write_it)];

const ADMIN: &[&str] = &["mongosh", "--quiet", "admin", "-u", "admin", "-p", "change-me", "--eval"];
const HEALTHY: &str = "const s = rs.status().members; s.filter(m => m.health == 1 && ['PRIMARY', 'SECONDARY'].includes(m.stateStr)).length + ' ' + s.filter(m => m.stateStr == 'PRIMARY').map(m => m.name).join()";

/// The writer: a seed list, majority, one document after the other. What failed may have been written or not; it goes on with the next.
const WRITER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: writer
    image: mongo:6.0
    command: [mongosh, --quiet, --norc, "mongodb://admin:change-me@mongodb-0.mongodb-headless,mongodb-1.mongodb-headless,mongodb-2.mongodb-headless/test?replicaSet=rs0&authSource=admin&w=majority&wtimeoutMS=5000&serverSelectionTimeoutMS=5000&socketTimeoutMS=10000", --eval]
    args:
    - |
      for (let n = 0; n < 200000; n++) {
        try { db.writes.insertOne({ _id: n }); print(`acknowledged ${n}`); } catch (error) { print(`failed ${n}: ${error.message}`); }
        sleep(5);
      }
"#;

fn mongosh(k: &Kubectl, pod: &str, script: &str) -> Result<String, String> {
    exec(k, pod, &[ADMIN, &[script]].concat())
}

/// Waits for so many members, one of them primary; returns the primary's pod.
#[track_caller]
fn healthy(k: &Kubectl, members: u32, ask: &str, seconds: u64) -> String {
    eventually(&format!("{members} members with a primary"), Duration::from_secs(seconds), || {
        let found = mongosh(k, ask, HEALTHY)?;
        match found.split_once(' ') {
            Some((count, primary)) if count == members.to_string() && primary.starts_with("mongodb-") => Ok(primary.split('.').next().unwrap_or_default().to_owned()),
            _ => Err(found),
        }
    })
}

fn survives() {
    let machine = Own::start("mongodb", 16470, &["mongo"]);
    let k = machine.kubectl();
    k.ok(&["apply", "-f", &example("mongodb")]);
    ready(&k, "mongodb", 3, 120);
    mongosh(&k, "mongodb-0", "rs.initiate({ _id: 'rs0', members: [0, 1, 2].map(i => ({ _id: i, host: `mongodb-${i}.mongodb-headless:27017` })) })").expect("initiate");
    let primary = healthy(&k, 3, "mongodb-0", 60);
    let refused = exec(&k, "mongodb-0", &["mongosh", "--quiet", "--eval", "db.getSiblingDB('test').t.findOne()"]).expect_err("nobody reads without a password");
    assert!(refused.contains("requires authentication"), "{refused}");
    k.apply(WRITER);
    eventually("the first writes", Duration::from_secs(60), || if logged(&k, "writer", "acknowledged").len() > 20 { Ok(()) } else { Err(k.run(&["logs", "writer"]).out) });

    // The primary goes as `kubectl delete pod` ends it; another is elected, and the old one rejoins by its name.
    replace(&k, &primary, &["--wait=false"]);
    writes_on(&k, "writer", "acknowledged", 100, 60);
    let primary = healthy(&k, 3, "mongodb-0", 90);

    // The primary goes without warning, and the engine with it.
    kill_pod(&k, &primary);
    machine.kill_and_up();
    let other = if primary == "mongodb-0" { "mongodb-1" } else { "mongodb-0" };
    writes_on(&k, "writer", "acknowledged", 100, 60);
    healthy(&k, 3, other, 90);

    k.ok(&["scale", "statefulset/mongodb", "--replicas=5"]);
    ready(&k, "mongodb", 5, 120);
    let primary = healthy(&k, 3, "mongodb-0", 60);
    for member in [3, 4] {
        let add = format!("rs.add({{ host: 'mongodb-{member}.mongodb-headless:27017' }})");
        eventually("the member is added", Duration::from_secs(60), || mongosh(&k, &primary, &add));
    }
    healthy(&k, 5, "mongodb-0", 90);
    let acknowledged = logged(&k, "writer", "acknowledged");
    for pod in ["mongodb-0", "mongodb-4"] {
        let script = "db.getMongo().setReadPref('secondaryPreferred'); db.getSiblingDB('test').writes.find({}, { _id: 1 }).readConcern('majority').toArray().map(d => d._id).join('\\n')";
        eventually(&format!("{pod} has every acknowledged write"), Duration::from_secs(30), || {
            let found = mongosh(&k, pod, script)?;
            let found: std::collections::HashSet<&str> = found.lines().map(str::trim).collect();
            let lost: Vec<_> = acknowledged.iter().filter(|n| !found.contains(n.as_str())).collect();
            if lost.is_empty() { Ok(()) } else { Err(format!("{} of {} acknowledged writes are not there: {lost:?}", lost.len(), acknowledged.len())) }
        });
    }
    println!("mongodb: {} acknowledged writes, none lost", acknowledged.len());
}

/// The shape that the documents have: no authentication, `command` with the server's arguments, the full service names.
const DOCUMENT: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: mongo-headless}
spec: {clusterIP: None, selector: {app: mongo}, ports: [{port: 27017}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: mongo}
spec:
  serviceName: mongo-headless
  replicas: 3
  selector: {matchLabels: {app: mongo}}
  template:
    metadata: {labels: {app: mongo}}
    spec:
      terminationGracePeriodSeconds: 10
      affinity:
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 100
            podAffinityTerm: {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: mongo}}}
      containers:
      - name: mongo
        image: mongo:6.0
        command: [mongod, --replSet, rs0, --bind_ip_all]
        ports: [{containerPort: 27017, name: mongo}]
        readinessProbe: {exec: {command: [mongosh, --eval, "db.adminCommand('ping')"]}, initialDelaySeconds: 2, periodSeconds: 5, timeoutSeconds: 10}
        volumeMounts: [{name: data, mountPath: /data/db}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"#;

fn as_documents_write_it() {
    let machine = Own::start("mongo-document", 16471, &["mongo"]);
    let k = machine.kubectl();
    k.apply(DOCUMENT);
    ready(&k, "mongo", 3, 120);
    let eval = |pod: &str, script: &str| exec(&k, pod, &["mongosh", "--quiet", "--eval", script]);
    let initiate = r#"rs.initiate({ _id: "rs0", members: [
        { _id: 0, host: "mongo-0.mongo-headless.default.svc.cluster.local:27017" },
        { _id: 1, host: "mongo-1.mongo-headless.default.svc.cluster.local:27017" },
        { _id: 2, host: "mongo-2.mongo-headless.default.svc.cluster.local:27017" }] })"#;
    assert!(eval("mongo-0", initiate).expect("initiate").contains("ok: 1"));
    eventually("mongo-0 is primary and takes a write", Duration::from_secs(60), || eval("mongo-0", "db.users.insertOne({ name: 'Alice' }, { writeConcern: { w: 3 } })"));
    let find = "db.getMongo().setReadPref('secondaryPreferred'); db.users.find().toArray().map(u => u.name).join()";
    assert_eq!(eval("mongo-2", find).as_deref(), Ok("Alice"));
    replace(&k, "mongo-0", &[]);
    eventually("another is primary", Duration::from_secs(60), || match eval("mongo-1", "rs.status().members.find(m => m.stateStr == 'PRIMARY').name")? {
        name if name.starts_with("mongo-") => Ok(()),
        other => Err(other),
    });
    ready(&k, "mongo", 3, 60);
    eventually("the old member is back, with its data", Duration::from_secs(60), || match eval("mongo-0", find)? {
        names if names == "Alice" => Ok(()),
        other => Err(other),
    });
}
