//! One copy of each repeated string: resources, namespaces, label keys and values.

use std::collections::HashSet;
use std::sync::Arc;

/// Entries before the first search for strings that nobody uses any more.
const SWEEP_AT: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Interner {
    known: HashSet<Arc<str>>,
    sweep_at: usize,
}

impl Interner {
    pub(crate) fn new() -> Self {
        Self { known: HashSet::new(), sweep_at: SWEEP_AT }
    }

    /// The shared copy of `text`.
    pub(crate) fn intern(&mut self, text: &Arc<str>) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return Arc::clone(known);
        }
        self.make_room();
        self.known.insert(Arc::clone(text));
        Arc::clone(text)
    }

    /// The shared copy of `text`, which is allocated only when new.
    pub(crate) fn intern_str(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return Arc::clone(known);
        }
        self.make_room();
        let new: Arc<str> = Arc::from(text);
        self.known.insert(Arc::clone(&new));
        new
    }

    /// Forgets what only this table still holds, each time the table has doubled: the cost stays constant a string.
    fn make_room(&mut self) {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|text| Arc::strong_count(text) > 1);
            self.sweep_at = (2 * self.known.len()).max(SWEEP_AT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_shared_while_used_and_forgotten_afterwards() {
        let mut interner = Interner::new();
        let kept = interner.intern_str("pods");
        assert!(Arc::ptr_eq(&kept, &interner.intern(&Arc::from("pods"))));
        for number in 0..10 * SWEEP_AT {
            interner.intern_str(&number.to_string());
        }
        assert!(interner.known.len() <= SWEEP_AT);
        assert!(Arc::ptr_eq(&kept, &interner.intern_str("pods")));
    }
}
