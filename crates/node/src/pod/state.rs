//! What is known of a pod's runtime, apart from its object. Changed only by its worker.

use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// A first restart is immediate; then 10 s, doubling to 5 min, forgotten after 10 min (upstream: pkg/kubelet `backOffPeriod`, `MaxCrashLoopBackOff`).
pub(crate) const BACK_OFF_FIRST: SignedDuration = SignedDuration::from_secs(10);
pub(crate) const BACK_OFF_MAX: SignedDuration = SignedDuration::from_secs(300);
const BACK_OFF_FORGET: SignedDuration = SignedDuration::from_secs(600);

/// Something the pod needs once: its sandbox, its volumes, its identity.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Stage<T> {
    #[default]
    Absent,
    Working,
    Done(T),
    /// What went wrong, and when to try again.
    Failed {
        message: String,
        retry_at: Timestamp,
    },
}

impl<T> Stage<T> {
    pub(crate) fn done(&self) -> Option<&T> {
        match self {
            Self::Done(value) => Some(value),
            _ => None,
        }
    }
    pub(crate) fn is_working(&self) -> bool {
        matches!(self, Self::Working)
    }
}

/// An ended run of a container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ended {
    /// Which run: 0 is the first.
    pub(crate) attempt: u32,
    /// The runtime's id, `None` where the API alone remembers it.
    pub(crate) id: Option<String>,
    pub(crate) exit_code: i32,
    pub(crate) signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError` …
    pub(crate) reason: String,
    pub(crate) message: Option<String>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Timestamp,
}

/// A run that goes on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Running {
    pub(crate) id: String,
    pub(crate) started_at: Timestamp,
    /// The image name the pod asked for when it was started; another one now means a restart.
    pub(crate) image: String,
    /// `postStart` has ended.
    pub(crate) post_started: bool,
    /// The startup probe has succeeded, or there is none.
    pub(crate) started: bool,
    /// The readiness probe succeeds, or there is none and it has started.
    pub(crate) ready: bool,
    /// Why it must be stopped though the pod lives: liveness, startup, a failed postStart.
    pub(crate) unhealthy: Option<String>,
    /// Seconds the failed probe allows for that; `None`: the pod's.
    pub(crate) grace: Option<i64>,
    /// It is being stopped.
    pub(crate) stopping: bool,
}

/// Where a container is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Phase {
    /// Not running. `retry_at`: not before then.
    Waiting { reason: String, message: Option<String>, retry_at: Option<Timestamp> },
    /// Its image and root file system are being got.
    Preparing,
    /// They are there.
    Prepared,
    /// The runtime is starting it.
    Launching,
    Running(Running),
    Exited(Ended),
}

/// Doubling waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BackOff {
    pub(crate) delay: SignedDuration,
    pub(crate) updated_at: Timestamp,
}

impl BackOff {
    /// The wait after one more failure at `now`.
    pub(crate) fn next(previous: Option<Self>, now: Timestamp) -> Self {
        let delay = match previous {
            Some(b) if now.duration_since(b.updated_at) <= BACK_OFF_FORGET => (b.delay * 2).min(BACK_OFF_MAX),
            _ => BACK_OFF_FIRST,
        };
        Self { delay, updated_at: now }
    }
    /// Until when a restart after an end at `ended_at` has to wait; `None`: not at all.
    pub(crate) fn until(previous: Option<Self>, ended_at: Timestamp) -> Option<Timestamp> {
        let back_off = previous.filter(|b| ended_at.duration_since(b.updated_at) <= BACK_OFF_FORGET)?;
        Some(ended_at + back_off.delay)
    }
}

/// One container of the pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ContainerState {
    pub(crate) phase: Phase,
    /// The run before this one.
    pub(crate) last: Option<Ended>,
    /// Number of the current or next run; upstream's restart count.
    pub(crate) attempt: u32,
    pub(crate) restart: Option<BackOff>,
    pub(crate) pull: Option<BackOff>,
    /// `docker.io/library/nginx:1.25` and `sha256:…`, once known.
    pub(crate) image: String,
    pub(crate) image_id: String,
}

impl Default for ContainerState {
    fn default() -> Self {
        Self {
            phase: Phase::Waiting { reason: String::new(), message: None, retry_at: None },
            last: None,
            attempt: 0,
            restart: None,
            pull: None,
            image: String::new(),
            image_id: String::new(),
        }
    }
}

impl ContainerState {
    pub(crate) fn running(&self) -> Option<&Running> {
        match &self.phase {
            Phase::Running(running) => Some(running),
            _ => None,
        }
    }
    pub(crate) fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.phase {
            Phase::Running(running) => Some(running),
            _ => None,
        }
    }
    pub(crate) fn ended(&self) -> Option<&Ended> {
        match &self.phase {
            Phase::Exited(ended) => Some(ended),
            _ => None,
        }
    }
    /// A process of it runs, or may in a moment.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Preparing | Phase::Launching | Phase::Running(_))
    }
}

/// Why the pod must stop.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stopping {
    /// Its object is being deleted: at most until then.
    Deleted { deadline: Timestamp },
    /// Its object is gone: nobody waits for it but its successor.
    Gone { deadline: Timestamp },
    /// It failed as a whole: `DeadlineExceeded`, `Evicted`, with words.
    Failed { reason: String, message: String, deadline: Timestamp },
}

impl Stopping {
    pub(crate) fn deadline(&self) -> Timestamp {
        match self {
            Self::Deleted { deadline } | Self::Gone { deadline } | Self::Failed { deadline, .. } => *deadline,
        }
    }
}

/// How far the end of the pod has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Teardown {
    #[default]
    NotBegun,
    Working,
    Done,
}

/// The pod's network as its status shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Address {
    pub(crate) ip: String,
}

/// Everything known of one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    /// When the node first saw it.
    pub(crate) started_at: Option<Timestamp>,
    /// No other pod of this identity has a process on this node.
    pub(crate) gate: Stage<()>,
    pub(crate) sandbox: Stage<Address>,
    pub(crate) volumes: Stage<()>,
    /// By name, init containers too.
    pub(crate) containers: BTreeMap<String, ContainerState>,
    /// The init containers have all ended well, once.
    pub(crate) initialized: bool,
    pub(crate) stopping: Option<Stopping>,
    /// The phase the API already holds is Succeeded or Failed: nothing runs again.
    pub(crate) finished: bool,
    pub(crate) teardown: Teardown,
    /// The API object's removal has been asked for.
    pub(crate) removed: bool,
}

impl State {
    pub(crate) fn container(&self, name: &str) -> Option<&ContainerState> {
        self.containers.get(name)
    }
    /// Made on first use.
    pub(crate) fn container_mut(&mut self, name: &str) -> &mut ContainerState {
        self.containers.entry(name.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_five_minutes_and_are_forgotten_after_ten() {
        let t0 = Timestamp::UNIX_EPOCH;
        let mut back_off = None;
        let mut seen = Vec::new();
        for _ in 0..7 {
            let next = BackOff::next(back_off, t0);
            seen.push(next.delay.as_secs());
            back_off = Some(next);
        }
        assert_eq!(seen, [10, 20, 40, 80, 160, 300, 300]);
        let later = t0 + SignedDuration::from_secs(601);
        assert_eq!(BackOff::until(back_off, later), None);
        assert_eq!(BackOff::next(back_off, later).delay, BACK_OFF_FIRST);
        assert_eq!(BackOff::until(None, t0), None, "the first restart waits for nothing");
    }
}
