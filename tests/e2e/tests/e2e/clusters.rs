//! `examples/etcd`, `nats`, `rabbitmq`, `zookeeper`: clusters of three that form by name. Each goes the same way: a client writes throughout;
//! a member is killed, another and the engine with it, a third is deleted; at last all go at once. Every acknowledged write is there after.

use crate::own::{Own, example, exec, kill_pod, logged, ready, replace, writes_on};
use mainstay_e2e::{Kubectl, eventually};
use std::collections::BTreeSet;
use std::time::Duration;

pub(crate) const TESTS: &[crate::OwnTest] = &[
    ("etcd_forms_and_keeps_what_it_acknowledged", || story(&ETCD)),
    ("nats_forms_and_keeps_what_it_acknowledged", || story(&NATS)),
    ("rabbitmq_forms_and_keeps_what_it_acknowledged", || story(&RABBITMQ)),
    ("zookeeper_forms_and_keeps_what_it_acknowledged", || story(&ZOOKEEPER)),
];

/// What differs between them.
struct System {
    /// Of the example, of its StatefulSet, of the label `app`.
    name: &'static str,
    port: u16,
    images: &'static [&'static str],
    /// The image of the writing client.
    client: &'static str,
    /// All three members are in.
    formed: fn(&Kubectl) -> Result<(), String>,
    /// Once, before the first write, in the client's pod.
    prepare: &'static str,
    /// Shell: writes number `$n`, bounded in time, and succeeds when it was acknowledged.
    write: &'static str,
    /// The numbers that are there, from any member.
    found: fn(&Kubectl) -> Result<BTreeSet<String>, String>,
}

fn story(system: &System) {
    let machine = Own::start(system.name, system.port, system.images);
    let k = machine.kubectl();
    let name = system.name;
    k.ok(&["apply", "-f", &example(name)]);
    ready(&k, name, 3, 150);
    let whole = || eventually(&format!("{name} has three members"), Duration::from_secs(90), || (system.formed)(&k));
    whole();
    writer(&k, system);
    let members: Vec<String> = (0..3).map(|i| format!("{name}-{i}")).collect();

    kill_pod(&k, &members[0]);
    writes_on(&k, "writer", "acknowledged", 10, 90);
    ready(&k, name, 3, 120);
    whole();

    kill_pod(&k, &members[1]);
    machine.kill_and_up();
    writes_on(&k, "writer", "acknowledged", 10, 90);
    ready(&k, name, 3, 120);
    whole();

    replace(&k, &members[2], &["--wait=false"]);
    writes_on(&k, "writer", "acknowledged", 10, 90);
    ready(&k, name, 3, 120);

    k.ok(&["delete", "pod", "-l", &format!("app={name}"), "--force", "--grace-period=0", "--wait=false"]);
    writes_on(&k, "writer", "acknowledged", 10, 150);
    ready(&k, name, 3, 150);
    whole();
    let acknowledged = logged(&k, "writer", "acknowledged");
    eventually("every acknowledged write is there", Duration::from_secs(60), || {
        let found = (system.found)(&k)?;
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        if lost.is_empty() { Ok(()) } else { Err(format!("{} of {} acknowledged writes are missing: {lost:?}", lost.len(), acknowledged.len())) }
    });
    println!("{name}: {} acknowledged writes, none lost", acknowledged.len());
}

fn writer(k: &Kubectl, system: &System) {
    let script = format!("until {}; do sleep 0.5; done\nn=0; while true; do n=$((n+1)); if {}; then echo acknowledged $n; fi; sleep 0.05; done", system.prepare, system.write);
    let pod = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "writer"}, "spec": {"terminationGracePeriodSeconds": 0, "restartPolicy": "Never",
        "containers": [{"name": "writer", "image": system.client, "command": ["bash", "-c", script]}]}});
    k.apply(&pod.to_string());
    eventually("the first writes", Duration::from_secs(60), || if logged(k, "writer", "acknowledged").len() >= 5 { Ok(()) } else { Err(k.run(&["logs", "writer", "--tail=5"]).out) });
}

/// So many lines of an answer hold these words.
fn lines_with(answer: &str, words: &str, count: usize) -> Result<(), String> {
    if answer.lines().filter(|line| line.contains(words)).count() == count { Ok(()) } else { Err(answer.to_owned()) }
}

const ETCD_MEMBERS: &str = "--endpoints=etcd-0.etcd-headless:2379,etcd-1.etcd-headless:2379,etcd-2.etcd-headless:2379";

