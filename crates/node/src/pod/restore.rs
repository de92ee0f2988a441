//! What is known of a pod that was here before this process: from the supervisor's records, and for what they do not hold, from the API. Pure.

use super::reference::{all_containers, containers, init_containers, is_sidecar};
use super::state::{ContainerState, Ended, Phase, Running, State};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, ContainerStatus, Pod};
use std::collections::BTreeMap;

/// One run the supervisor knows of.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) attempt: u32,
    pub(crate) id: String,
    pub(crate) started_at: Timestamp,
    /// `None`: it runs.
    pub(crate) ended: Option<Ended>,
}

/// `found`: by container name, oldest run first. Empty after a reboot: then what ran is taken to have ended with the machine.
pub(crate) fn restore(pod: &Pod, found: &BTreeMap<String, Vec<Found>>, now: Timestamp) -> State {
    let status = pod.status.clone().unwrap_or_default();
    let terminal = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let mut state = State {
        started_at: Some(status.start_time.as_ref().map_or(now, |t| t.0)),
        finished: terminal,
        ..State::default()
    };
    let statuses = || status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let same_sandbox = found.values().any(|runs| !runs.is_empty());
    for container in all_containers(pod) {
        let known = statuses().find(|s| s.name == container.name);
        let restored = match found.get(&container.name).and_then(|runs| runs.last().map(|last| (runs, last))) {
            Some((runs, last)) => of_runs(container, runs, last, known),
            None => known.map(|known| of_status(pod, container, known, same_sandbox || terminal, now)).unwrap_or_default(),
        };
        state.containers.insert(container.name.clone(), restored);
    }
    let main_ran = containers(pod).iter().any(|c| found.get(&c.name).is_some_and(|runs| !runs.is_empty()));
    state.initialized = main_ran || (terminal && !init_containers(pod).is_empty()) || init_containers(pod).is_empty();
    state
}

fn of_runs(container: &Container, runs: &[Found], last: &Found, known: Option<&ContainerStatus>) -> ContainerState {
    let before = runs.len().checked_sub(2).and_then(|at| runs[at].ended.clone());
    let remembered = known.and_then(|k| k.last_state.as_ref()).and_then(|s| s.terminated.as_ref());
    let mut state = ContainerState {
        attempt: last.attempt,
        last: before.or_else(|| remembered.map(|t| ended(t, last.attempt.saturating_sub(1), last.started_at))),
        image: known.map(|k| k.image.clone()).unwrap_or_default(),
        image_id: known.map(|k| k.image_id.clone()).unwrap_or_default(),
        ..ContainerState::default()
    };
    state.phase = match &last.ended {
        Some(ended) => Phase::Exited(ended.clone()),
        None => {
            // The API's word on this very run, so that a pod does not blink while its probes begin anew.
            let same_run = known.is_some_and(|k| k.container_id.as_deref().is_some_and(|id| id.ends_with(&last.id)));
            let said = |value: Option<bool>, default: bool| if same_run { value.unwrap_or(default) } else { default };
            Phase::Running(Running {
                id: last.id.clone(),
                started_at: last.started_at,
                image: container.image.clone().unwrap_or_default(),
                post_started: true,
                started: said(known.and_then(|k| k.started), container.startup_probe.is_none()) || container.startup_probe.is_none(),
                ready: said(known.map(|k| k.ready), container.readiness_probe.is_none()) || container.readiness_probe.is_none(),
                unhealthy: None,
                grace: None,
                stopping: false,
            })
        }
    };
    state
}

/// Nothing of the container is left on this node.
fn of_status(pod: &Pod, container: &Container, known: &ContainerStatus, same_sandbox: bool, now: Timestamp) -> ContainerState {
    let attempt = u32::try_from(known.restart_count).unwrap_or(0);
    let current = known.state.as_ref();
    let mut state = ContainerState { image: known.image.clone(), image_id: known.image_id.clone(), ..ContainerState::default() };
    if let Some(terminated) = current.and_then(|s| s.terminated.as_ref()) {
        let ended = ended(terminated, attempt, now);
        let is_init = init_containers(pod).iter().any(|c| c.name == container.name) && !is_sidecar(container);
        if is_init && !same_sandbox {
            // A new sandbox begins with the first init container, as upstream.
            state.attempt = attempt + 1;
            state.last = Some(ended);
        } else {
            state.attempt = attempt;
            state.phase = Phase::Exited(ended);
        }
        return state;
    }
    if let Some(running) = current.and_then(|s| s.running.as_ref()) {
        state.attempt = attempt;
        state.phase = Phase::Exited(Ended {
            attempt,
            id: known.container_id.as_ref().and_then(|id| id.split_once("://")).map(|(_, id)| id.to_owned()),
            exit_code: 255,
            signal: None,
            reason: "Unknown".into(),
            message: None,
            started_at: running.started_at.as_ref().map(|t| t.0),
            finished_at: now,
        });
        return state;
    }
    if let Some(terminated) = known.last_state.as_ref().and_then(|s| s.terminated.as_ref()) {
        state.attempt = attempt + 1;
        state.last = Some(ended(terminated, attempt, now));
    }
    state
}

fn ended(terminated: &ContainerStateTerminated, attempt: u32, now: Timestamp) -> Ended {
    Ended {
        attempt,
        id: terminated.container_id.as_ref().and_then(|id| id.split_once("://")).map(|(_, id)| id.to_owned()),
        exit_code: terminated.exit_code,
        signal: terminated.signal,
        reason: terminated.reason.clone().unwrap_or_else(|| "Error".into()),
        message: terminated.message.clone(),
        started_at: terminated.started_at.as_ref().map(|t| t.0),
        finished_at: terminated.finished_at.as_ref().map_or(now, |t| t.0),
    }
}
