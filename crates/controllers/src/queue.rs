//! Which object to look at next: each key at most once at a time, later after failures, and at a stated time.
//!
//! Upstream: client-go `util/workqueue` (queue, delaying queue and exponential failure limiter in one). Bounded by the number of objects.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// After the first failure; doubles with each. Upstream: 5 ms to 1,000 s; here a minute's wait is already an outage, so 30 s is the most.
const FIRST: Duration = Duration::from_millis(5);
const MOST: Duration = Duration::from_secs(30);

struct State<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    running: HashSet<K>,
    dirty: HashSet<K>,
    delayed: BTreeMap<(Instant, u64), K>,
    wakes: HashMap<K, (Instant, u64)>,
    failures: HashMap<K, u32>,
    sequence: u64,
}

/// The queue. Share it by reference or `Arc`.
pub(crate) struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

impl<K: Clone + Eq + Hash> Queue<K> {
    pub(crate) fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            queued: HashSet::new(),
            running: HashSet::new(),
            dirty: HashSet::new(),
            delayed: BTreeMap::new(),
            wakes: HashMap::new(),
            failures: HashMap::new(),
            sequence: 0,
        };
        Self { state: Mutex::new(state), wake: Notify::new() }
    }

    /// Look at `key` as soon as a worker is free; if one is on it just now, once more after that.
    pub(crate) fn add(&self, key: K) {
        if self.state.lock().add(key) {
            self.wake.notify_one();
        }
    }

    /// Look at `key` after `delay`, or before if an earlier time was asked for.
    pub(crate) fn add_after(&self, key: K, delay: Duration) {
        let at = Instant::now() + delay;
        let mut state = self.state.lock();
        if let Some(known) = state.wakes.get(&key).copied() {
            if known.0 <= at {
                return;
            }
            state.delayed.remove(&known);
        }
        state.sequence += 1;
        let place = (at, state.sequence);
        state.wakes.insert(key.clone(), place);
        state.delayed.insert(place, key);
        drop(state);
        self.wake.notify_one();
    }

    /// Look at `key` again after a failure: later after each.
    pub(crate) fn retry(&self, key: K) {
        let failures = {
            let mut state = self.state.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures += 1;
            *failures
        };
        self.add_after(key, delay_after(failures));
    }

    /// `key` went well.
    pub(crate) fn forget(&self, key: &K) {
        self.state.lock().failures.remove(key);
    }

    /// The next key; its worker says [`Queue::done`]. For one caller at a time.
    pub(crate) async fn next(&self) -> K {
        loop {
            let until = {
                let mut state = self.state.lock();
                state.ripen(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.queued.remove(&key);
                    state.running.insert(key.clone());
                    return key;
                }
                state.delayed.keys().next().map(|place| place.0)
            };
            match until {
                None => self.wake.notified().await,
                Some(until) => {
                    let _ = tokio::time::timeout_at(until, self.wake.notified()).await;
                }
            }
        }
    }

    /// The worker has finished with `key`, well or not.
    pub(crate) fn done(&self, key: &K) {
        let mut state = self.state.lock();
        state.running.remove(key);
        if state.dirty.remove(key) && state.add(key.clone()) {
            drop(state);
            self.wake.notify_one();
        }
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn add(&mut self, key: K) -> bool {
        if self.running.contains(&key) {
            self.dirty.insert(key);
            return false;
        }
        let new = self.queued.insert(key.clone());
        if new {
            self.ready.push_back(key);
        }
        new
    }

    fn ripen(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let key = entry.remove();
            self.wakes.remove(&key);
            self.add(key);
        }
    }
}

fn delay_after(failures: u32) -> Duration {
    FIRST.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn ready(queue: &Queue<&'static str>) -> Option<&'static str> {
        queue.next().now_or_never()
    }

    #[tokio::test]
    async fn a_key_is_queued_once_and_never_worked_on_twice_at_a_time() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(ready(&queue), Some("a"));
        queue.add("a");
        assert_eq!(ready(&queue), None);
        queue.done(&"a");
        assert_eq!(ready(&queue), Some("a"));
        queue.done(&"a");
        assert_eq!(ready(&queue), None);
    }

    #[tokio::test]
    async fn a_wish_for_later_is_kept_until_then_and_the_earliest_counts() {
        let queue = Queue::new();
        queue.add_after("a", Duration::from_secs(100));
        queue.add_after("a", Duration::from_secs(20));
        queue.add_after("a", Duration::from_secs(50));
        assert_eq!(ready(&queue), None);
        let start = Instant::now();
        queue.state.lock().ripen(start + Duration::from_secs(19));
        assert_eq!(ready(&queue), None);
        queue.state.lock().ripen(start + Duration::from_secs(21));
        assert_eq!(ready(&queue), Some("a"));
        queue.done(&"a");
        queue.state.lock().ripen(start + Duration::from_secs(1_000));
        assert_eq!(ready(&queue), None, "once is enough");
    }

    #[test]
    fn failures_wait_longer_each_time_up_to_half_a_minute() {
        let waits: Vec<u128> = [1, 2, 3, 10, 13, 14, 40, u32::MAX].iter().map(|failures| delay_after(*failures).as_millis()).collect();
        assert_eq!(waits, [5, 10, 20, 2_560, 20_480, 30_000, 30_000, 30_000]);
    }
}