const ETCD: System = System {
    name: "etcd",
    port: 16472,
    images: &["etcd"],
    client: "quay.io/coreos/etcd:v3.4.23",
    formed: |k| lines_with(&exec(k, "etcd-0", &["sh", "-c", &format!("etcdctl {ETCD_MEMBERS} endpoint health 2>&1")])?, "is healthy", 3),
    prepare: "true",
    write: "timeout 5 etcdctl --command-timeout=3s --endpoints=etcd-0.etcd-headless:2379,etcd-1.etcd-headless:2379,etcd-2.etcd-headless:2379 put w/$n $n >/dev/null 2>&1",
    found: |k| Ok(exec(k, "etcd-1", &["etcdctl", "get", "w/", "--prefix", "--keys-only"])?.lines().filter_map(|l| l.strip_prefix("w/")).map(str::to_owned).collect()),
};

const NATS: System = System {
    name: "nats",
    port: 16473,
    images: &["nats", "nats-box"],
    client: "natsio/nats-box:0.13.3",
    // Each has a route to both others.
    formed: |k| {
        let healthy = ["nats-0", "nats-1", "nats-2"].map(|pod| exec(k, pod, &["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8222 && printf 'GET /routez HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"]));
        if healthy.iter().all(|answer| answer.as_ref().is_ok_and(|a| a.contains("\"num_routes\": 2"))) { Ok(()) } else { Err(format!("{healthy:?}")) }
    },
    prepare: "timeout 20 nats -s nats stream add w --subjects='w.>' --storage=file --replicas=3 --retention=limits --discard=old --max-msgs=-1 --max-msgs-per-subject=-1 --max-bytes=-1 --max-age=-1 --max-msg-size=-1 --dupe-window=2m --no-allow-rollup --no-deny-delete --no-deny-purge",
    write: "timeout 5 nats -s nats://nats-0.nats-headless,nats://nats-1.nats-headless,nats://nats-2.nats-headless --timeout=3s req w.$n $n 2>/dev/null | grep -q '\"seq\"'",
    found: |k| {
        let answer = exec(k, "writer", &["nats", "-s", "nats", "stream", "subjects", "w", "--json"])?;
        let subjects: serde_json::Value = serde_json::from_str(&answer).map_err(|e| format!("{e}: {answer}"))?;
        Ok(subjects.as_object().into_iter().flatten().filter_map(|(name, _)| name.strip_prefix("w.")).map(str::to_owned).collect())
    },
};

const RABBITMQ: System = System {
    name: "rabbitmq",
    port: 16474,
    images: &["rabbitmq"],
    client: "rabbitmq:3.10-management",
    formed: |k| {
        let status: serde_json::Value = serde_json::from_str(&exec(k, "rabbitmq-0", &["rabbitmqctl", "--quiet", "--formatter=json", "cluster_status"])?).map_err(|e| e.to_string())?;
        if status["running_nodes"].as_array().is_some_and(|nodes| nodes.len() == 3) { Ok(()) } else { Err(status["running_nodes"].to_string()) }
    },
    prepare: r#"timeout 20 rabbitmqadmin -H rabbitmq -u admin -p change-me declare queue name=w durable=true 'arguments={"x-queue-type":"quorum"}'"#,
    // The management interface answers "published" when the queue has confirmed.
    write: "timeout 8 rabbitmqadmin -H rabbitmq -u admin -p change-me publish routing_key=w payload=$n properties='{\"delivery_mode\":2}' 2>/dev/null | grep -q 'Message published'",
    found: |k| {
        let answer = exec(k, "writer", &["rabbitmqadmin", "-H", "rabbitmq", "-u", "admin", "-p", "change-me", "-f", "raw_json", "get", "queue=w", "count=100000", "ackmode=ack_requeue_true"])?;
        let messages: serde_json::Value = serde_json::from_str(&answer).map_err(|e| format!("{e}: {answer}"))?;
        Ok(messages.as_array().into_iter().flatten().filter_map(|m| m["payload"].as_str().map(str::to_owned)).collect())
    },
};

const ZOOKEEPER: System = System {
    name: "zookeeper",
    port: 16475,
    images: &["zookeeper"],
    client: "zookeeper:3.8",
    formed: |k| {
        let modes = ["zookeeper-0", "zookeeper-1", "zookeeper-2"].map(|pod| exec(k, pod, &["zkServer.sh", "status"]).unwrap_or_default()).join("\n");
        lines_with(&modes, "Mode: leader", 1).and_then(|()| lines_with(&modes, "Mode: follower", 2))
    },
    prepare: "timeout 20 zkCli.sh -server zookeeper create /w 2>&1 | grep -E 'Created|already exists'",
    // A Java virtual machine a write is slow, but each is a client of its own.
    write: "timeout 15 zkCli.sh -server zookeeper-0.zookeeper-headless,zookeeper-1.zookeeper-headless,zookeeper-2.zookeeper-headless create /w/$n 2>&1 | grep -q \"^Created /w/$n\"",
    found: |k| {
        let answer = exec(k, "zookeeper-1", &["zkCli.sh", "ls", "/w"])?;
        let list = answer.lines().rev().find(|l| l.starts_with('[')).ok_or(answer.clone())?;
        Ok(list.trim_matches(['[', ']']).split(", ").map(str::to_owned).collect())
    },
};
