//! A command in a container.

use crate::figure::{Figure, Target, Unit, median};
use crate::lab::{Lab, PATIENCE};
use crate::manifests::{ENDS_ON_TERM, pod, pod_spec};
use crate::watch::{Objects, ready};
use anyhow::Result;
use serde_json::json;

pub(crate) async fn run(lab: &Lab) -> Result<Vec<Figure>> {
    let (mut connection, path) = lab.namespace("bench-exec").await?;
    let mut pods = Objects::watch(&lab.api, &path).await?;
    connection.create(&path, &pod("p", pod_spec(ENDS_ON_TERM, 1))).await?;
    pods.until("the pod Ready", PATIENCE, |now| now.values().any(ready)).await?;
    let (mut own, mut all) = (Vec::new(), Vec::new());
    for _ in 0..lab.runs(30) {
        own.push(lab.kubectl.start_time().await?.as_secs_f64() * 1e3);
        all.push(lab.kubectl.run(&["--namespace", "bench-exec", "exec", "p", "--", "true"], "").await?.1.as_secs_f64() * 1e3);
    }
    connection.delete(&format!("{path}/p"), &json!({})).await?;
    pods.until("the pod gone", PATIENCE, |now| now.is_empty()).await?;
    let start = median(&own);
    let beyond = all.iter().zip(&own).map(|(all, own)| all - own).collect();
    let note = format!("each run less the `kubectl version --client` just before it (median {start:.1} ms); whole: {:.1} ms. kubectl's reading of the kubeconfig, its two TLS connections and the GET of the pod are in it. Of the difference ours is about 6 ms, seen by a client that does no more than it must (TLS 2.0 ms, until 101 1.0 ms, the command until its status 2.1 to 5.2 ms); kubectl's own CPU for `exec` is 10 ms more than for `version --client`, which only fewer connections could shorten", median(&all));
    Ok(vec![
        Figure::new("`kubectl exec -- true` beyond kubectl's own start", Unit::Milliseconds, beyond)
            .target(Target::AtMost(15.0))
            .real("65 ms")
            .floor(4.0 * lab.floors.tls_ms + lab.floors.program_ms, "4 TLS round trips, a fork and exec; bound by kubectl's two handshakes")
            .note(note),
    ])
}
