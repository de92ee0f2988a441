//! Which pod addresses are free. Pure: the clock is handed in.

use std::collections::{BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// How long a released address is left alone: peers and resolvers may still hold it.
pub(crate) const REST: Duration = Duration::from_secs(60);

/// Addresses of one range, handed out in turn.
#[derive(Debug)]
pub(crate) struct Pool {
    network: u32,
    /// Offsets that may be given: network, host and broadcast address are not among them.
    first: u32,
    last: u32,
    next: u32,
    used: BTreeSet<u32>,
    resting: VecDeque<(Instant, u32)>,
}

impl Pool {
    /// A pool over a range of at least a /30.
    pub(crate) fn new((network, prefix): (Ipv4Addr, u8)) -> Self {
        let size = 1u64 << 32u8.saturating_sub(prefix);
        let last = u32::try_from(size.saturating_sub(2)).unwrap_or(u32::MAX);
        Self { network: u32::from(network), first: 2, last, next: 2, used: BTreeSet::new(), resting: VecDeque::new() }
    }

    /// Marks an address found in a record as taken; later ones are given after it.
    pub(crate) fn adopt(&mut self, address: Ipv4Addr) {
        let offset = u32::from(address).wrapping_sub(self.network);
        self.used.insert(offset);
        self.next = offset + 1;
    }

    /// The next free address: in turn, so that one released comes back last; a resting one only when nothing else is left.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Ipv4Addr> {
        while self.resting.front().is_some_and(|(since, _)| now.duration_since(*since) >= REST) {
            self.resting.pop_front();
        }
        let count = self.capacity();
        let start = if (self.first..=self.last).contains(&self.next) { self.next } else { self.first };
        let in_turn = (0..count).map(|i| self.first + (start - self.first + i) % count);
        let resting: BTreeSet<u32> = self.resting.iter().map(|(_, o)| *o).collect();
        let mut free = in_turn.filter(|o| !self.used.contains(o) && !resting.contains(o));
        let offset = match free.next() {
            Some(offset) => offset,
            None => self.resting.pop_front()?.1,
        };
        self.used.insert(offset);
        self.next = offset + 1;
        Some(Ipv4Addr::from(self.network + offset))
    }

    /// Lets it rest.
    pub(crate) fn release(&mut self, address: Ipv4Addr, now: Instant) {
        let offset = u32::from(address).wrapping_sub(self.network);
        if self.used.remove(&offset) {
            self.resting.push_back((now, offset));
        }
    }

    /// How many pods fit.
    pub(crate) fn capacity(&self) -> u32 {
        (self.last + 1).saturating_sub(self.first)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pool() -> Pool {
        Pool::new((Ipv4Addr::new(10, 42, 0, 0), 29))
    }
    fn take(pool: &mut Pool, now: Instant) -> String {
        pool.take(now).map_or("none".into(), |a| a.octets()[3].to_string())
    }

    #[test]
    fn addresses_are_given_in_turn_and_a_released_one_comes_back_last() {
        let (mut pool, now) = (pool(), Instant::now());
        assert_eq!([take(&mut pool, now), take(&mut pool, now)], ["2", "3"]);
        pool.release(Ipv4Addr::new(10, 42, 0, 2), now);
        assert_eq!([take(&mut pool, now), take(&mut pool, now), take(&mut pool, now)], ["4", "5", "6"]);
        assert_eq!(take(&mut pool, now + REST), "2");
        assert_eq!(take(&mut pool, now + REST), "none");
    }

    #[test]
    fn a_resting_address_is_given_when_nothing_else_is_left() {
        let (mut pool, now) = (pool(), Instant::now());
        for _ in 0..pool.capacity() {
            take(&mut pool, now);
        }
        pool.release(Ipv4Addr::new(10, 42, 0, 4), now);
        assert_eq!(take(&mut pool, now), "4");
    }

    #[test]
    fn an_adopted_address_is_never_given_and_the_next_ones_follow_it() {
        let (mut pool, now) = (pool(), Instant::now());
        pool.adopt(Ipv4Addr::new(10, 42, 0, 5));
        let given: Vec<String> = (0..5).map(|_| take(&mut pool, now)).collect();
        assert_eq!(given, ["6", "2", "3", "4", "none"]);
    }
}
