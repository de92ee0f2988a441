//! How far pods are: kubectl's watch, read as it comes, and a line a pod for the person who waits.

use crate::examples::Workload;
use anyhow::{Context as _, Result, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// A running `kubectl get --watch --output=json --output-watch-events`; ended when dropped.
pub(crate) struct Watch {
    child: Child,
    events: Receiver<Value>,
}

impl Watch {
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("run kubectl")?;
        let output = child.stdout.take().context("kubectl writes")?;
        // Bounded: a reader that falls behind makes kubectl wait.
        let (send, events) = sync_channel(64);
        std::thread::spawn(move || {
            let values = serde_json::Deserializer::from_reader(std::io::BufReader::new(output)).into_iter::<Value>();
            values.map_while(Result::ok).try_for_each(|value| send.send(value))
        });
        Ok(Self { child, events })
    }

    /// The next event, or none within the time.
    pub(crate) fn next(&mut self, limit: Duration) -> Result<Option<Value>> {
        match self.events.recv_timeout(limit) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("kubectl's watch ended early ({})", self.child.wait().context("wait for kubectl")?),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The pods of some workloads, and how they are shown: a line that changes on a terminal, a line a change elsewhere.
pub(crate) struct Progress<'a> {
    workloads: &'a [Workload],
    begun: Instant,
    /// By namespace and name: the workload's place, how far it is, its line.
    pods: BTreeMap<(String, String), (usize, Stage, Option<ProgressBar>)>,
    lines: Option<MultiProgress>,
}

/// How far a pod is. `Done`: Ready, or ended well where it is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Created,
    Scheduled,
    Image,
    Init(usize, usize),
    Started,
    Done,
    Trouble(String),
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Created => f.write_str("created"),
            Self::Scheduled => f.write_str("scheduled"),
            Self::Image => f.write_str("image here"),
            Self::Init(done, all) => write!(f, "init {done} of {all}"),
            Self::Started => f.write_str("started"),
            Self::Done => f.write_str("ready"),
            Self::Trouble(reason) => f.write_str(reason),
        }
    }
}

impl<'a> Progress<'a> {
    pub(crate) fn new(workloads: &'a [Workload], begun: Instant) -> Self {
        let lines = std::io::stdout().is_terminal().then(MultiProgress::new);
        Self { workloads, begun, pods: BTreeMap::new(), lines }
    }

    /// Whether every workload has the pods it takes.
    pub(crate) fn complete(&self) -> bool {
        self.workloads.iter().enumerate().all(|(place, workload)| self.pods.values().filter(|(of, stage, _)| *of == place && *stage == Stage::Done).count() >= workload.pods)
    }

    /// Takes a watch event in and shows what changed. Returns an image that cannot be had.
    pub(crate) fn see(&mut self, event: &Value) -> Option<String> {
        let pod = &event["object"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
        let place = self.workloads.iter().position(|workload| workload.namespace == key.0 && workload.labels.iter().all(|(name, value)| pod["metadata"]["labels"][name] == **value))?;
        if event["type"] == "DELETED" {
            if let Some((_, _, Some(line))) = self.pods.remove(&key) {
                line.finish_and_clear();
            }
            return None;
        }
        let stage = stage(pod, self.workloads[place].ends);
        if self.pods.get(&key).is_none_or(|(_, before, _)| *before != stage) {
            self.show(key, place, stage);
        }
        unavailable(pod)
    }

    fn show(&mut self, key: (String, String), place: usize, stage: Stage) {
        let words = format!("{:>6.2} s  {:<28} {stage}", self.begun.elapsed().as_secs_f64(), key.1);
        let line = match (self.pods.remove(&key).and_then(|(_, _, line)| line), &self.lines) {
            (Some(line), _) => Some(line),
            (None, Some(lines)) => Some(lines.add(ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())))),
            (None, None) => None,
        };
        match &line {
            Some(line) => line.set_message(words),
            None => println!("{words}"),
        }
        self.pods.insert(key, (place, stage, line));
    }

    /// Leaves the last state of every line on the terminal.
    pub(crate) fn finish(&self) {
        self.pods.values().filter_map(|(_, _, line)| line.as_ref()).for_each(ProgressBar::abandon);
    }
}

fn statuses<'a>(pod: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    pod["status"][list].as_array().into_iter().flatten()
}

fn condition(pod: &Value, name: &str) -> bool {
    pod["status"]["conditions"].as_array().into_iter().flatten().any(|condition| condition["type"] == name && condition["status"] == "True")
}

/// The furthest step that a pod's status shows.
fn stage(pod: &Value, ends: bool) -> Stage {
    let waits = ["initContainerStatuses", "containerStatuses"].into_iter().flat_map(|list| statuses(pod, list));
    let reason = waits.filter_map(|status| status["state"]["waiting"]["reason"].as_str()).find(|reason| !matches!(*reason, "PodInitializing" | "ContainerCreating"));
    if let Some(reason) = reason {
        return Stage::Trouble(reason.to_owned());
    }
    let inits = statuses(pod, "initContainerStatuses").count();
    let ended = statuses(pod, "initContainerStatuses").filter(|status| status["state"]["terminated"]["exitCode"] == 0).count();
    match pod["status"]["phase"].as_str() {
        Some("Succeeded") if ends => Stage::Done,
        Some("Failed") => Stage::Trouble("Failed".to_owned()),
        _ if !ends && condition(pod, "Ready") && pod["metadata"]["deletionTimestamp"].is_null() => Stage::Done,
        Some("Running") => Stage::Started,
        _ if ended > 0 => Stage::Init(ended, inits),
        _ if statuses(pod, "initContainerStatuses").chain(statuses(pod, "containerStatuses")).any(|status| status["imageID"].as_str().is_some_and(|id| !id.is_empty())) => Stage::Image,
        _ if condition(pod, "PodScheduled") => Stage::Scheduled,
        _ => Stage::Created,
    }
}

/// An image that a pod waits for in vain.
fn unavailable(pod: &Value) -> Option<String> {
    let mut all = ["initContainerStatuses", "containerStatuses"].into_iter().flat_map(|list| statuses(pod, list));
    let status = all.find(|status| matches!(status["state"]["waiting"]["reason"].as_str(), Some("ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName")))?;
    Some(status["image"].as_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pods_status_says_how_far_it_is() {
        let ready = json!([{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}]);
        for (status, ends, expected) in [
            (json!({}), false, "created"),
            (json!({"conditions": [{"type": "PodScheduled", "status": "True"}]}), false, "scheduled"),
            (json!({"initContainerStatuses": [{"imageID": "sha256:1", "state": {"running": {}}}]}), false, "image here"),
            (json!({"initContainerStatuses": [{"state": {"terminated": {"exitCode": 0}}}, {"state": {"waiting": {"reason": "PodInitializing"}}}]}), false, "init 1 of 2"),
            (json!({"phase": "Running"}), false, "started"),
            (json!({"phase": "Running", "conditions": ready}), false, "ready"),
            (json!({"phase": "Running", "conditions": ready}), true, "started"),
            (json!({"phase": "Succeeded"}), true, "ready"),
            (json!({"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}), false, "CrashLoopBackOff"),
        ] {
            assert_eq!(stage(&json!({"metadata": {}, "status": status}), ends).to_string(), expected, "{status}");
        }
    }
}
