//! The pod's row in `kubectl get` (pkg/printers/internalversion/printers.go, `printPod`).

use crate::columns::{AGE, NAME, NONE, or_none};
use crate::time::{human_duration, parse};
use crate::value::Access;
use crate::{Column, Field};
use serde_json::Value;

pub(crate) const COLUMNS: &[Column] = &[
    NAME,
    Column::new("Ready", "string", "Containers that are ready, of all.", |pod, _| {
        let summary = Summary::of(pod);
        format!("{}/{}", summary.ready, summary.total).into()
    }),
    Column::new("Status", "string", "Where the pod is in its life, and why.", |pod, _| Summary::of(pod).reason.into()),
    Column::new("Restarts", "string", "How often containers were restarted, and when last.", restarts),
    AGE,
    Column::new("IP", "string", "The pod's address.", |pod, _| match pod.list("status.podIPs") {
        [first, ..] => or_none(first.text("ip")),
        [] => or_none(pod.text("status.podIP")),
    })
    .wide(),
    Column::new("Node", "string", "The node it runs on.", |pod, _| or_none(pod.text("spec.nodeName"))).wide(),
    Column::new("Nominated Node", "string", "The node on which room is being made for it.", |pod, _| or_none(pod.text("status.nominatedNodeName"))).wide(),
    Column::new("Readiness Gates", "string", "Conditions that are true, of those it must have to be ready.", |pod, _| gates(pod).into()).wide(),
];

/// What `fieldSelector` may name.
pub(crate) const FIELDS: &[Field] = &[
    Field { name: "spec.nodeName", value: |p| p.text("spec.nodeName").to_owned() },
    Field { name: "spec.restartPolicy", value: |p| p.text("spec.restartPolicy").to_owned() },
    Field { name: "spec.schedulerName", value: |p| p.text("spec.schedulerName").to_owned() },
    Field { name: "spec.serviceAccountName", value: |p| p.text("spec.serviceAccountName").to_owned() },
    Field { name: "spec.hostNetwork", value: |p| p.flag("spec.hostNetwork").to_string() },
    Field { name: "status.phase", value: |p| p.text("status.phase").to_owned() },
    Field { name: "status.podIP", value: |p| p.text("status.podIP").to_owned() },
    Field { name: "status.podIPs", value: |p| p.text("status.podIP").to_owned() },
    Field { name: "status.nominatedNodeName", value: |p| p.text("status.nominatedNodeName").to_owned() },
];

fn restarts(pod: &Value, now: i64) -> Value {
    let summary = Summary::of(pod);
    match summary.last_restart {
        Some(at) if summary.restarts != 0 => format!("{} ({} ago)", summary.restarts, human_duration(now - at)).into(),
        _ => summary.restarts.to_string().into(),
    }
}

fn gates(pod: &Value) -> String {
    let gates = pod.list("spec.readinessGates");
    let met = gates.iter().filter(|gate| has_condition(pod, gate.text("conditionType"))).count();
    if gates.is_empty() { NONE.to_owned() } else { format!("{met}/{}", gates.len()) }
}

fn has_condition(pod: &Value, kind: &str) -> bool {
    pod.list("status.conditions").iter().any(|c| c.text("type") == kind && c.text("status") == "True")
}

/// What the containers' states come to.
struct Summary {
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<i64>,
    reason: String,
}

impl Summary {
    fn of(pod: &Value) -> Summary {
        let sidecars = pod.list("spec.initContainers").iter().filter(|c| is_sidecar(c)).count();
        let mut summary =
            Summary { ready: 0, total: pod.list("spec.containers").len() + sidecars, restarts: 0, last_restart: None, reason: phase(pod) };
        let initializing = summary.add_init_containers(pod);
        if !initializing || has_condition(pod, "Initialized") {
            summary.count_sidecar_restarts_only(pod);
            summary.add_containers(pod);
        }
        if pod.has("metadata.deletionTimestamp") {
            if pod.text("status.reason") == "NodeLost" {
                summary.reason = "Unknown".to_owned();
            } else if !matches!(pod.text("status.phase"), "Succeeded" | "Failed") {
                summary.reason = "Terminating".to_owned();
            }
        }
        summary
    }

    fn count(&mut self, status: &Value) {
        self.restarts += status.int("restartCount").unwrap_or(0);
        self.last_restart = self.last_restart.max(parse(status.text("lastState.terminated.finishedAt")));
    }

    /// The first init container that is not done gives the reason. True while there is one.
    fn add_init_containers(&mut self, pod: &Value) -> bool {
        let specs = pod.list("spec.initContainers");
        for (i, status) in pod.list("status.initContainerStatuses").iter().enumerate() {
            self.count(status);
            let sidecar = specs.iter().any(|c| c.text("name") == status.text("name") && is_sidecar(c));
            let (terminated, waiting) = (status.at("state.terminated"), status.text("state.waiting.reason"));
            if terminated.is_object() && terminated.int("exitCode").unwrap_or(0) == 0 {
                continue;
            }
            if sidecar && status.flag("started") {
                self.ready += usize::from(status.flag("ready"));
                continue;
            }
            self.reason = match () {
                () if terminated.is_object() => format!("Init:{}", ended(terminated)),
                () if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                () => format!("Init:{i}/{}", specs.len()),
            };
            return true;
        }
        false
    }

    /// Once the pod is initialized, the restarts of finished init containers no longer count.
    fn count_sidecar_restarts_only(&mut self, pod: &Value) {
        (self.restarts, self.last_restart) = (0, None);
        let specs = pod.list("spec.initContainers");
        for status in pod.list("status.initContainerStatuses") {
            if specs.iter().any(|c| c.text("name") == status.text("name") && is_sidecar(c)) {
                self.count(status);
            }
        }
    }

    /// The first container that is not running gives the reason (they are walked from the last).
    fn add_containers(&mut self, pod: &Value) {
        let mut running = false;
        for status in pod.list("status.containerStatuses").iter().rev() {
            self.count(status);
            let (terminated, waiting) = (status.at("state.terminated"), status.text("state.waiting.reason"));
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if terminated.is_object() {
                self.reason = ended(terminated);
            } else if status.flag("ready") && status.at("state.running").is_object() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            self.reason = if has_condition(pod, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }
}

fn phase(pod: &Value) -> String {
    let gated = pod.list("status.conditions").iter().any(|c| c.text("type") == "PodScheduled" && c.text("reason") == "SchedulingGated");
    match pod.text("status.reason") {
        _ if gated => "SchedulingGated".to_owned(),
        "" => pod.text("status.phase").to_owned(),
        reason => reason.to_owned(),
    }
}

fn is_sidecar(container: &Value) -> bool {
    container.text("restartPolicy") == "Always"
}

/// `OOMKilled`, `Signal:9`, `ExitCode:1`.
fn ended(terminated: &Value) -> String {
    match (terminated.text("reason"), terminated.int("signal").unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", terminated.int("exitCode").unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}
