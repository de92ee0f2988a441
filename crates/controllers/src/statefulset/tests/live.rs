//! The whole controller against the fake API, with a node that makes pods ready at once.

use http::Method;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use mainstay_client::{Cluster, fake::Api};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";
const PODS: &str = "/api/v1/namespaces/default/pods";

struct World {
    api: Api,
    cluster: Cluster,
    _tasks: tokio::task::JoinSet<()>,
}

/// Makes every pod Running and Ready as soon as it sees it, and ends those that are being deleted.
async fn node(api: Api, cluster: Cluster) {
    let pods = cluster.pods();
    let mut changes = pods.subscribe();
    pods.synced().await;
    while let Ok(change) = changes.recv().await {
        let Some(pod) = pods.get(&change.namespace, &change.name) else { continue };
        let path = format!("/api/v1/namespaces/{}/pods/{}", change.namespace, change.name);
        if pod.metadata.deletion_timestamp.is_some() {
            let _ = api.apply(Method::DELETE, &path, &json!({"gracePeriodSeconds": 0}));
        } else if super::super::status::phase(&pod) == "Pending" {
            let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-31T12:00:00Z"}]}});
            let _ = api.apply(Method::PATCH, &path, &status);
        }
    }
}

/// What the API server adds to a new pod.
async fn pending(api: Api, cluster: Cluster) {
    let pods = cluster.pods();
    let mut changes = pods.subscribe();
    while let Ok(change) = changes.recv().await {
        let Some(pod) = pods.get(&change.namespace, &change.name) else { continue };
        if pod.status.is_none() {
            let path = format!("/api/v1/namespaces/{}/pods/{}", change.namespace, change.name);
            let _ = api.apply(Method::PATCH, &path, &json!({"status": {"phase": "Pending"}, "spec": {"nodeName": "n1"}}));
        }
    }
}

async fn world() -> World {
    let api = Api::new();
    let cluster = Cluster::new(api.client(), "test");
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(pending(api.clone(), cluster.clone()));
    tasks.spawn(node(api.clone(), cluster.clone()));
    tasks.spawn(crate::statefulset::run(cluster.clone()));
    cluster.pods().synced().await;
    cluster.stateful_sets().synced().await;
    World { api, cluster, _tasks: tasks }
}

fn set(replicas: i32, image: &str) -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        "volumeClaimTemplates": [{"metadata": {"name": "www"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]}})
}

