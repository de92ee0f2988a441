//! How long to wait after failures: ten seconds, doubled with each, ten minutes at most. Upstream: pkg/controller/job/backoff_utils.go.
//!
//! Upstream counts in memory and forgets at a restart; here it is read from the pods, which stay until their job goes.

use crate::pods::phase;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;

const FIRST: SignedDuration = SignedDuration::from_secs(10);
const MOST: SignedDuration = SignedDuration::from_secs(600);

/// When a pod was told to go: its deletionTimestamp is when its patience ends.
fn told_to_go(pod: &Pod) -> Option<Timestamp> {
    let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
    pod.metadata.deletion_timestamp.as_ref()?.0.checked_sub(grace).ok()
}

/// When a pod ended: the last of its containers, or else when it stopped being ready or was told to go.
fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    let finished = containers.filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref().map(|time| time.0)).max();
    let unready = || status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready" && condition.status == "False")?.last_transition_time.as_ref().map(|time| time.0);
    finished.or_else(unready).or_else(|| told_to_go(pod)).or_else(|| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

/// When the next pod may be made after so many failures, the last at `since`.
pub(crate) fn after(failures: usize, since: Timestamp) -> Timestamp {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let wait = FIRST.checked_mul(1_i32.checked_shl(doublings.min(30)).unwrap_or(i32::MAX)).unwrap_or(MOST).min(MOST);
    since.checked_add(wait).unwrap_or(since)
}

/// When the next pod may be made: after the failures since the last success. `failed` says which pods have failed.
pub(crate) fn next(pods: &[Arc<Pod>], failed: impl Fn(&Pod) -> bool) -> Option<Timestamp> {
    let success = pods.iter().filter(|pod| phase(pod) == "Succeeded").filter_map(|pod| ended_at(pod)).max();
    let failures: Vec<Timestamp> = pods.iter().filter(|pod| failed(pod)).filter_map(|pod| ended_at(pod)).filter(|at| success.is_none_or(|success| *at > success)).collect();
    Some(after(failures.len(), *failures.iter().max()?))
}

/// When a pod that failed may be replaced, after so many failures of its index.
pub(crate) fn of_index(pod: &Pod, failures: usize) -> Option<Timestamp> {
    ended_at(pod).map(|at| after(failures, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_ten_minutes() {
        let start = Timestamp::UNIX_EPOCH;
        let waits: Vec<i64> = [1, 2, 3, 6, 7, 100].map(|failures| after(failures, start).as_second()).into();
        assert_eq!(waits, [10, 20, 40, 320, 600, 600]);
    }
}
