//! A pod's state in a line, what is to be done and told of it in another.

use super::state::{Address, BackOff, Ended, Phase, Running, Stage, State, Stopping, Teardown};
use super::status::status;
use super::step::{Action, is_initialized, step};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::json;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// `init:setup sidecar:proxy app policy=Never grace=5`.
fn pod(line: &str) -> Pod {
    let (mut inits, mut mains) = (Vec::new(), Vec::new());
    let (mut policy, mut grace) = ("Always", 30);
    for word in line.split_whitespace() {
        if let Some(name) = word.strip_prefix("init:") {
            inits.push(json!({"name": name, "image": "i"}));
        } else if let Some(name) = word.strip_prefix("sidecar:") {
            inits.push(json!({"name": name, "image": "i", "restartPolicy": "Always"}));
        } else if let Some(value) = word.strip_prefix("policy=") {
            policy = value;
        } else if let Some(value) = word.strip_prefix("grace=") {
            grace = value.parse().unwrap();
        } else {
            mains.push(json!({"name": word, "image": "i"}));
        }
    }
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 1},
        "spec": {"initContainers": inits, "containers": mains, "restartPolicy": policy, "terminationGracePeriodSeconds": grace},
    }))
    .unwrap()
}

fn ended(code: i32, attempt: u32, seconds_ago: i64) -> Ended {
    Ended {
        attempt,
        id: Some(format!("id{attempt}")),
        exit_code: code,
        signal: None,
        reason: if code == 0 { "Completed" } else { "Error" }.into(),
        message: None,
        started_at: Some(now() - SignedDuration::from_secs(seconds_ago + 1)),
        finished_at: now() - SignedDuration::from_secs(seconds_ago),
    }
}

/// `up` (gate, sandbox, volumes done) or `gate`; `app=running`, `=unready`, `=starting`, `=exit:1:ago:attempt`, `=prepared`, `=preparing`, `=wait:Reason`;
/// `backoff:app=20`; `deleted`, `gone`, `torn`, `initialized`.
fn state(pod: &Pod, line: &str) -> State {
    let mut state = State { started_at: Some(now()), ..State::default() };
    for word in line.split_whitespace() {
        match word {
            "gate" => state.gate = Stage::Done(()),
            "up" => {
                state.gate = Stage::Done(());
                state.sandbox = Stage::Done(Address { ip: "10.0.0.1".into() });
                state.volumes = Stage::Done(());
            }
            "deleted" => state.stopping = Some(Stopping::Deleted { deadline: now() + SignedDuration::from_secs(5) }),
            "gone" => state.stopping = Some(Stopping::Gone { deadline: Timestamp::MIN }),
            "torn" => state.teardown = Teardown::Done,
            "initialized" => state.initialized = true,
            _ => container(&mut state, word),
        }
    }
    state.initialized = is_initialized(pod, &state);
    state
}

fn container(state: &mut State, word: &str) {
    let (name, value) = word.split_once('=').unwrap();
    if let Some(name) = name.strip_prefix("backoff:") {
        let delay = SignedDuration::from_secs(value.parse().unwrap());
        state.container_mut(name).restart = Some(BackOff { delay, updated_at: now() - SignedDuration::from_secs(5) });
        return;
    }
    let known = state.container_mut(name);
    let parts: Vec<&str> = value.split(':').collect();
    let number = |at: usize| parts.get(at).and_then(|n| n.parse::<i64>().ok()).unwrap_or(0);
    known.phase = match parts[0] {
        "preparing" => Phase::Preparing,
        "prepared" => Phase::Prepared,
        "wait" => Phase::Waiting { reason: parts[1].into(), message: None, retry_at: Some(now() + SignedDuration::from_secs(7)) },
        "exit" => {
            known.attempt = u32::try_from(number(3)).unwrap();
            Phase::Exited(ended(i32::try_from(number(1)).unwrap(), known.attempt, number(2)))
        }
        kind => Phase::Running(Running {
            id: "id0".into(),
            started_at: now(),
            image: if kind == "old" { "other" } else { "i" }.into(),
            post_started: true,
            started: kind != "starting",
            ready: kind != "unready" && kind != "starting",
            unhealthy: (kind == "sick").then(|| "Container app failed liveness probe, will be restarted".into()),
            grace: None,
            stopping: kind == "stopping",
        }),
    };
}