impl World {
    async fn until(&self, what: &str, holds: impl Fn(&StatefulSet, &[std::sync::Arc<Pod>]) -> bool) {
        let (sets, pods) = (self.cluster.stateful_sets(), self.cluster.pods());
        let (mut of_sets, mut of_pods) = (sets.subscribe(), pods.subscribe());
        let wait = async {
            loop {
                if sets.get("default", "web").is_some_and(|set| holds(&set, &pods.list())) {
                    return;
                }
                tokio::select! { _ = of_sets.recv() => {}, _ = of_pods.recv() => {} }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{what}: {:?}", sets.get("default", "web").and_then(|set| set.status.clone())));
    }

    async fn ready(&self, replicas: i32) {
        self.until("ready", |set, pods| {
            let status = set.status.as_ref();
            pods.len() == usize::try_from(replicas).unwrap_or(0)
                && status.is_some_and(|status| status.ready_replicas.unwrap_or(0) == replicas && status.replicas == replicas && status.observed_generation == set.metadata.generation)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_is_created_scaled_updated_and_its_events_say_so() {
    let world = world().await;
    let start = Instant::now();
    world.api.apply(Method::POST, SETS, &set(3, "a")).expect("created");
    world.ready(3).await;
    println!("3 replicas, OrderedReady, node at once: {:?}", start.elapsed());
    assert_eq!(world.api.list("/api/v1", "persistentvolumeclaims").len(), 3);
    let set_path = format!("{SETS}/web");
    world.api.apply(Method::PATCH, &set_path, &json!({"status": {"conditions": [{"type": "Mine", "status": "True"}]}})).expect("patched");

    world.api.apply(Method::PATCH, &set_path, &json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "b"}]}}}})).expect("patched");
    world
        .until("updated", |set, pods| {
            let image = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone());
            let status = set.status.as_ref();
            pods.iter().all(|pod| image(pod).as_deref() == Some("b")) && pods.len() == 3 && status.is_some_and(|status| status.current_revision == status.update_revision && status.updated_replicas == Some(3))
        })
        .await;
    world.api.apply(Method::PATCH, &set_path, &json!({"spec": {"replicas": 1}})).expect("patched");
    world.ready(1).await;
    let stored = &world.api.list("/apis/apps/v1", "statefulsets")[0];
    assert_eq!(stored["status"]["conditions"][0]["type"], "Mine");
    assert_eq!(world.api.list("/apis/apps/v1", "controllerrevisions").len(), 2);

    world.cluster.named("statefulset-controller").recorder().flush().await;
    let events: Vec<String> = world.api.list("/api/v1", "events").iter().map(|event| format!("{} {}", event["reason"].as_str().unwrap_or_default(), event["message"].as_str().unwrap_or_default())).collect();
    for expected in [
        "SuccessfulCreate Create Claim www-web-0 Pod web-0 in StatefulSet web success",
        "SuccessfulCreate Create Pod web-0 in StatefulSet web successful",
        "SuccessfulDelete Delete Pod web-2 in StatefulSet web successful",
    ] {
        assert!(events.iter().any(|event| event == expected), "{expected}: {events:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphan_is_adopted_and_one_that_no_longer_matches_released() {
    let world = world().await;
    world.api.apply(Method::POST, SETS, &set(1, "a")).expect("created");
    world.ready(1).await;
    let pod = format!("{PODS}/web-0");
    let owner = |pod: &Pod| pod.metadata.owner_references.as_ref().map(|owners| owners.len()).unwrap_or(0);
    let uid = |pods: &[std::sync::Arc<Pod>]| pods.first().and_then(|pod| pod.metadata.uid.clone());
    let before = uid(&world.cluster.pods().list());
    world.api.apply(Method::PATCH, &pod, &json!({"metadata": {"ownerReferences": null}})).expect("orphaned");
    world.until("adopted", |_, pods| pods.len() == 1 && owner(&pods[0]) == 1 && uid(pods) == before).await;
    world.api.apply(Method::PATCH, &pod, &json!({"metadata": {"labels": {"app": "other"}}})).expect("relabelled");
    world.until("released", |_, pods| pods.len() == 1 && owner(&pods[0]) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_the_api_refuses_is_told_of_and_tried_again() {
    let world = world().await;
    world.api.refuse(|method, path| (method == Method::POST && path == PODS).then(|| (403, "Forbidden", "pods \"web-0\" is forbidden: no".into())));
    world.api.apply(Method::POST, SETS, &set(1, "a")).expect("created");
    let events = || world.api.list("/api/v1", "events");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !events().iter().any(|event| event["message"] == "Create Pod web-0 in StatefulSet web failed error: pods \"web-0\" is forbidden: no" && event["count"].as_i64() > Some(2)) {
        assert!(Instant::now() < deadline, "{:#?}", events());
        tokio::task::yield_now().await;
    }
    world.api.refuse(|_, _| None);
    world.ready(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_whose_name_is_taken_gets_another() {
    let world = world().await;
    let new = super::lines::revision_of(&serde_json::from_value({
        let mut value = set(1, "a");
        value["metadata"]["namespace"] = json!("default");
        value
    }).expect("a set"), 1);
    let name = new.metadata.name.expect("a name");
    let taken = json!({"metadata": {"name": name}, "data": {"spec": {}}, "revision": 1});
    world.api.apply(Method::POST, "/apis/apps/v1/namespaces/default/controllerrevisions", &taken).expect("created");
    world.api.apply(Method::POST, SETS, &set(1, "a")).expect("created");
    world.ready(1).await;
    let stored = &world.api.list("/apis/apps/v1", "statefulsets")[0];
    assert_eq!(stored["status"]["collisionCount"], 1);
    assert_ne!(stored["status"]["updateRevision"], json!(name));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_controllers_own_time_for_a_pod_is_short() {
    let world = world().await;
    let start = Instant::now();
    world.api.apply(Method::POST, SETS, &set(30, "a")).expect("created");
    world.ready(30).await;
    let each = start.elapsed() / 30;
    println!("OrderedReady, a pod from Ready to the next one Ready, all in memory: {each:?}");
    // 2 ms is the bound on a quiet machine; the assertion leaves room for a loaded one.
    assert!(each < Duration::from_millis(20), "{each:?}");
}
