//! Decisions as tables, and the whole against the fake API.

use crate::decide::{Decision, decide};
use crate::view::{Place, Things, View};
use http::Method;
use k8s_openapi::api::core::v1::{Node, Pod};
use mainstay_client::{Cluster, Resource, fake::Api};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `n1 cpu=4 memory=8Gi pods=10 zone=a cordoned taint=key:value:NoSchedule`.
fn node(line: &str) -> Arc<Node> {
    let mut words = line.split_whitespace();
    let name = words.next().expect("a name");
    let mut value = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110", "ephemeral-storage": "10Gi"}}});
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("cordoned", _) => value["spec"]["unschedulable"] = json!(true),
            ("taint", taint) => {
                let parts: Vec<&str> = taint.split(':').collect();
                value["spec"]["taints"] = json!([{"key": parts[0], "value": parts[1], "effect": parts[2]}]);
            }
            (resource @ ("cpu" | "memory" | "pods" | "example.com/gpu"), amount) => value["status"]["allocatable"][resource] = json!(amount),
            (label, text) => value["metadata"]["labels"][label] = json!(text),
        }
    }
    Arc::new(Node::from_value(&value).expect("a node"))
}

fn term(app: &str, key: &str) -> Value {
    json!([{"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key}])
}

/// `app=web cpu=1 port=80 near=db far=web@zone spread=web@zone tolerate=key select=zone:a claim=www owner=web`.
fn pod(line: &str) -> Arc<Pod> {
    let mut value = json!({"metadata": {"name": "p", "namespace": "default", "uid": line, "labels": {}}, "spec": {"containers": [{"name": "c"}]}});
    for word in line.split_whitespace() {
        let (key, text) = word.split_once('=').unwrap_or((word, ""));
        let (what, topology) = text.split_once('@').unwrap_or((text, "kubernetes.io/hostname"));
        let spec = &mut value["spec"];
        match key {
            "cpu" | "memory" | "example.com/gpu" => spec["containers"][0]["resources"]["requests"][key] = json!(text),
            "port" => spec["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": text.parse::<i32>().expect("a port")}]),
            "near" => spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = term(what, topology),
            "far" => spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = term(what, topology),
            "rather-far" => spec["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = json!([{"weight": 100, "podAffinityTerm": term(what, topology)[0]}]),
            "spread" | "spread-softly" => {
                let when = if key == "spread" { "DoNotSchedule" } else { "ScheduleAnyway" };
                spec["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": topology, "whenUnsatisfiable": when, "labelSelector": {"matchLabels": {"app": what}}}]);
            }
            "tolerate" => spec["tolerations"] = json!([{"key": text, "operator": "Exists"}]),
            "select" => {
                let (key, value) = text.split_once(':').expect("key:value");
                spec["nodeSelector"][key] = json!(value);
            }
            "in" => spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [text]}]}]}),
            "rather-in" => spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = json!([{"weight": 10, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": [text]}]}}]),
            "claim" => spec["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": text}}]),
            "owner" => value["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": text, "uid": text, "controller": true}]),
            label => value["metadata"]["labels"][label] = json!(text),
        }
    }
    Arc::new(Pod::from_value(&value).expect("a pod"))
}

