//! Stopping one container: preStop, its stop signal, and after its time SIGKILL.

use super::events::Events;
use super::hooks;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use mainstay_supervisor::Container;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What is left after a preStop hook used up the time (upstream: `minimumGracePeriodInSeconds`).
const MINIMUM_AFTER_HOOK: Duration = Duration::from_secs(2);

/// What to stop and how.
pub(crate) struct Order {
    pub(crate) pod: Arc<Pod>,
    pub(crate) spec: Spec,
    pub(crate) container: Container,
    pub(crate) ip: Ipv4Addr,
    pub(crate) signal: i32,
    pub(crate) deadline: Timestamp,
    /// The pod's own deadline, which may come nearer at any time: a second delete with a shorter grace, a force delete.
    pub(crate) pod_deadline: watch::Receiver<Timestamp>,
}

fn left(until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default()
}

impl Order {
    fn deadline(&self) -> Timestamp {
        self.deadline.min(*self.pod_deadline.borrow())
    }

    /// Returns when the container has ended; its exit is told by whoever waits for it.
    pub(crate) async fn stop(mut self, events: &Events) {
        let mut after_hook = None;
        let hook = self.spec.lifecycle.as_ref().and_then(|l| l.pre_stop.clone());
        if let Some(hook) = hook.filter(|_| !left(self.deadline()).is_zero()) {
            let limit = left(self.deadline());
            let ran = {
                let (spec, container) = (self.spec.clone(), self.container.clone());
                let running = hooks::run(&hook, &spec, &container, self.ip, limit);
                tokio::pin!(running);
                tokio::select! {
                    ran = &mut running => Some(ran),
                    _ = container.wait() => return,
                    () = self.passed() => None,
                }
            };
            if let Some(Err(error)) = ran {
                events.warn_container(&self.pod, &self.spec.name, "FailedPreStopHook", format!("PreStopHook failed: {error}"));
            }
            after_hook = Some(Timestamp::now() + MINIMUM_AFTER_HOOK);
        }
        if left(self.deadline()).is_zero() && after_hook.is_none() {
            return self.kill().await;
        }
        if let Err(error) = self.container.signal(self.signal).await {
            tracing::debug!(container = self.container.id(), %error, "the stop signal was not delivered");
        }
        // A force delete waits for nothing.
        let forced = *self.pod_deadline.borrow() == Timestamp::MIN;
        if let (Some(minimum), false) = (after_hook, forced) {
            self.deadline = self.deadline.max(minimum);
            let _ = tokio::time::timeout(left(minimum), self.container.wait()).await;
        }
        let container = self.container.clone();
        tokio::select! {
            _ = container.wait() => {}
            () = self.passed() => self.kill().await,
        }
    }

    /// Returns when the deadline has passed, wherever it moves meanwhile.
    async fn passed(&mut self) {
        loop {
            let wait = left(self.deadline());
            if wait.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = self.pod_deadline.changed() => if changed.is_err() {
                    tokio::time::sleep(left(self.deadline())).await;
                    return;
                },
            }
        }
    }

    async fn kill(&self) {
        if let Err(error) = self.container.kill_all().await {
            tracing::error!(container = self.container.id(), %error, "a container could not be killed");
        }
    }
}
