//! Numbers nobody outside can guess: SipHash of a counter under the process' random keys.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// One of 2^64.
pub(crate) fn number() -> u64 {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    KEYS.hash_one(COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Any order, with equal chance (Fisher and Yates).
pub(crate) fn shuffle<T>(items: &mut [T]) {
    for left in (2..=items.len()).rev() {
        items.swap(left - 1, (number() % left as u64) as usize);
    }
}