fn show(action: &Action) -> String {
    match action {
        Action::PassGate => "pass gate".into(),
        Action::MakeSandbox => "make sandbox".into(),
        Action::MountVolumes => "mount volumes".into(),
        Action::Prepare { container, attempt } => format!("prepare {container}.{attempt}"),
        Action::Launch { container } => format!("launch {container}"),
        Action::BackOff { container, until, message } => format!("hold {container} {}s: {message}", until.duration_since(now()).as_secs()),
        Action::Stop { container, deadline, message } => {
            let left = if *deadline == Timestamp::MIN { 0 } else { deadline.duration_since(now()).as_secs() };
            format!("stop {container} {left}s: {message}")
        }
        Action::Fail { reason, .. } => format!("fail {reason}"),
        Action::TearDown => "tear down".into(),
        Action::Remove => "remove".into(),
    }
}

fn check(spec: &str, line: &str, want: &str) {
    let pod = pod(spec);
    let step = step(&pod, &state(&pod, line), now());
    let mut shown: Vec<String> = step.actions.iter().map(show).collect();
    shown.extend(step.wake_at.map(|at| format!("wake {}s", at.duration_since(now()).as_secs())));
    assert_eq!(shown.join("; "), want, "{spec} | {line}");
}

#[test]
fn a_new_pod_passes_the_gate_then_makes_everything_at_once() {
    check("app", "", "pass gate");
    check("app", "gate", "make sandbox; mount volumes; prepare app.0");
    check("app", "gate app=prepared", "make sandbox; mount volumes");
    check("app", "up app=prepared", "launch app");
    check("app", "up app=running", "");
}

#[test]
fn init_containers_run_one_after_the_other_and_only_failures_again() {
    check("init:a init:b app", "up", "prepare a.0");
    check("init:a init:b app", "up a=running", "");
    check("init:a init:b app", "up a=exit:0", "prepare b.0");
    check("init:a init:b app", "up a=exit:1:0:0", "prepare a.1");
    check("init:a app policy=Never", "up a=exit:1", "tear down");
    check("init:a app", "up a=exit:0", "prepare app.0");
    check("init:a app", "up initialized app=running", "");
}

#[test]
fn sidecars_start_first_and_stop_last() {
    check("sidecar:s app", "up", "prepare s.0");
    check("sidecar:s app", "up s=starting", "");
    check("sidecar:s app", "up s=running", "prepare app.0");
    check("sidecar:s app", "up initialized s=exit:1:0:0 app=running", "prepare s.1");
    check("sidecar:s app policy=Never", "up initialized s=running app=exit:0", "stop s 30s: Stopping container s");
    check("sidecar:s sidecar:t app", "up initialized s=running t=running app=running deleted", "stop app 5s: Stopping container app");
    check("sidecar:s sidecar:t app", "up initialized s=running t=running app=exit:0 deleted", "stop t 5s: Stopping container t");
}

#[test]
fn the_first_restart_is_immediate_and_later_ones_wait_longer() {
    check("app", "up app=exit:1:0:0", "prepare app.1");
    check("app", "up app=exit:1:1:1 backoff:app=20", "hold app 19s: back-off 20s restarting failed container=app pod=p_n(u); wake 19s");
    check("app", "up app=exit:1:30:1 backoff:app=20", "prepare app.2");
    check("app policy=OnFailure", "up app=exit:0", "tear down");
    check("app policy=Never", "up app=exit:1", "tear down");
    check("app", "up app=wait:CrashLoopBackOff", "wake 7s");
}

#[test]
fn a_container_that_is_sick_or_changed_is_stopped() {
    check("app", "up app=sick", "stop app 30s: Container app failed liveness probe, will be restarted");
    check("app grace=5", "up app=old", "stop app 5s: Container app definition changed, will be restarted");
    check("app", "up app=stopping", "");
}

#[test]
fn deletion_stops_tears_down_and_then_removes_the_object() {
    check("a b", "up a=running b=running deleted", "stop a 5s: Stopping container a; stop b 5s: Stopping container b");
    check("a b", "up a=stopping b=exit:0 deleted", "");
    check("a", "up a=exit:0 deleted", "tear down");
    check("a", "up a=exit:0 deleted torn", "remove");
    check("a", "up a=running gone", "stop a 0s: Stopping container a");
    check("a", "up a=exit:137 gone torn", "");
    check("a", "deleted", "tear down");
    check("a", "gate a=wait:ErrImagePull deleted", "tear down");
}

