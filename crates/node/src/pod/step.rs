//! What to do next. Pure: the pod's object, what is known of it and the time in; actions and the time to look again out.

use super::reference::{containers, init_containers, is_sidecar};
use super::state::{BackOff, ContainerState, Phase, Stage, State, Stopping, Teardown};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};

/// One thing to begin. Its end comes back to the worker as a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Wait until no other pod of this name, or of one of its claims, has a process here.
    PassGate,
    /// Network, namespaces, cgroup, files.
    MakeSandbox,
    MountVolumes,
    /// Image and root file system of the container's run `attempt`.
    Prepare { container: String, attempt: u32 },
    Launch { container: String },
    /// Wait, and say so: the container crashed too often.
    BackOff { container: String, until: Timestamp, message: String },
    Stop { container: String, deadline: Timestamp, message: String },
    /// The pod fails as a whole.
    Fail { reason: &'static str, message: String },
    /// Give back network, mounts and cgroup.
    TearDown,
    /// Remove the object from the API.
    Remove,
}

/// What to begin, and when to look again if nothing happens before.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Step {
    pub(crate) actions: Vec<Action>,
    pub(crate) wake_at: Option<Timestamp>,
}

impl Step {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |w| w.min(at)));
    }
}

/// Upstream: `SyncPod` and `computePodActions` (pkg/kubelet/kuberuntime/kuberuntime_manager.go, 1.36), except that waiting is for a
/// message, never for a period.
pub(crate) fn step(pod: &Pod, state: &State, now: Timestamp) -> Step {
    let mut step = Step::default();
    let alive = state.stopping.is_none() && !state.finished;
    if let Some(at) = deadline(pod, state).filter(|_| alive) {
        if at <= now {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            step.actions.push(Action::Fail { reason: "DeadlineExceeded", message });
            return step;
        }
        step.wake(at);
    }
    if state.stopping.is_some() || state.finished || is_over(pod, state) {
        wind_down(pod, state, now, &mut step);
    } else {
        bring_up(pod, state, now, &mut step);
    }
    step
}

fn deadline(pod: &Pod, state: &State) -> Option<Timestamp> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    state.started_at?.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// Every main container has ended for good, or an init container has.
pub(crate) fn is_over(pod: &Pod, state: &State) -> bool {
    let ended_for_good = |c: &Container| {
        state.container(&c.name).and_then(ContainerState::ended).is_some_and(|e| !restarts(pod, c, e.exit_code))
    };
    let init_failed = !state.initialized
        && init_containers(pod).iter().any(|c| {
            !is_sidecar(c)
                && state.container(&c.name).and_then(ContainerState::ended).is_some_and(|e| e.exit_code != 0)
                && ended_for_good(c)
        });
    init_failed || (!containers(pod).is_empty() && containers(pod).iter().all(ended_for_good))
}

/// Whether a container that ended so is started again. A container's own policy and rules (KEP-5307) come before the pod's.
pub(crate) fn restarts(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    for rule in container.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.iter().flatten().any(|v| *v == exit_code);
        if listed == (codes.operator == "In") {
            return rule.action.starts_with("Restart");
        }
    }
    let policy = container.restart_policy.as_deref().or(pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()));
    match policy {
        Some("Never") => false,
        Some("OnFailure") => exit_code != 0,
        // An init container of an Always pod is repeated only when it fails.
        _ if init_containers(pod).iter().any(|c| c.name == container.name) && !is_sidecar(container) => exit_code != 0,
        _ => true,
    }
}

fn bring_up(pod: &Pod, state: &State, now: Timestamp, step: &mut Step) {
    match &state.gate {
        Stage::Absent => return step.actions.push(Action::PassGate),
        Stage::Done(()) => {}
        _ => return,
    }
    retry(&state.sandbox, now, Action::MakeSandbox, step);
    retry(&state.volumes, now, Action::MountVolumes, step);
    let mut initialized = true;
    for container in init_containers(pod) {
        if is_sidecar(container) {
            advance(pod, state, container, now, step);
            if !state.initialized && !state.container(&container.name).and_then(ContainerState::running).is_some_and(|r| r.started && r.post_started) {
                initialized = false;
                break;
            }
        } else if !state.initialized {
            let succeeded = state.container(&container.name).and_then(ContainerState::ended).is_some_and(|e| e.exit_code == 0);
            if !succeeded {
                advance(pod, state, container, now, step);
                initialized = false;
                break;
            }
        }
    }
    if initialized {
        for container in containers(pod) {
            advance(pod, state, container, now, step);
        }
    }
}

