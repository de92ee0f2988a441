//! Sets from beginning to end, with the scheduler; only the node is played.

use crate::harness::Harness;
use http::Method;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, Service};
use mainstay_client::{Cluster, PatchKind, Resource};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const NAMESPACE: &str = "x";

struct World {
    cluster: Cluster,
    _tasks: JoinSet<()>,
    _harness: Harness,
}

/// Makes every bound pod Running and Ready as soon as it sees it, and ends those that are being deleted.
async fn node(cluster: Cluster) {
    let pods = cluster.pods();
    let mut changes = pods.subscribe();
    let mut running = JoinSet::new();
    while let Ok(change) = changes.recv().await {
        let Some(pod) = pods.get(&change.namespace, &change.name) else { continue };
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        let cluster = cluster.clone();
        if pod.metadata.deletion_timestamp.is_some() {
            running.spawn(async move {
                let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": pod.metadata.uid}});
                let _ = cluster.delete::<Pod>(&change.namespace, &change.name, &options).await;
            });
        } else if phase == "Pending" && pod.node_name().is_some() {
            running.spawn(async move {
                let ordinal = change.name.rsplit('-').next().and_then(|text| text.parse::<u8>().ok()).unwrap_or(200);
                let now = jiff::Timestamp::now().round(jiff::Unit::Second).expect("in range").to_string();
                let status = json!({"status": {"phase": "Running", "podIP": format!("10.244.0.{}", ordinal + 2), "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}]}});
                let _ = cluster.patch::<Pod>(PatchKind::Strategic, &change.namespace, &change.name, Some("status"), &status).await;
            });
        }
    }
}

async fn world() -> World {
    let harness = Harness::start().await;
    let cluster = harness.cluster().clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(mainstay_scheduler::run(cluster.clone()));
    tasks.spawn(node(cluster.named("kubelet")));
    let room = json!({"status": {"allocatable": {"cpu": "8", "memory": "16Gi", "pods": "110"}}});
    cluster.merge_patch::<Node>("", "here", Some("status"), &room).await.expect("patched");
    World { cluster, _tasks: tasks, _harness: harness }
}

/// Waits for a condition, looked at with every change of what conditions here are about.
async fn until(cluster: &Cluster, what: &str, holds: impl Fn() -> bool) {
    let (sets, pods, claims) = (cluster.stateful_sets(), cluster.pods(), cluster.persistent_volume_claims());
    let (slices, revisions) = (cluster.endpoint_slices(), cluster.controller_revisions());
    let (mut a, mut b, mut c, mut d, mut e) = (sets.subscribe(), pods.subscribe(), claims.subscribe(), slices.subscribe(), revisions.subscribe());
    let wait = async {
        while !holds() {
            tokio::select! { _ = a.recv() => {}, _ = b.recv() => {}, _ = c.recv() => {}, _ = d.recv() => {}, _ = e.recv() => {} }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| {
        let states: Vec<String> = pods.list().iter().map(|pod| format!("{:?} {:?} {:?}", pod.metadata.name, pod.node_name(), pod.status)).collect();
        panic!("{what}\n{:?}\n{}", sets.list().iter().map(|set| &set.status).collect::<Vec<_>>(), states.join("\n"))
    });
}

fn set(name: &str, replicas: i32, policy: &str, claims: bool) -> StatefulSet {
    let mut value = json!({"metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"replicas": replicas, "serviceName": name, "podManagementPolicy": policy,
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": "a"}]}}}});
    if claims {
        value["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "www"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
    }
    StatefulSet::from_value(&value).expect("a set")
}

impl World {
    fn ready(&self, name: &str, replicas: i32) -> bool {
        let pods = self.cluster.pods();
        let ready = (0..replicas).all(|ordinal| pods.get(NAMESPACE, &format!("{name}-{ordinal}")).is_some_and(|pod| pod.status.as_ref().and_then(|status| status.conditions.as_ref()).is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))));
        ready && self.cluster.stateful_sets().get(NAMESPACE, name).and_then(|set| set.status.clone()).is_some_and(|status| status.ready_replicas == Some(replicas))
    }

    async fn made(&self, name: &str, replicas: i32, policy: &str, claims: bool) -> Duration {
        let start = Instant::now();
        self.cluster.create(&set(name, replicas, policy, claims)).await.expect("created");
        until(&self.cluster, name, || self.ready(name, replicas)).await;
        start.elapsed()
    }

    async fn gone(&self, name: &str) {
        self.cluster.delete::<StatefulSet>(NAMESPACE, name, &Value::Null).await.expect("deleted");
        until(&self.cluster, "gone", || !self.cluster.pods().list().iter().any(|pod| pod.metadata.name.as_deref().is_some_and(|pod| pod.starts_with(name)))).await;
        for claim in self.cluster.persistent_volume_claims().list() {
            self.cluster.delete::<PersistentVolumeClaim>(NAMESPACE, claim.metadata.name.as_deref().unwrap_or_default(), &Value::Null).await.expect("deleted");
        }
        until(&self.cluster, "claims gone", || self.cluster.persistent_volume_claims().count() == 0).await;
        // The next set of this name has the same first revision: it is to make its own.
        until(&self.cluster, "history gone", || self.cluster.controller_revisions().count() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_lives_its_life() {
    let world = world().await;
    let cluster = &world.cluster;
    let service = json!({"metadata": {"name": "web", "namespace": NAMESPACE}, "spec": {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 80}]}});
    cluster.create(&Service::from_value(&service).expect("a service")).await.expect("created");
    for (policy, claims) in [("OrderedReady", false), ("OrderedReady", true), ("Parallel", false), ("Parallel", true)] {
        let mut took = Vec::new();
        for _ in 0..5 {
            took.push(world.made("web", 3, policy, claims).await);
            world.gone("web").await;
        }
        took.sort();
        println!("3 replicas, {policy}, {}: median {:?}, worst {:?}", if claims { "claims" } else { "no claims" }, took[2], took[4]);
    }
    world.made("web", 3, "OrderedReady", true).await;
    let hostnames = || -> Vec<String> {
        let slices = cluster.endpoint_slices().list();
        let ours = slices.iter().filter(|slice| slice.metadata.labels.as_ref().is_some_and(|labels| labels.get("kubernetes.io/service-name").map(String::as_str) == Some("web")));
        let ready = ours.flat_map(|slice| slice.endpoints.iter().flatten()).filter(|endpoint| endpoint.conditions.as_ref().and_then(|one| one.ready) == Some(true));
        let mut names: Vec<String> = ready.filter_map(|endpoint| endpoint.hostname.clone()).collect();
        names.sort();
        names
    };
    until(cluster, "three endpoints", || hostnames() == ["web-0", "web-1", "web-2"]).await;

    let uid = |pod: &str| cluster.pods().get(NAMESPACE, pod).and_then(|pod| pod.metadata.uid.clone());
    let before = uid("web-1");
    cluster.delete::<Pod>(NAMESPACE, "web-1", &Value::Null).await.expect("deleted");
    until(cluster, "web-1 again", || uid("web-1").is_some() && uid("web-1") != before && world.ready("web", 3)).await;

    let image = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    let at = |image: &str| {
        let pods = cluster.pods().list_in(NAMESPACE);
        let all = pods.len() == 3 && pods.iter().all(|pod| pod.spec.as_ref().is_some_and(|spec| spec.containers[0].image.as_deref() == Some(image)));
        all && cluster.stateful_sets().get(NAMESPACE, "web").and_then(|set| set.status.clone()).is_some_and(|status| status.current_revision == status.update_revision && status.updated_replicas == Some(3))
    };
    for name in ["b", "a"] {
        cluster.patch::<StatefulSet>(PatchKind::Strategic, NAMESPACE, "web", None, &image(name)).await.expect("patched");
        until(cluster, "updated", || at(name) && world.ready("web", 3)).await;
    }
    let revisions = cluster.controller_revisions();
    let mut numbers: Vec<i64> = revisions.list().iter().map(|revision| revision.revision).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3], "a roll back gives the old revision a new number");

    let scale = |replicas: i32| json!({"spec": {"replicas": replicas}});
    cluster.merge_patch::<StatefulSet>(NAMESPACE, "web", None, &scale(1)).await.expect("scaled");
    until(cluster, "one", || cluster.pods().count() == 1 && world.ready("web", 1)).await;
    assert_eq!(cluster.persistent_volume_claims().count(), 3, "claims stay");
    until(cluster, "one endpoint", || hostnames() == ["web-0"]).await;
    world.gone("web").await;
    let left = cluster.request(Method::GET, "/apis/apps/v1/namespaces/x/controllerrevisions", None).await.expect("listed");
    assert_eq!(left["items"], json!([]), "history goes with the set");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_pods_at_once_and_back() {
    let world = world().await;
    let mut took = Vec::new();
    for _ in 0..5 {
        world.made("db", 1, "Parallel", true).await;
        let start = Instant::now();
        world.cluster.merge_patch::<StatefulSet>(NAMESPACE, "db", None, &json!({"spec": {"replicas": 10}})).await.expect("scaled");
        until(&world.cluster, "ten", || world.ready("db", 10)).await;
        took.push(start.elapsed());
        world.gone("db").await;
    }
    took.sort();
    println!("Parallel with claims, 1 to 10: median {:?}, worst {:?}", took[2], took[4]);
}

fn compatibility_template(null_timestamp: bool) -> Value {
    let mut template = json!({"$patch": "replace", "metadata": {"annotations": {"test": "value"}, "labels": {"app": "foo"}}, "spec": {
        "containers": [{"image": "test", "imagePullPolicy": "Always", "name": "test", "resources": {},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
        "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
        "securityContext": {}, "terminationGracePeriodSeconds": 30}});
    if null_timestamp {
        template["metadata"]["creationTimestamp"] = Value::Null;
    }
    json!({"spec": {"template": template}})
}

/// The set of upstream's compatibility tests (pkg/controller/statefulset/testdata), as a user would apply it.
fn compatibility_set(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "foo"}},
        "template": {"metadata": {"labels": {"app": "foo"}, "annotations": {"test": "value"}}, "spec": {"containers": [{"name": "test", "image": "test"}]}}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_applied_set_gets_the_revision_that_upstream_names() {
    let harness = Harness::start().await;
    harness.create("/apis/apps/v1/namespaces/x/statefulsets", compatibility_set("test")).await;
    let revision = harness.wait("/apis/apps/v1/namespaces/x/controllerrevisions/test-776999688b", |revision| !revision.is_null()).await;
    assert_eq!(revision["data"], compatibility_template(false));
    assert_eq!(revision["metadata"]["labels"], json!({"app": "foo", "controller.kubernetes.io/hash": "776999688b"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_that_upstream_1_33_wrote_is_used_on() {
    let harness = Harness::start().await;
    let labels = json!({"app": "foo", "controller.kubernetes.io/hash": "c77f6d978"});
    let revision = json!({"metadata": {"name": "test-c77f6d978", "labels": labels}, "data": compatibility_template(true), "revision": 1});
    let kept = harness.create("/apis/apps/v1/namespaces/x/controllerrevisions", revision).await;
    assert_eq!(kept["data"], compatibility_template(true), "a revision's data are kept as they came");
    harness.create("/apis/apps/v1/namespaces/x/statefulsets", compatibility_set("test")).await;
    let set = harness.wait("/apis/apps/v1/namespaces/x/statefulsets/test", |set| !set["status"]["updateRevision"].is_null()).await;
    assert_eq!(set["status"]["updateRevision"], "test-c77f6d978");
    let all = harness.get("/apis/apps/v1/namespaces/x/controllerrevisions").await;
    assert_eq!(all["items"].as_array().map(Vec::len), Some(1), "{all}");
}