/// The status as `kubectl get pod` and `describe` would show it.
fn told(spec: &str, line: &str, want: &str) {
    let pod = pod(spec);
    let status = status(&pod, &PodStatus::default(), &state(&pod, line), "192.0.2.1", now());
    let mut out = status.phase.clone().unwrap();
    for s in status.init_container_statuses.iter().chain(&status.container_statuses).flatten() {
        let current = s.state.clone().unwrap_or_default();
        let shown = match (current.running, current.waiting, current.terminated) {
            (Some(_), ..) => "running".to_owned(),
            (_, Some(w), _) => w.reason.unwrap(),
            (.., Some(t)) => format!("{}:{}", t.reason.unwrap(), t.exit_code),
            _ => "nothing".to_owned(),
        };
        out.push_str(&format!(" {}={shown}{}{}", s.name, if s.ready { "+" } else { "" }, if s.restart_count > 0 { format!("#{}", s.restart_count) } else { String::new() }));
    }
    let condition = |name: &str| status.conditions.iter().flatten().find(|c| c.type_ == name).cloned().unwrap();
    let ready = condition("Ready");
    out.push_str(&format!(" | {}{}", ready.status, ready.reason.map(|r| format!(" {r}: {}", ready.message.unwrap_or_default())).unwrap_or_default()));
    assert_eq!(out, want, "{spec} | {line}");
}

#[test]
fn the_phase_follows_the_containers() {
    told("app", "gate", "Pending app=ContainerCreating | False ContainersNotReady: containers with unready status: [app]");
    told("init:a app", "up a=running", "Pending a=running app=PodInitializing | False ContainersNotReady: containers with unready status: [app]");
    told("app", "up app=running", "Running app=running+ | True");
    told("app", "up app=unready", "Running app=running | False ContainersNotReady: containers with unready status: [app]");
    told("app", "up app=exit:1:0:2", "Running app=Error:1#2 | False ContainersNotReady: containers with unready status: [app]");
    told("app policy=Never", "up app=exit:1", "Failed app=Error:1 | False PodFailed: ");
    told("a b policy=OnFailure", "up a=exit:0 b=running", "Running a=Completed:0 b=running+ | False ContainersNotReady: containers with unready status: [a]");
    told("app policy=OnFailure", "up app=exit:0", "Succeeded app=Completed:0 | False PodCompleted: ");
    told("init:a app policy=Never", "up a=exit:3", "Failed a=Error:3 app=PodInitializing | False PodFailed: ");
    told("app", "up app=wait:ErrImagePull", "Pending app=ErrImagePull | False ContainersNotReady: containers with unready status: [app]");
    told("app", "up app=exit:137 deleted", "Failed app=Error:137 | False PodFailed: ");
    told("sidecar:s app", "up initialized s=running app=running", "Running s=running+ app=running+ | True");
}

#[test]
fn what_others_say_in_the_status_stays_and_times_move_only_with_their_conditions() {
    let mut pod = pod("app");
    pod.status = serde_json::from_value(json!({"conditions": [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"},
        {"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]}))
    .unwrap();
    let base = super::status::base(None, &pod);
    let made = status(&pod, &base, &state(&pod, "up app=running"), "192.0.2.1", now());
    let times: Vec<String> = made.conditions.iter().flatten().map(|c| format!("{} {}", c.type_, c.last_transition_time.as_ref().unwrap().0.strftime("%Y"))).collect();
    assert_eq!(times, ["PodReadyToStartContainers 2027", "Initialized 2027", "Ready 2020", "ContainersReady 2027", "PodScheduled 2020"]);
    let again = status(&pod, &super::status::base(Some(&made), &pod), &state(&pod, "up app=running"), "192.0.2.1", now() + SignedDuration::from_secs(60));
    assert_eq!(again, made, "the same again is told the same");
}

#[test]
fn after_a_reboot_what_ran_has_ended_and_what_is_over_stays_over() {
    use super::restore::restore;
    let mut pod = pod("init:a app policy=OnFailure");
    pod.status = serde_json::from_value(json!({
        "phase": "Running", "startTime": "2020-01-01T00:00:00Z",
        "initContainerStatuses": [{"name": "a", "image": "i", "imageID": "x", "ready": true, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "reason": "Completed", "containerID": "mainstay://u.a.0"}}}],
        "containerStatuses": [{"name": "app", "image": "i", "imageID": "x", "ready": true, "restartCount": 2, "containerID": "mainstay://u.app.2",
            "state": {"running": {"startedAt": "2020-01-01T00:00:00Z"}}}],
    }))
    .unwrap();
    let state = restore(&pod, &std::collections::BTreeMap::new(), now());
    let app = state.container("app").unwrap();
    assert_eq!((app.attempt, app.ended().map(|e| (e.exit_code, e.reason.as_str()))), (2, Some((255, "Unknown"))));
    assert!(!state.initialized, "a new sandbox begins with the first init container");
    let mut state = state;
    state.gate = Stage::Done(());
    let actions: Vec<String> = step(&pod, &state, now()).actions.iter().map(show).collect();
    assert_eq!(actions, ["make sandbox", "mount volumes", "prepare a.1"]);
}
