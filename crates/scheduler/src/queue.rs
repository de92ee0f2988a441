//! Which pods wait, and for what: ready to be tried, parked until something changes that could help, or put off after a failed request.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// `namespace` and `name`.
pub(crate) type Name = (String, String);

/// After a failed request; doubles. Upstream: `podInitialBackoffSeconds` 1, `podMaxBackoffSeconds` 10; here the first comes sooner.
const FIRST: Duration = Duration::from_millis(50);
const MOST: Duration = Duration::from_secs(10);
/// A parked pod is tried again after this long whatever happened. Upstream: `podMaxInUnschedulablePodsDuration`.
const LONGEST: Duration = Duration::from_secs(300);

/// Who goes first: the higher priority, then the older, then by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) priority: std::cmp::Reverse<i32>,
    pub(crate) created: i64,
    pub(crate) name: Name,
}

/// Every pod is in one of the three places; `ranks` and `times` find it there by name.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    ready: BTreeSet<Rank>,
    ranks: HashMap<Name, Rank>,
    waits_for: HashMap<Name, u8>,
    delayed: BTreeSet<(Instant, Name)>,
    times: HashMap<Name, Instant>,
    failures: HashMap<Name, u32>,
}

impl Queue {
    /// To be tried now.
    pub(crate) fn add(&mut self, rank: Rank) {
        self.take(&rank.name);
        self.ranks.insert(rank.name.clone(), rank.clone());
        self.ready.insert(rank);
    }

    /// Not before something changes that is in `waits_for`.
    pub(crate) fn park(&mut self, rank: Rank, waits_for: u8, now: Instant) {
        self.waits_for.insert(rank.name.clone(), waits_for);
        self.delay(rank, now + LONGEST);
    }

    /// Again after a while; longer after each failure.
    pub(crate) fn put_off(&mut self, rank: Rank, now: Instant) {
        let failures = self.failures.entry(rank.name.clone()).or_insert(0);
        *failures += 1;
        let delay = FIRST.saturating_mul(1 << (*failures - 1).min(16)).min(MOST);
        self.delay(rank, now + delay);
    }

    fn delay(&mut self, rank: Rank, at: Instant) {
        self.delayed.insert((at, rank.name.clone()));
        self.times.insert(rank.name.clone(), at);
        self.ranks.insert(rank.name.clone(), rank);
    }

    /// The pod is bound, or gone.
    pub(crate) fn remove(&mut self, name: &Name) {
        self.take(name);
        self.failures.remove(name);
    }

    fn take(&mut self, name: &Name) -> Option<Rank> {
        self.waits_for.remove(name);
        if let Some(at) = self.times.remove(name) {
            self.delayed.remove(&(at, name.clone()));
        }
        let rank = self.ranks.remove(name)?;
        self.ready.remove(&rank);
        Some(rank)
    }

    /// Something changed: those whom it could help are tried again.
    pub(crate) fn wake(&mut self, changed: u8) {
        let helped: Vec<Name> = self.waits_for.iter().filter(|(_, waits_for)| *waits_for & changed != 0).map(|(name, _)| name.clone()).collect();
        for name in helped {
            if let Some(rank) = self.take(&name) {
                self.add(rank);
            }
        }
    }

    /// The next to be tried.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Rank> {
        while let Some((at, name)) = self.delayed.first().cloned() {
            if at > now {
                break;
            }
            if let Some(rank) = self.take(&name) {
                self.add(rank);
            }
        }
        let rank = self.ready.pop_first()?;
        self.ranks.remove(&rank.name);
        Some(rank)
    }

    /// Whether some pod could be tried now.
    pub(crate) fn has_ready(&self, now: Instant) -> bool {
        !self.ready.is_empty() || self.deadline().is_some_and(|at| at <= now)
    }

    /// When to look again even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.delayed.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(name: &str, priority: i32, created: i64) -> Rank {
        Rank { priority: std::cmp::Reverse(priority), created, name: ("default".to_owned(), name.to_owned()) }
    }

    fn drain(queue: &mut Queue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| queue.next(now)).map(|rank| rank.name.1).collect()
    }

    #[test]
    fn the_important_and_the_old_go_first() {
        let mut queue = Queue::default();
        [rank("young", 0, 9), rank("old", 0, 1), rank("high", 5, 9)].into_iter().for_each(|rank| queue.add(rank));
        assert_eq!(drain(&mut queue, Instant::now()), ["high", "old", "young"]);
    }

    #[test]
    fn a_parked_pod_wakes_for_what_could_help_it_and_after_five_minutes() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.park(rank("a", 0, 1), 2, now);
        queue.park(rank("b", 0, 1), 8, now);
        queue.wake(4);
        assert!(drain(&mut queue, now).is_empty());
        queue.wake(2);
        assert_eq!(drain(&mut queue, now), ["a"]);
        assert_eq!(drain(&mut queue, now + LONGEST), ["b"]);
        assert!(queue.deadline().is_none());
    }

    #[test]
    fn failures_put_a_pod_off_and_its_end_forgets_it() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.put_off(rank("a", 0, 1), now);
        assert!(drain(&mut queue, now).is_empty());
        assert_eq!(drain(&mut queue, now + FIRST), ["a"]);
        queue.put_off(rank("a", 0, 1), now);
        assert!(drain(&mut queue, now + FIRST).is_empty());
        queue.remove(&rank("a", 0, 1).name);
        assert!(drain(&mut queue, now + LONGEST).is_empty());
    }
}
