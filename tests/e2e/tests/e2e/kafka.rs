//! `examples/kafka` and `examples/kafka-zookeeper`: Kafka's own verifiable producer writes with acks=all while brokers are killed and the set is
//! restarted; a consumer then finds every message that it was told is written.

use crate::own::{Own, example, exec, kill_pod, ready};
use mainstay_e2e::{Kubectl, eventually};
use std::collections::BTreeSet;
use std::time::Duration;

pub(crate) const TESTS: &[crate::OwnTest] = &[("kraft_brokers_lose_no_acknowledged_message", kraft), ("brokers_with_zookeeper_lose_no_acknowledged_message", with_zookeeper)];

const BOOTSTRAP: &str = "kafka-0.kafka-headless:9092,kafka-1.kafka-headless:9092,kafka-2.kafka-headless:9092";

fn kafka(k: &Kubectl, pod: &str, line: &str) -> Result<String, String> {
    exec(k, pod, &["bash", "-c", line])
}

fn kraft() {
    let machine = Own::start("kafka", 16476, &["kafka"]);
    let k = machine.kubectl();
    k.ok(&["apply", "-f", &example("kafka")]);
    ready(&k, "kafka", 3, 180);
    story(&machine, &k);
}

fn with_zookeeper() {
    let machine = Own::start("kafka-zookeeper", 16477, &["kafka", "zookeeper"]);
    let k = machine.kubectl();
    k.ok(&["apply", "-f", &example("kafka-zookeeper")]);
    ready(&k, "kafka", 3, 240);
    let ids = exec(&k, "zookeeper-0", &["zkCli.sh", "ls", "/kafka/brokers/ids"]).expect("the brokers' numbers");
    assert!(ids.contains("[0, 1, 2]"), "{ids}");
    story(&machine, &k);
}

fn story(machine: &Own, k: &Kubectl) {
    let create = format!("kafka-topics.sh --bootstrap-server {BOOTSTRAP} --create --if-not-exists --topic orders --partitions 3 --replication-factor 3 --config min.insync.replicas=2");
    eventually("the topic is made", Duration::from_secs(60), || kafka(k, "kafka-0", &create));
    whole(k, "kafka-0");
    let producer = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "producer"}, "spec": {"terminationGracePeriodSeconds": 5, "restartPolicy": "Never", "enableServiceLinks": false,
        "containers": [{"name": "producer", "image": "apache/kafka:3.9.1",
            "command": ["kafka-verifiable-producer.sh", "--bootstrap-server", BOOTSTRAP, "--topic", "orders", "--acks", "-1", "--throughput", "100", "--max-messages", "-1"]}]}});
    k.apply(&producer.to_string());
    sends_on(k, 50, 60);

    kill_pod(k, "kafka-1");
    sends_on(k, 300, 90);
    ready(k, "kafka", 3, 120);
    whole(k, "kafka-0");

    kill_pod(k, "kafka-2");
    machine.kill_and_up();
    sends_on(k, 300, 90);
    ready(k, "kafka", 3, 120);
    whole(k, "kafka-0");

    k.ok(&["rollout", "restart", "statefulset/kafka"]);
    k.ok(&["rollout", "status", "statefulset/kafka", "--timeout=240s"]);
    sends_on(k, 300, 90);
    whole(k, "kafka-1");

    let acknowledged = sent(k);
    let consume = format!("kafka-console-consumer.sh --bootstrap-server {BOOTSTRAP} --topic orders --from-beginning --timeout-ms 8000 --consumer-property auto.offset.reset=earliest 2>/dev/null");
    k.ok(&["delete", "pod", "producer", "--wait=true"]);
    eventually("every acknowledged message is read", Duration::from_secs(60), || {
        let answer = kafka(k, "kafka-2", &consume)?;
        let found: BTreeSet<String> = answer.lines().map(str::to_owned).collect();
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        if lost.is_empty() { Ok(()) } else { Err(format!("{} of {} acknowledged messages are missing: {lost:?}", lost.len(), acknowledged.len())) }
    });
    println!("kafka: {} acknowledged messages, none lost", acknowledged.len());
}

/// Every partition is on all three brokers.
#[track_caller]
fn whole(k: &Kubectl, ask: &str) {
    let line = format!("kafka-topics.sh --bootstrap-server {BOOTSTRAP} --describe --topic orders && kafka-topics.sh --bootstrap-server {BOOTSTRAP} --describe --under-replicated-partitions | sed 's/^/under-replicated /'");
    eventually("every partition is in sync on all brokers", Duration::from_secs(120), || {
        let answer = kafka(k, ask, &line)?;
        if answer.contains("PartitionCount: 3") && !answer.contains("under-replicated ") { Ok(()) } else { Err(answer) }
    });
}

/// The values that the producer was told are written.
fn sent(k: &Kubectl) -> BTreeSet<String> {
    let log = k.run(&["logs", "producer"]).out;
    let events = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    events.filter(|e| e["name"] == "producer_send_success").filter_map(|e| e["value"].as_str().map(str::to_owned)).collect()
}

#[track_caller]
fn sends_on(k: &Kubectl, more: usize, seconds: u64) {
    let before = sent(k).len();
    eventually("the producer goes on", Duration::from_secs(seconds), || {
        let now = sent(k).len();
        if now >= before + more { Ok(()) } else { Err(format!("{now} messages, {before} before; {}", k.run(&["logs", "producer", "--tail=3"]).out)) }
    });
}
