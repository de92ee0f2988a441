//! At most one pod of an identity: a pod waits here while an older one of its name, or a leaving one with a claim of its own, has processes.

use crate::pod::reference::PodRef;
use parking_lot::Mutex;
use std::collections::HashMap;
use tokio::sync::watch;

/// All pods that hold, or wait for, an identity on this node.
pub(crate) struct Gate {
    holders: Mutex<HashMap<String, Holder>>,
    /// Counts releases and departures; who waits looks again.
    changed: watch::Sender<u64>,
}

struct Holder {
    pod: PodRef,
    claims: Vec<String>,
    /// Who came first goes first.
    order: u64,
    /// It is being deleted, or its object is gone.
    leaving: bool,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { holders: Mutex::default(), changed: watch::Sender::new(0) }
    }

    /// Takes a place in the line. Again for the same uid: no change.
    pub(crate) fn enter(&self, pod: &PodRef, claims: Vec<String>) {
        let mut holders = self.holders.lock();
        let order = holders.values().map(|h| h.order + 1).max().unwrap_or(0);
        holders.entry(pod.uid.clone()).or_insert(Holder { pod: pod.clone(), claims, order, leaving: false });
    }

    /// The pod is on its way out: its claims are to be waited for.
    pub(crate) fn leave(&self, uid: &str) {
        if let Some(holder) = self.holders.lock().get_mut(uid) {
            holder.leaving = true;
        }
        self.changed.send_modify(|n| *n += 1);
    }

    /// No process of the pod is left and none will come.
    pub(crate) fn release(&self, uid: &str) {
        self.holders.lock().remove(uid);
        self.changed.send_modify(|n| *n += 1);
    }

    /// Whom the pod has to wait for.
    pub(crate) fn blocked_by(&self, uid: &str) -> Option<PodRef> {
        let holders = self.holders.lock();
        let me = holders.get(uid)?;
        let conflicts = |other: &&Holder| {
            let same_name = other.pod.namespace == me.pod.namespace && other.pod.name == me.pod.name;
            let shares = other.pod.namespace == me.pod.namespace && other.claims.iter().any(|c| me.claims.contains(c));
            other.order < me.order && (same_name || (other.leaving && shares))
        };
        holders.values().filter(conflicts).min_by_key(|h| h.order).map(|h| h.pod.clone())
    }

    /// Returns when the pod has to wait for nobody.
    pub(crate) async fn pass(&self, uid: &str) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            match self.blocked_by(uid) {
                None => return,
                Some(other) => tracing::info!(pod = uid, waits_for = %other, "the older pod of this name or claim is not gone yet"),
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, uid: &str) -> PodRef {
        PodRef { namespace: "n".into(), name: name.into(), uid: uid.into() }
    }

    #[test]
    fn a_name_is_waited_for_always_and_a_claim_only_while_its_holder_leaves() {
        let gate = Gate::new();
        gate.enter(&pod("db-0", "old"), vec!["data-db-0".into()]);
        gate.enter(&pod("db-0", "new"), vec!["data-db-0".into()]);
        gate.enter(&pod("backup", "b"), vec!["data-db-0".into()]);
        assert_eq!(gate.blocked_by("new").map(|p| p.uid), Some("old".into()));
        assert_eq!(gate.blocked_by("old"), None, "the older one waits for nobody");
        assert_eq!(gate.blocked_by("b"), None, "sharing a claim with a pod that stays is allowed");
        gate.leave("old");
        assert_eq!(gate.blocked_by("b").map(|p| p.uid), Some("old".into()));
        gate.release("old");
        assert_eq!(gate.blocked_by("new"), None);
        assert_eq!(gate.blocked_by("b"), None);
    }

    #[tokio::test]
    async fn who_waits_passes_when_the_older_one_is_released() {
        let gate = std::sync::Arc::new(Gate::new());
        gate.enter(&pod("db-0", "old"), vec![]);
        gate.enter(&pod("db-0", "new"), vec![]);
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.pass("new").await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        gate.release("old");
        waiting.await.unwrap();
    }
}
