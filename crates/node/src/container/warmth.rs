//! Keeping the kernel ready to put processes into cgroups while a container is on its way.

use mainstay_supervisor::cgroup;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a launch may be on its way before the kernel cools down again.
const KEPT: Duration = Duration::from_millis(60);
/// Less than a grace period, the time that the kernel stays ready after a move.
const EVERY: Duration = Duration::from_millis(3);

/// See [`cgroup::warm_up`]. One a node.
#[derive(Clone, Default)]
pub(crate) struct Warmth {
    /// Until when it is kept; `None`: nobody keeps it.
    until: Arc<Mutex<Option<Instant>>>,
}

impl Warmth {
    /// A launch is near: keeps the kernel ready for a while from now. Returns at once; at most one thread does the work.
    pub(crate) fn expect_launch(&self) {
        let kept = self.until.lock().replace(Instant::now() + KEPT).is_some();
        if !kept {
            let warmth = self.clone();
            tokio::task::spawn_blocking(move || warmth.keep());
        }
    }

    fn keep(&self) {
        loop {
            let warmed = cgroup::warm_up();
            let mut until = self.until.lock();
            if warmed.is_err() || until.is_none_or(|until| until <= Instant::now()) {
                *until = None;
                drop(until);
                if let Err(error) = warmed {
                    tracing::debug!(%error, "the next container's first process takes its usual time into its cgroup");
                }
                return;
            }
            drop(until);
            std::thread::sleep(EVERY);
        }
    }
}