/// Whether the init containers have all done their part; stays so once it is.
pub(crate) fn is_initialized(pod: &Pod, state: &State) -> bool {
    state.initialized
        || init_containers(pod).iter().all(|c| match state.container(&c.name) {
            Some(known) if is_sidecar(c) => known.running().is_some_and(|r| r.started && r.post_started),
            Some(known) => known.ended().is_some_and(|e| e.exit_code == 0),
            None => false,
        })
}

fn retry<T>(stage: &Stage<T>, now: Timestamp, action: Action, step: &mut Step) {
    match stage {
        Stage::Absent => step.actions.push(action),
        Stage::Failed { retry_at, .. } if *retry_at <= now => step.actions.push(action),
        Stage::Failed { retry_at, .. } => step.wake(*retry_at),
        Stage::Working | Stage::Done(_) => {}
    }
}

/// One container whose turn it is.
fn advance(pod: &Pod, state: &State, container: &Container, now: Timestamp, step: &mut Step) {
    let name = container.name.clone();
    let default = ContainerState::default();
    let known = state.container(&name).unwrap_or(&default);
    match &known.phase {
        Phase::Waiting { retry_at: Some(at), .. } if *at > now => step.wake(*at),
        Phase::Waiting { .. } => step.actions.push(Action::Prepare { container: name, attempt: known.attempt }),
        Phase::Prepared if state.sandbox.done().is_some() && state.volumes.done().is_some() => {
            step.actions.push(Action::Launch { container: name });
        }
        Phase::Running(running) if !running.stopping => {
            let changed = container.image.as_deref().is_some_and(|image| image != running.image);
            let message = match (&running.unhealthy, changed) {
                (Some(message), _) => message.clone(),
                (None, true) => format!("Container {name} definition changed, will be restarted"),
                (None, false) => return,
            };
            step.actions.push(Action::Stop { container: name, deadline: now + running.grace.map_or_else(|| grace(pod), |s| SignedDuration::from_secs(s.max(0))), message });
        }
        Phase::Exited(ended) if restarts(pod, container, ended.exit_code) => match BackOff::until(known.restart, ended.finished_at) {
            Some(until) if until > now => {
                let delay = known.restart.map_or(0, |b| b.delay.as_secs());
                let message = format!("back-off {} restarting failed container={name} pod={}", words(delay), super::reference::PodRef::of(pod));
                step.actions.push(Action::BackOff { container: name, until, message });
                step.wake(until);
            }
            _ => step.actions.push(Action::Prepare { container: name, attempt: ended.attempt + 1 }),
        },
        _ => {}
    }
}

/// `10s`, `1m20s`, `5m0s`: how Go prints a duration.
pub(crate) fn words(seconds: i64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

pub(crate) fn grace(pod: &Pod) -> SignedDuration {
    SignedDuration::from_secs(pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30).clamp(0, 86_400 * 365))
}

fn wind_down(pod: &Pod, state: &State, now: Timestamp, step: &mut Step) {
    let deadline = state.stopping.as_ref().map_or_else(|| now + grace(pod), Stopping::deadline);
    let stop = |container: &Container, step: &mut Step| {
        let Some(running) = state.container(&container.name).and_then(ContainerState::running) else { return };
        if !running.stopping {
            let message = format!("Stopping container {}", container.name);
            step.actions.push(Action::Stop { container: container.name.clone(), deadline, message });
        }
    };
    let busy = |container: &Container| state.container(&container.name).is_some_and(ContainerState::is_busy);
    let mut waiting = false;
    for container in containers(pod).iter().chain(init_containers(pod).iter().filter(|c| !is_sidecar(c))) {
        stop(container, step);
        waiting |= busy(container);
    }
    // Sidecars end after what they serve, the last started first.
    for container in init_containers(pod).iter().rev().filter(|c| is_sidecar(c)) {
        if waiting {
            break;
        }
        stop(container, step);
        waiting |= busy(container);
    }
    if waiting || state.gate.is_working() || state.sandbox.is_working() || state.volumes.is_working() {
        return;
    }
    match state.teardown {
        Teardown::NotBegun => step.actions.push(Action::TearDown),
        Teardown::Working => {}
        Teardown::Done => {
            if matches!(state.stopping, Some(Stopping::Deleted { .. })) && !state.removed {
                step.actions.push(Action::Remove);
            }
        }
    }
}
