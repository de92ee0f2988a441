//! What the API is told of a pod. Pure: the object, what is known of its runtime and the time in, its status out.

use super::reference::{containers, init_containers, is_sidecar, qos_class};
use super::state::{ContainerState, Ended, Phase, State, Stopping};
use super::step::{is_over, restarts};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// `containerID` is `mainstay://<runtime id>`.
pub(crate) const RUNTIME: &str = "mainstay";

/// `before`: what was last told (see `base`). Upstream: `generateAPIPodStatus` (pkg/kubelet/kubelet_pods.go, 1.36).
pub(crate) fn status(pod: &core::Pod, before: &core::PodStatus, state: &State, node_ip: &str, now: Timestamp) -> core::PodStatus {
    let old = before.clone();
    let inits: Vec<_> = init_containers(pod).iter().map(|c| container_status(pod, c, state, true)).collect();
    let mains: Vec<_> = containers(pod).iter().map(|c| container_status(pod, c, state, false)).collect();
    let (mut reason, mut message) = (None, None);
    let mut phase = phase(pod, state, &inits, &mains);
    if let Some(Stopping::Failed { reason: r, message: m, .. }) = &state.stopping {
        (phase, reason, message) = ("Failed", Some(r.clone()), Some(m.clone()));
    }
    // A finished pod stays finished, whatever its containers' records say (upstream: the status manager refuses such a transition).
    if let Some(terminal @ ("Succeeded" | "Failed")) = old.phase.as_deref() {
        phase = if terminal == "Succeeded" { "Succeeded" } else { "Failed" };
        (reason, message) = (reason.or(old.reason.clone()), message.or(old.message.clone()));
    }
    let mut status = core::PodStatus {
        phase: Some(phase.to_owned()),
        reason,
        message,
        host_ip: Some(node_ip.to_owned()),
        host_ips: Some(vec![core::HostIP { ip: node_ip.to_owned() }]),
        start_time: old.start_time.clone().or(state.started_at.map(second)),
        qos_class: old.qos_class.clone().or_else(|| Some(qos_class(pod).to_owned())),
        observed_generation: pod.metadata.generation,
        init_container_statuses: (!inits.is_empty()).then_some(inits),
        container_statuses: Some(mains),
        ..old.clone()
    };
    match state.sandbox.done() {
        Some(address) if !address.ip.is_empty() => {
            status.pod_ip = Some(address.ip.clone());
            status.pod_ips = Some(vec![core::PodIP { ip: address.ip.clone() }]);
        }
        _ if phase == "Pending" => {
            status.pod_ip = None;
            status.pod_ips = None;
        }
        _ => {}
    }
    status.conditions = Some(conditions(pod, state, &status, &old, now));
    status
}

/// API times have whole seconds.
fn second(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// Upstream: `getPhase` (pkg/kubelet/kubelet_pods.go).
fn phase(pod: &core::Pod, state: &State, inits: &[core::ContainerStatus], mains: &[core::ContainerStatus]) -> &'static str {
    let init_pending = !state.initialized && !init_containers(pod).is_empty();
    if init_pending {
        let failed = is_over(pod, state) && inits.iter().any(|s| exit_code(s).is_some_and(|code| code != 0));
        return if failed { "Failed" } else { "Pending" };
    }
    let (mut waiting, mut running, mut failed, mut stopped) = (0, 0, 0, 0);
    for (container, status) in containers(pod).iter().zip(mains) {
        let current = status.state.as_ref();
        if current.is_some_and(|s| s.running.is_some()) {
            running += 1;
        } else if let Some(code) = exit_code(status) {
            stopped += 1;
            failed += i32::from(code != 0);
            // One that will run again keeps the pod running.
            running += i32::from(state.stopping.is_none() && restarts(pod, container, code));
        } else if status.last_state.as_ref().is_some_and(|s| s.terminated.is_some()) {
            running += 1;
        } else {
            waiting += 1;
        }
    }
    if waiting > 0 {
        "Pending"
    } else if running > 0 || stopped == 0 || (state.stopping.is_some() && busy(state)) {
        "Running"
    } else if failed > 0 {
        "Failed"
    } else if init_containers(pod).iter().any(|c| is_sidecar(c) && state.container(&c.name).is_some_and(ContainerState::is_busy)) {
        "Running"
    } else {
        "Succeeded"
    }
}

fn busy(state: &State) -> bool {
    state.containers.values().any(ContainerState::is_busy)
}

