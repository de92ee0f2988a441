//! Stopping every pod for `down`: their objects stay, and the next start runs them again.

use crate::container::paths::{Paths, parse_container_id};
use crate::container::{cgroup, spec};
use crate::pod::events::Events;
use crate::pod::reference::{PodRef, containers, init_containers, is_sidecar};
use crate::pod::{sandbox, step, stop};
use crate::{Config, Error, records};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use mainstay_client::Cluster;
use mainstay_supervisor::{Container, Containers};
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// See [`crate::stop_all`].
pub(crate) async fn stop_all(config: &Config, cluster: &Cluster, containers: &Containers, limit: Duration) -> Result<(), Error> {
    let found = containers.adopt().await.map_err(|e| Error::Start { doing: "find the containers to stop", source: std::io::Error::other(e) })?;
    let mut runs: HashMap<String, Vec<Container>> = HashMap::new();
    for container in found {
        let uid = parse_container_id(container.id()).map(|(uid, ..)| uid.to_owned());
        if let Some(uid) = uid {
            runs.entry(uid).or_default().push(container);
        }
    }
    let deadline = Timestamp::now() + SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
    let run_dir = config.run_dir.clone();
    let pods = tokio::task::spawn_blocking(move || records::read_all(&run_dir)).await.unwrap_or_default();
    let events = cluster.named("kubelet").recorder().on_host(&config.name);
    let groups = groups(pods);
    join_all(groups.into_values().map(|group| {
        let mut of_group: Vec<(Arc<Pod>, Vec<Container>)> =
            group.into_iter().map(|pod| (pod.clone(), runs.remove(&PodRef::of(&pod).uid).unwrap_or_default())).collect();
        let events = events.clone();
        async move {
            for (pod, containers) in of_group.drain(..) {
                let events = Events::new(events.clone(), PodRef::of(&pod));
                stop_pod(config, &pod, containers, deadline, &events).await;
            }
        }
    }))
    .await;
    Ok(())
}

/// Pods of one set together, the highest ordinal first; every other pod by itself.
fn groups(pods: Vec<Arc<Pod>>) -> BTreeMap<String, Vec<Arc<Pod>>> {
    let mut groups: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in pods {
        let owner = pod.metadata.owner_references.iter().flatten().find(|o| o.controller == Some(true) && o.kind == "StatefulSet");
        let key = owner.map_or_else(|| PodRef::of(&pod).uid, |o| o.uid.clone());
        groups.entry(key).or_default().push(pod);
    }
    for group in groups.values_mut() {
        group.sort_by_key(|pod| std::cmp::Reverse(ordinal(pod)));
    }
    groups
}

fn ordinal(pod: &Pod) -> u64 {
    pod.metadata.name.as_deref().and_then(|n| n.rsplit_once('-')).and_then(|(_, n)| n.parse().ok()).unwrap_or(0)
}

async fn stop_pod(config: &Config, pod: &Arc<Pod>, runs: Vec<Container>, limit: Timestamp, events: &Events) {
    let me = PodRef::of(pod);
    let paths = Paths::new(config, &me);
    let deadline = (Timestamp::now() + step::grace(pod)).min(limit);
    let ip: Ipv4Addr = pod.status.as_ref().and_then(|s| s.pod_ip.as_ref()).and_then(|ip| ip.parse().ok()).unwrap_or(Ipv4Addr::LOCALHOST);
    let (_never, pod_deadline) = watch::channel(Timestamp::MAX);
    let running = |spec: &Spec| {
        runs.iter().find(|c| c.exit().is_none() && parse_container_id(c.id()).is_some_and(|(_, name, _)| name == spec.name)).cloned()
    };
    let end = |spec: &Spec, container: Container| {
        let order = stop::Order {
            pod: pod.clone(),
            spec: spec.clone(),
            container,
            ip,
            signal: spec::kept_stop_signal(&paths.stop_signal(&spec.name)),
            deadline,
            pod_deadline: pod_deadline.clone(),
        };
        async move { order.stop(events).await }
    };
    let mains = containers(pod).iter().chain(init_containers(pod).iter().filter(|c| !is_sidecar(c)));
    join_all(mains.filter_map(|spec| Some(end(spec, running(spec)?)))).await;
    for spec in init_containers(pod).iter().rev().filter(|c| is_sidecar(c)) {
        if let Some(container) = running(spec) {
            end(spec, container).await;
        }
    }
    for container in runs {
        let id = container.id().to_owned();
        let ended = async {
            container.kill_all().await?;
            container.wait().await;
            container.remove().await
        };
        if let Err(error) = ended.await {
            tracing::error!(container = id, %error, "a stopped container could not be removed");
        }
    }
    cgroup::empty(&config.instance, &me.uid).await;
    let (instance, uid) = (config.instance.clone(), me.uid.clone());
    match tokio::task::spawn_blocking(move || sandbox::remove_local(&paths, &instance, &uid)).await {
        Ok(Ok(())) => tracing::info!(pod = %me, "stopped"),
        Ok(Err(error)) => tracing::error!(pod = %me, %error, "the stopped pod could not be cleaned up"),
        Err(error) => tracing::error!(pod = %me, %error, "cleaning up the stopped pod panicked"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_stops_from_its_highest_ordinal_beside_the_others() {
        let pod = |name: &str, owner: Option<&str>| -> Arc<Pod> {
            let owners = owner.map(|uid| serde_json::json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "s", "uid": uid, "controller": true}]));
            Arc::new(serde_json::from_value(serde_json::json!({"metadata": {"name": name, "uid": name, "ownerReferences": owners.unwrap_or(serde_json::json!([]))}})).unwrap())
        };
        let made = groups(vec![pod("a-2", Some("A")), pod("lone", None), pod("a-10", Some("A")), pod("b-0", Some("B"))]);
        let names: Vec<Vec<&str>> = made.values().map(|g| g.iter().map(|p| p.metadata.name.as_deref().unwrap()).collect()).collect();
        assert_eq!(names, [vec!["a-10", "a-2"], vec!["b-0"], vec!["lone"]]);
    }
}
