//! A few counters, in the text format that Prometheus reads.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

const VERBS: [&str; 10] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "connect", "other"];

/// Requests by verb and by class of answer.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: [[AtomicU64; 5]; VERBS.len()],
    /// Watches open now.
    pub(crate) watches: AtomicU64,
}

impl Metrics {
    /// Counts one answer.
    pub(crate) fn count(&self, verb: &str, code: u16) {
        let verb = VERBS.iter().position(|known| *known == verb).unwrap_or(VERBS.len() - 1);
        let class = usize::from(code / 100).clamp(1, 5) - 1;
        self.requests[verb][class].fetch_add(1, Ordering::Relaxed);
    }

    /// `apiserver_request_total` and what the store and watches are at.
    pub(crate) fn render(&self, revision: u64) -> String {
        let mut out = String::from("# TYPE apiserver_request_total counter\n");
        for (verb, classes) in VERBS.iter().zip(&self.requests) {
            for (class, count) in classes.iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let _ = writeln!(out, "apiserver_request_total{{verb=\"{verb}\",code=\"{}xx\"}} {count}", class + 1);
                }
            }
        }
        let _ = writeln!(out, "# TYPE apiserver_longrunning_requests gauge\napiserver_longrunning_requests{{verb=\"watch\"}} {}", self.watches.load(Ordering::Relaxed));
        let _ = writeln!(out, "# TYPE mainstay_store_revision counter\nmainstay_store_revision {revision}");
        out
    }
}
