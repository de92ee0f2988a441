//! Stateful sets from apply to the third pod.

use crate::api::Connection;
use crate::figure::{Figure, Target, Unit};
use crate::lab::{Lab, PATIENCE};
use crate::manifests::{ENDS_ON_TERM, Set, pod_spec, stateful_set};
use crate::watch::{Objects, ready};
use anyhow::Result;
use serde_json::json;

struct Watches {
    connection: Connection,
    namespace: String,
    sets: Objects,
    pods: Objects,
}

/// Milliseconds from kubectl's start, and from the set's event, to the third Ready; and what kubectl took.
#[derive(Default)]
struct Times {
    apply: Vec<f64>,
    inside: Vec<f64>,
    kubectl: Vec<f64>,
}

pub(crate) async fn ordered(lab: &Lab) -> Result<Vec<Figure>> {
    let (with, without) = both(lab, false, "bench-ordered").await?;
    let f = &lab.floors;
    // A pod's create, binding and Ready must each be durable before the next pod may start.
    let chain = 3.0 * (f.container_ms + 3.0 * f.fsync_ms);
    let outside = "kubectl's start, and 3 × (namespaces and exec, 3 fdatasync in a row); bound by kubectl";
    let inside = "3 × (namespaces and exec, 3 fdatasync in a row)";
    let note = |t: &Times| format!("kubectl itself took {:.0} ms of it (median)", crate::figure::median(&t.kubectl));
    Ok(vec![
        Figure::new("`kubectl apply`, 3 OrderedReady replicas with claims → third Ready", Unit::Milliseconds, with.apply.clone()).target(Target::AtMost(500.0)).real("1.9–2.3 s").floor(f.kubectl_ms + chain, outside).note(note(&with)),
        Figure::new("the same without claims", Unit::Milliseconds, without.apply.clone()).target(Target::AtMost(500.0)).real("1.67 s").floor(f.kubectl_ms + chain, outside).note(note(&without)),
        Figure::new("inside: set created → third Ready, with claims", Unit::Milliseconds, with.inside).target(Target::AtMost(150.0)).floor(chain, inside).note("between the arrivals of the set's and the third pod's event at one watcher"),
        Figure::new("inside: set created → third Ready, without claims", Unit::Milliseconds, without.inside).target(Target::AtMost(150.0)).floor(chain, inside),
    ])
}

pub(crate) async fn parallel(lab: &Lab) -> Result<Vec<Figure>> {
    let (with, without) = both(lab, true, "bench-parallel").await?;
    let f = &lab.floors;
    let floor = f.kubectl_ms + 3.0 * f.container_ms / 2.0 + 3.0 * f.fsync_ms;
    let bound = "kubectl's start, namespaces and exec of 3 on 2 cores, 3 fdatasync; bound by kubectl";
    Ok(vec![
        Figure::new("`kubectl apply`, 3 Parallel replicas with claims → third Ready", Unit::Milliseconds, with.apply).target(Target::WorstWithin(2.0)).real("1.97 s, but 13–19 s about once in six").floor(floor, bound),
        Figure::new("the same, Parallel without claims", Unit::Milliseconds, without.apply).target(Target::WorstWithin(2.0)).real("0.94 s").floor(floor, bound),
        Figure::new("inside, Parallel with claims", Unit::Milliseconds, with.inside).target(Target::WorstWithin(2.0)).floor(floor - f.kubectl_ms, "the same without kubectl"),
        Figure::new("inside, Parallel without claims", Unit::Milliseconds, without.inside).target(Target::WorstWithin(2.0)).floor(floor - f.kubectl_ms, "the same without kubectl"),
    ])
}

/// With claims, and without; in turns, so that a slow minute of the machine meets both.
async fn both(lab: &Lab, parallel: bool, namespace: &str) -> Result<(Times, Times)> {
    let (connection, pods) = lab.namespace(namespace).await?;
    let sets = Objects::watch(&lab.api, &format!("/apis/apps/v1/namespaces/{namespace}/statefulsets")).await?;
    let mut watches = Watches { connection, namespace: namespace.to_owned(), sets, pods: Objects::watch(&lab.api, &pods).await? };
    let (mut with, mut without) = (Times::default(), Times::default());
    for i in 0..lab.runs(20) {
        once(lab, &mut watches, &format!("with-{i}"), Set { replicas: 3, parallel, claims: true }, &mut with).await?;
        once(lab, &mut watches, &format!("without-{i}"), Set { replicas: 3, parallel, claims: false }, &mut without).await?;
    }
    Ok((with, without))
}

async fn once(lab: &Lab, watches: &mut Watches, name: &str, set: Set, times: &mut Times) -> Result<()> {
    let manifest = stateful_set(name, &watches.namespace, set, pod_spec(ENDS_ON_TERM, 1)).to_string();
    let begun = std::time::Instant::now();
    let (kubectl, sets, third) = tokio::join!(
        lab.kubectl.run(&["apply", "-f", "-"], &manifest),
        watches.sets.until("set created", PATIENCE, |now| now.contains_key(name)),
        watches.pods.until("third pod Ready", PATIENCE, |now| now.values().filter(|p| ready(p)).count() == 3),
    );
    times.kubectl.push(kubectl?.1.as_secs_f64() * 1e3);
    let (created, third) = (sets?, third?);
    times.apply.push((third - begun).as_secs_f64() * 1e3);
    times.inside.push((third - created).as_secs_f64() * 1e3);
    clean(watches, name).await
}

async fn clean(watches: &mut Watches, name: &str) -> Result<()> {
    let namespace = &watches.namespace;
    watches.connection.delete(&format!("/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}"), &json!({"propagationPolicy": "Background"})).await?;
    watches.pods.until("the set's pods gone", PATIENCE, |now| now.is_empty()).await?;
    watches.connection.delete(&format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims"), &json!({})).await?;
    Ok(())
}