fn exit_code(status: &core::ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

fn container_status(pod: &core::Pod, container: &core::Container, state: &State, init: bool) -> core::ContainerStatus {
    let default = ContainerState::default();
    let known = state.container(&container.name).unwrap_or(&default);
    let mut status = core::ContainerStatus {
        name: container.name.clone(),
        image: if known.image.is_empty() { container.image.clone().unwrap_or_default() } else { known.image.clone() },
        image_id: known.image_id.clone(),
        restart_count: i32::try_from(known.attempt).unwrap_or(i32::MAX),
        started: Some(false),
        state: Some(core::ContainerState::default()),
        last_state: Some(known.last.as_ref().map(terminated).unwrap_or_default()),
        resources: container.resources.clone().filter(|r| *r != core::ResourceRequirements::default()),
        allocated_resources: container.resources.as_ref().and_then(|r| r.requests.clone()),
        ..core::ContainerStatus::default()
    };
    let regular_init = init && !is_sidecar(container);
    match &known.phase {
        Phase::Running(running) => {
            status.container_id = Some(format!("{RUNTIME}://{}", running.id));
            status.started = Some(running.started && running.post_started);
            status.ready = !regular_init && running.ready && running.started && running.post_started;
            status.state = Some(core::ContainerState {
                running: Some(core::ContainerStateRunning { started_at: Some(second(running.started_at)) }),
                ..core::ContainerState::default()
            });
        }
        Phase::Exited(ended) => {
            status.container_id = ended.id.as_ref().map(|id| format!("{RUNTIME}://{id}"));
            status.ready = regular_init && ended.exit_code == 0;
            status.state = Some(terminated(ended));
        }
        Phase::Waiting { reason, message, .. } => {
            let reason = if reason.is_empty() { waiting_reason(pod) } else { reason };
            status.state = Some(waiting(reason, message.clone()));
            before_next_run(&mut status, known);
        }
        Phase::Preparing | Phase::Prepared | Phase::Launching => {
            // Until the next run has begun, the last one's end is what there is to see.
            match &known.last {
                Some(last) => (status.state, status.last_state) = (Some(terminated(last)), Some(core::ContainerState::default())),
                None => status.state = Some(waiting(waiting_reason(pod), None)),
            }
            before_next_run(&mut status, known);
        }
    }
    status
}

fn before_next_run(status: &mut core::ContainerStatus, known: &ContainerState) {
    if let Some(last) = &known.last {
        status.restart_count = i32::try_from(last.attempt).unwrap_or(i32::MAX);
        status.container_id = last.id.as_ref().map(|id| format!("{RUNTIME}://{id}"));
    }
}

fn waiting_reason(pod: &core::Pod) -> &'static str {
    if init_containers(pod).is_empty() { "ContainerCreating" } else { "PodInitializing" }
}

fn waiting(reason: &str, message: Option<String>) -> core::ContainerState {
    core::ContainerState { waiting: Some(core::ContainerStateWaiting { reason: Some(reason.to_owned()), message }), ..core::ContainerState::default() }
}

fn terminated(ended: &Ended) -> core::ContainerState {
    core::ContainerState {
        terminated: Some(core::ContainerStateTerminated {
            container_id: ended.id.as_ref().map(|id| format!("{RUNTIME}://{id}")),
            exit_code: ended.exit_code,
            signal: ended.signal,
            reason: Some(ended.reason.clone()),
            message: ended.message.clone(),
            started_at: ended.started_at.map(second),
            finished_at: Some(second(ended.finished_at)),
        }),
        ..core::ContainerState::default()
    }
}

/// Upstream: pkg/kubelet/status/generate.go. Conditions of others stay; a time moves only when its status does.
fn conditions(pod: &core::Pod, state: &State, status: &core::PodStatus, old: &core::PodStatus, now: Timestamp) -> Vec<core::PodCondition> {
    let phase = status.phase.as_deref().unwrap_or_default();
    let containers_ready = containers_ready(pod, status, phase);
    let ready = readiness_gates(pod, old, phase).filter(|_| containers_ready.0).unwrap_or_else(|| containers_ready.clone());
    let sandbox = (state.sandbox.done().is_some() && state.teardown == super::state::Teardown::NotBegun, None, None);
    let ours = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized(pod, state, status, phase)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
    ];
    let before = old.conditions.clone().unwrap_or_default();
    let mut all: Vec<core::PodCondition> = ours
        .into_iter()
        .map(|(type_, (value, reason, message))| {
            let value = if value { "True" } else { "False" };
            let since = before.iter().find(|c| c.type_ == type_ && c.status == value).and_then(|c| c.last_transition_time.clone());
            core::PodCondition {
                type_: type_.to_owned(),
                status: value.to_owned(),
                reason,
                message,
                last_transition_time: Some(since.unwrap_or_else(|| second(now))),
                observed_generation: pod.metadata.generation,
                ..core::PodCondition::default()
            }
        })
        .collect();
    let others: Vec<_> = before.into_iter().filter(|c| all.iter().all(|o| o.type_ != c.type_)).collect();
    all.extend(others);
    all
}