fn things() -> Things {
    let class = |name: &str, mode: &str, provisioner: &str| json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode});
    let claim = |name: &str, class: &str, volume: &str| {
        let phase = if volume.is_empty() { "Pending" } else { "Bound" };
        json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"storageClassName": class, "volumeName": volume}, "status": {"phase": phase}})
    };
    let volume = |name: &str, class: &str, zone: &str, phase: &str| {
        json!({"metadata": {"name": name}, "spec": {"storageClassName": class, "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}]}}}, "status": {"phase": phase}})
    };
    let mut going = claim("going", "later", "");
    going["metadata"]["deletionTimestamp"] = json!("2026-01-31T12:00:00Z");
    fn all<K: Resource>(values: Vec<Value>) -> Vec<Arc<K>> {
        values.iter().map(|value| Arc::new(K::from_value(value).expect("an object"))).collect()
    }
    Things::Listed {
        claims: all(vec![claim("now", "at-once", ""), claim("later", "later", ""), claim("static", "static", ""), claim("in-a", "later", "pv-a"), claim("lost", "later", "gone"), going]),
        volumes: all(vec![volume("pv-a", "later", "a", "Bound"), volume("free-b", "static", "b", "Available")]),
        classes: all(vec![class("at-once", "Immediate", "x"), class("later", "WaitForFirstConsumer", "x"), class("static", "WaitForFirstConsumer", "kubernetes.io/no-provisioner")]),
    }
}

/// Nodes with what runs on them: `n1 zone=a: app=web; app=db`.
fn check(nodes: &[&str], line: &str, expected: &str) {
    let place = |line: &&str| {
        let (name, pods) = line.split_once(": ").unwrap_or((line, ""));
        Place::new(node(name), pods.split("; ").filter(|one| !one.is_empty()).map(pod))
    };
    let view = View { places: nodes.iter().map(place).collect(), things: things() };
    let found = match decide(&pod(line), &view) {
        Decision::Place(index, claims) => format!("{}{}", view.places[index].name(), if claims.waiting.is_empty() { "" } else { ", claims first" }),
        Decision::Nowhere(words, _) => words,
    };
    assert_eq!(found, expected, "{line} on {nodes:?}");
}

/// One node, the reason in the middle, and whether removing pods could help.
fn refused(node: &str, line: &str, reason: &str, by_pods: bool) {
    let preemption = if by_pods { "No preemption victims found for incoming pod" } else { "Preemption is not helpful for scheduling" };
    check(&[node], line, &format!("0/1 nodes are available: {reason}. preemption: 0/1 nodes are available: 1 {preemption}."));
}

#[test]
fn a_refusal_is_worded_as_upstream_words_it() {
    refused("n1 cpu=1", "cpu=2", "1 Insufficient cpu", true);
    refused("n1 cpu=1: cpu=600m", "cpu=500m", "1 Insufficient cpu", true);
    refused("n1 cpu=1 memory=1Gi", "cpu=2 memory=2Gi", "1 Insufficient cpu, 1 Insufficient memory", true);
    refused("n1 pods=1: app=x", "app=y", "1 Too many pods", true);
    refused("n1", "example.com/gpu=1", "1 Insufficient example.com/gpu", true);
    refused("n1: port=80", "port=80", "1 node(s) didn't have free ports for the requested pod ports", true);
    refused("n1 cordoned", "app=x", "1 node(s) were unschedulable", false);
    refused("n1 taint=key:value:NoSchedule", "app=x", "1 node(s) had untolerated taint {key: value}", false);
    refused("n1 zone=a", "select=zone:b", "1 node(s) didn't match Pod's node affinity/selector", false);
    refused("n1 zone=a", "in=b", "1 node(s) didn't match Pod's node affinity/selector", false);
    refused("n1: app=web", "app=web far=web", "1 node(s) didn't match pod anti-affinity rules", true);
    refused("n1: app=web far=db", "app=db", "1 node(s) didn't satisfy existing pods anti-affinity rules", true);
    refused("n1", "near=db", "1 node(s) didn't match pod affinity rules", false);
    refused("n1 zone=a", "spread=web@rack", "1 node(s) didn't match pod topology spread constraints (missing required label)", false);
    check(&[], "app=x", "no nodes available to schedule pods");
}

#[test]
fn claims_that_cannot_be_had_are_named() {
    refused("n1", "claim=x", "persistentvolumeclaim \"x\" not found", false);
    refused("n1", "claim=now", "pod has unbound immediate PersistentVolumeClaims", false);
    refused("n1", "claim=going", "persistentvolumeclaim \"going\" is being deleted", false);
    refused("n1", "claim=lost", "persistentvolume \"gone\" not found", false);
    refused("n1 zone=b", "claim=in-a", "1 node(s) had volume node affinity conflict", false);
    refused("n1 zone=a", "claim=static", "1 node(s) didn't find available persistent volumes to bind", false);
}

#[test]
fn a_pod_goes_where_its_volumes_can_be() {
    check(&["n1 zone=b", "n2 zone=a"], "claim=in-a", "n2");
    check(&["n1"], "claim=later", "n1, claims first");
    check(&["n1 zone=a", "n2 zone=b"], "claim=static", "n2, claims first");
}

#[test]
fn reasons_of_several_nodes_are_counted() {
    check(
        &["n1 cpu=1", "n2 cpu=1", "n3 cordoned"],
        "cpu=2",
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu. preemption: 0/3 nodes are available: 2 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling.",
    );
}

#[test]
fn what_is_tolerated_or_ended_is_no_obstacle() {
    check(&["n1 taint=key:value:NoSchedule"], "tolerate=key", "n1");
    check(&["n1 cordoned"], "tolerate=node.kubernetes.io/unschedulable", "n1");
    check(&["n1 taint=key:value:PreferNoSchedule"], "app=x", "n1");
}

#[test]
fn the_first_of_a_group_that_wants_its_own_kind_may_start_anywhere() {
    check(&["n1"], "app=web near=web", "n1");
    check(&["n1", "n2: app=web"], "app=web near=web", "n2");
}

#[test]
fn pods_are_spread_when_they_must_and_when_they_may() {
    check(&["n1: app=web", "n2"], "app=web far=web", "n2");
    check(&["n1 zone=a: app=web", "n2 zone=a", "n3 zone=b"], "app=web far=web@zone", "n3");
    check(&["n1 zone=a: app=web", "n2 zone=b"], "app=web spread=web@zone", "n2");
    check(&["n1 zone=a: app=web", "n2 zone=a", "n3 zone=b cordoned"], "app=web spread=web@zone",
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't match pod topology spread constraints. preemption: 0/3 nodes are available: 2 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling.");
    check(&["n1: app=web", "n2"], "app=web spread-softly=web", "n2");
    check(&["n1: app=web", "n2"], "app=web rather-far=web", "n2");
    check(&["n1: owner=web", "n2"], "owner=web", "n2");
}

#[test]
fn preferences_and_room_decide_among_the_rest() {
    check(&["n1 zone=a", "n2 zone=b"], "rather-in=b", "n2");
    check(&["n1 taint=key:value:PreferNoSchedule", "n2"], "app=x", "n2");
    check(&["n1: cpu=3", "n2: cpu=1"], "cpu=500m", "n2");
    check(&["n1", "n2"], "app=x", "n1");
}

struct World {
    api: Api,
    cluster: Cluster,
    _tasks: tokio::task::JoinSet<()>,
}

async fn world(nodes: &[&str]) -> World {
    let api = Api::new();
    for line in nodes {
        api.apply(Method::POST, "/api/v1/nodes", &node(line).to_value()).expect("created");
    }
    let cluster = Cluster::new(api.client(), "test");
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(crate::run(cluster.clone()));
    cluster.pods().synced().await;
    cluster.persistent_volume_claims().synced().await;
    World { api, cluster, _tasks: tasks }
}

const PODS: &str = "/api/v1/namespaces/default/pods";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";

impl World {
    fn create(&self, name: &str, line: &str) {
        let mut value = pod(line).to_value();
        value["metadata"] = json!({"name": name, "labels": value["metadata"]["labels"]});
        self.api.apply(Method::POST, PODS, &value).expect("created");
    }

    async fn until(&self, what: &str, holds: impl Fn(&[Arc<Pod>]) -> bool) {
        let pods = self.cluster.pods();
        let mut changes = pods.subscribe();
        let wait = async {
            while !holds(&pods.list()) {
                let _ = changes.recv().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{what}: {:?}", pods.list().iter().map(|pod| pod.status.clone()).collect::<Vec<_>>()));
    }
}

fn bound(pods: &[Arc<Pod>]) -> usize {
    pods.iter().filter(|pod| pod.node_name().is_some()).count()
}

fn message(pods: &[Arc<Pod>], name: &str) -> Option<String> {
    let pod = pods.iter().find(|pod| pod.metadata.name.as_deref() == Some(name))?;
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?.message.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_bound_at_once_and_ten_together() {
    let world = world(&["n1 pods=500"]).await;
    let mut took = Vec::new();
    for n in 0..50 {
        let start = Instant::now();
        world.create(&format!("p{n}"), "cpu=1m");
        world.until("bound", |pods| bound(pods) == n + 1).await;
        took.push(start.elapsed());
    }
    took.sort();
    let start = Instant::now();
    (0..10).for_each(|n| world.create(&format!("together-{n}"), "cpu=1m"));
    world.until("bound", |pods| bound(pods) == 60).await;
    println!("create to bound and seen: median {:?}; ten together {:?}", took[25], start.elapsed());
    assert!(took[25] < Duration::from_millis(20), "{:?}", took[25]);
    world.cluster.named("default-scheduler").recorder().flush().await;
    let events = world.api.list("/api/v1", "events");
    assert!(events.iter().any(|event| event["message"] == "Successfully assigned default/p0 to n1" && event["reason"] == "Scheduled"), "{events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_pods_at_once_never_take_more_than_there_is() {
    let world = world(&["n1 cpu=3", "n2 cpu=4"]).await;
    (0..10).for_each(|n| world.create(&format!("p{n}"), "cpu=1"));
    world.until("seven bound, three told", |pods| bound(pods) == 7 && pods.iter().filter(|pod| message(pods, pod.metadata.name.as_deref().unwrap_or_default()).is_some()).count() >= 3).await;
    let on = |node: &str| world.cluster.pods().on_node(node).len();
    assert_eq!((on("n1"), on("n2")), (3, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_fits_nowhere_says_why_and_is_tried_again_when_that_changes() {
    let world = world(&["n1 cpu=1"]).await;
    world.create("first", "cpu=1");
    world.until("bound", |pods| bound(pods) == 1).await;
    world.create("second", "cpu=1");
    world.create("third", "select=zone:a");
    world.until("told", |pods| message(pods, "second").is_some() && message(pods, "third").is_some()).await;
    assert_eq!(message(&world.cluster.pods().list(), "second").as_deref(), Some("0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."));
    world.api.apply(Method::DELETE, &format!("{PODS}/first"), &json!({"gracePeriodSeconds": 0})).expect("deleted");
    world.until("second bound", |pods| bound(pods) == 1).await;
    world.api.apply(Method::PATCH, "/api/v1/nodes/n1", &json!({"metadata": {"labels": {"zone": "a"}}})).expect("labelled");
    world.until("third bound", |pods| bound(pods) == 2).await;
    world.cluster.named("default-scheduler").recorder().flush().await;
    let failed = world.api.list("/api/v1", "events").iter().filter(|event| event["reason"] == "FailedScheduling").count();
    assert_eq!(failed, 2, "one for each reason");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_claim_is_told_its_node_and_the_pod_follows_once_it_is_bound() {
    let world = world(&["n1"]).await;
    let class = json!({"metadata": {"name": "standard"}, "provisioner": "mainstay.dev/local", "volumeBindingMode": "WaitForFirstConsumer"});
    world.api.apply(Method::POST, "/apis/storage.k8s.io/v1/storageclasses", &class).expect("created");
    world.create("web-0", "claim=www-web-0");
    world.until("told", |pods| message(pods, "web-0").is_some_and(|words| words.contains("persistentvolumeclaim \"www-web-0\" not found"))).await;
    let claim = json!({"metadata": {"name": "www-web-0"}, "spec": {"storageClassName": "standard"}, "status": {"phase": "Pending"}});
    world.api.apply(Method::POST, CLAIMS, &claim).expect("created");
    let claims = world.cluster.persistent_volume_claims();
    let mut changes = claims.subscribe();
    while claims.get("default", "www-web-0").is_none_or(|claim| crate::volumes::selected_node(&claim) != Some("n1")) {
        tokio::time::timeout(Duration::from_secs(20), changes.recv()).await.expect("in time").expect("told");
    }
    assert_eq!(bound(&world.cluster.pods().list()), 0, "not before its claim");
    let volume = json!({"metadata": {"name": "pv"}, "spec": {"storageClassName": "standard"}});
    world.api.apply(Method::POST, "/api/v1/persistentvolumes", &volume).expect("created");
    world.api.apply(Method::PATCH, &format!("{CLAIMS}/www-web-0"), &json!({"spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}})).expect("bound");
    world.until("bound", |pods| bound(pods) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_that_fails_is_tried_again_and_other_schedulers_pods_are_left_alone() {
    let world = world(&["n1"]).await;
    world.api.refuse(|_, path| path.ends_with("/binding").then(|| (500, "InternalError", "no".into())));
    let mut other = pod("app=x").to_value();
    other["metadata"] = json!({"name": "other"});
    other["spec"]["schedulerName"] = json!("mine");
    world.api.apply(Method::POST, PODS, &other).expect("created");
    world.create("p", "app=x");
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut tries = 0;
    while tries < 2 {
        assert!(Instant::now() < deadline);
        tries += world.api.take_writes().iter().filter(|write| write.ends_with("/binding")).count();
        tokio::task::yield_now().await;
    }
    world.api.refuse(|_, _| None);
    world.until("bound", |pods| bound(pods) == 1).await;
    assert!(world.cluster.pods().get("default", "other").is_some_and(|pod| pod.node_name().is_none()));
}