type Condition = (bool, Option<String>, Option<String>);

fn initialized(pod: &core::Pod, state: &State, status: &core::PodStatus, phase: &str) -> Condition {
    if phase == "Succeeded" {
        return (true, Some("PodCompleted".into()), None);
    }
    if state.initialized || init_containers(pod).is_empty() {
        return (true, None, None);
    }
    let incomplete: Vec<&str> = init_containers(pod)
        .iter()
        .zip(status.init_container_statuses.iter().flatten())
        .filter(|(c, s)| if is_sidecar(c) { s.started != Some(true) } else { !s.ready })
        .map(|(c, _)| c.name.as_str())
        .collect();
    (false, Some("ContainersNotInitialized".into()), Some(format!("containers with incomplete status: [{}]", incomplete.join(" "))))
}

fn containers_ready(pod: &core::Pod, status: &core::PodStatus, phase: &str) -> Condition {
    match phase {
        "Succeeded" => return (false, Some("PodCompleted".into()), None),
        "Failed" => return (false, Some("PodFailed".into()), None),
        _ => {}
    }
    let sidecars = init_containers(pod).iter().zip(status.init_container_statuses.iter().flatten()).filter(|(c, _)| is_sidecar(c)).map(|(_, s)| s);
    let unready: Vec<&str> =
        sidecars.chain(status.container_statuses.iter().flatten()).filter(|s| !s.ready).map(|s| s.name.as_str()).collect();
    if unready.is_empty() {
        return (true, None, None);
    }
    (false, Some("ContainersNotReady".into()), Some(format!("containers with unready status: [{}]", unready.join(" "))))
}

/// `None` while the gates say nothing against it being ready as its containers are.
fn readiness_gates(pod: &core::Pod, old: &core::PodStatus, phase: &str) -> Option<Condition> {
    if matches!(phase, "Succeeded" | "Failed") {
        return None;
    }
    let messages: Vec<String> = pod
        .spec
        .iter()
        .flat_map(|s| s.readiness_gates.iter().flatten())
        .filter_map(|gate| {
            let name = &gate.condition_type;
            match old.conditions.iter().flatten().find(|c| c.type_ == *name) {
                None => Some(format!("corresponding condition of pod readiness gate \"{name}\" does not exist.")),
                Some(c) if c.status != "True" => Some(format!("the status of pod readiness gate \"{name}\" is not \"True\", but {}", c.status)),
                Some(_) => None,
            }
        })
        .collect();
    (!messages.is_empty()).then(|| (false, Some("ReadinessGatesNotReady".into()), Some(messages.join(", "))))
}

/// Whether a change must reach watchers at once: a phase, a readiness, a container's state or an address. All else may wait a moment for company.
pub(crate) fn is_urgent(old: Option<&core::PodStatus>, new: &core::PodStatus) -> bool {
    let Some(old) = old else { return false };
    let kinds = |status: &core::PodStatus| -> Vec<(String, bool, u8, i32)> {
        let kind = |s: &core::ContainerStatus| s.state.as_ref().map_or(0, |s| if s.running.is_some() { 1 } else { 2 * u8::from(s.terminated.is_some()) });
        status
            .container_statuses
            .iter()
            .chain(&status.init_container_statuses)
            .flatten()
            .map(|s| (s.name.clone(), s.ready, kind(s), s.restart_count))
            .collect()
    };
    let ready = |status: &core::PodStatus| status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    old.phase != new.phase || ready(old) != ready(new) || (old.container_statuses.is_some() && kinds(old) != kinds(new))
}

/// What the next status starts from: our last word, with what others have written in the object since.
pub(crate) fn base(ours: Option<&core::PodStatus>, object: &core::Pod) -> core::PodStatus {
    let theirs = object.status.clone().unwrap_or_default();
    let Some(ours) = ours else { return theirs };
    const OURS: [&str; 4] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];
    let is_ours = |c: &&core::PodCondition| OURS.contains(&c.type_.as_str());
    let mut conditions: Vec<core::PodCondition> = ours.conditions.iter().flatten().filter(is_ours).cloned().collect();
    conditions.extend(theirs.conditions.iter().flatten().filter(|c| !is_ours(c)).cloned());
    core::PodStatus { conditions: Some(conditions), ..ours.clone() }
}
