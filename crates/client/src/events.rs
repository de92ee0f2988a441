//! Events, with upstream's aggregation: the same event again within ten minutes raises `count` instead of adding an object; bounded, never blocking.
//!
//! Upstream: client-go `tools/record/events_cache.go`. Its spam filter (25 events an object, then one in five minutes) is left out: the queue
//! here is bounded, and the events it drops are the ones that people look for.

use crate::backoff::Backoff;
use crate::cluster::Transport;
use crate::{Error, Resource};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

/// Events waiting to be written.
const QUEUE_LIMIT: usize = 1_000;
/// Events remembered so as to count repeats.
const MEMORY_LIMIT: usize = 4_096;
/// Within this, the same event is counted and similar ones are combined.
const WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// From this many different messages of one reason on, they are combined.
const SIMILAR_LIMIT: usize = 10;
const ATTEMPTS: usize = 6;

/// `type` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// `Normal`.
    Normal,
    /// `Warning`.
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

#[derive(Debug)]
struct Pending {
    number: u64,
    about: ObjectReference,
    severity: Severity,
    reason: String,
    message: String,
    host: Option<Arc<str>>,
    at: Timestamp,
}

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<Pending>,
    recorded: u64,
    dropped: u64,
}

#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
    done: watch::Sender<u64>,
}

#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Writes events in the background. Cheap to clone. Past its bound (1,000 waiting) the oldest are dropped and counted in the log.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: Arc<Queue>,
    host: Option<Arc<str>>,
    _task: Arc<Task>,
}

impl Recorder {
    pub(crate) fn start(transport: Transport) -> Self {
        let queue = Arc::new(Queue { waiting: Mutex::default(), wake: Notify::new(), done: watch::channel(0).0 });
        let task = tokio::spawn(run(transport, queue.clone()));
        Self { queue, host: None, _task: Arc::new(Task(task.abort_handle())) }
    }

    /// The same, naming a node as `source.host` (the kubelet's events do).
    pub fn on_host(&self, host: &str) -> Self {
        Self { host: Some(host.into()), ..self.clone() }
    }

    /// Never blocks, never fails.
    pub fn record(&self, about: ObjectReference, severity: Severity, reason: &str, message: impl Into<String>) {
        let mut waiting = self.queue.waiting.lock();
        waiting.recorded += 1;
        let number = waiting.recorded;
        let pending = Pending { number, about, severity, reason: reason.to_owned(), message: message.into(), host: self.host.clone(), at: Timestamp::now() };
        waiting.queue.push_back(pending);
        if waiting.queue.len() > QUEUE_LIMIT {
            waiting.queue.pop_front();
            waiting.dropped += 1;
            if waiting.dropped.is_power_of_two() {
                tracing::warn!(dropped = waiting.dropped, "events are recorded faster than they can be written; the oldest are dropped");
            }
        }
        drop(waiting);
        self.queue.wake.notify_one();
    }

    /// Returns when all that was recorded before is written.
    pub async fn flush(&self) {
        let target = self.queue.waiting.lock().recorded;
        // The sender lives in the queue that `self` holds, so that this cannot fail.
        let _ = self.queue.done.subscribe().wait_for(|done| *done >= target).await;
    }
}

async fn run(transport: Transport, queue: Arc<Queue>) {
    let mut correlator = Correlator::default();
    loop {
        let next = queue.waiting.lock().queue.pop_front();
        let Some(pending) = next else {
            queue.wake.notified().await;
            continue;
        };
        let number = pending.number;
        write(&transport, &mut correlator, pending).await;
        queue.done.send_replace(number);
    }
}

async fn write(transport: &Transport, correlator: &mut Correlator, pending: Pending) {
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(5));
    let mut act = correlator.correlate(pending, transport.component());
    for _ in 0..ATTEMPTS {
        match perform(transport, &act).await {
            Ok(()) => return,
            // Expired meanwhile, or deleted by hand: it starts anew.
            Err(error) if error.is_not_found() && !act.create => act.create = true,
            Err(error) if error.is_already_exists() => act.rename(),
            // The namespace is going away, or the event is invalid: no use in trying again.
            Err(error) if error.code().is_some_and(|code| (400..500).contains(&code) && code != 429) => {
                tracing::debug!(%error, "event not written");
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "event");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
    tracing::warn!(reason = act.event.reason, message = act.event.message, "event not written: the API does not answer");
}

async fn perform(transport: &Transport, act: &Act) -> Result<(), Error> {
    let namespace = act.event.metadata.namespace.as_deref().unwrap_or("default");
    let name = act.event.metadata.name.as_deref().unwrap_or_default();
    let mut path = format!("{}/namespaces/{}/{}", Event::PREFIX, crate::encode_segment(namespace), Event::PLURAL);
    if act.create {
        let doing = || format!("create events {namespace}/{name}");
        return transport.call(&doing, Method::POST, &path, Some("application/json"), act.event.encode()).await.map(|_| ());
    }
    path.push('/');
    path.push_str(&crate::encode_segment(name));
    let doing = || format!("patch events {namespace}/{name}");
    let patch = serde_json::json!({ "count": act.event.count, "lastTimestamp": act.event.last_timestamp, "message": act.event.message });
    transport.call(&doing, Method::PATCH, &path, Some("application/merge-patch+json"), patch.to_string().into_bytes()).await.map(|_| ())
}

/// The event as it is to be, and whether it is to be created or raised.
#[derive(Debug)]
struct Act {
    event: Event,
    create: bool,
}

impl Act {
    fn rename(&mut self) {
        if let Some(name) = &mut self.event.metadata.name {
            name.push('0');
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    host: Option<Arc<str>>,
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    field_path: Option<String>,
    severity: Severity,
    reason: String,
    /// `None`: of all messages combined.
    message: Option<String>,
}

#[derive(Debug)]
struct Seen {
    name: String,
    first: Timestamp,
    last: Timestamp,
    count: i32,
}

#[derive(Debug)]
struct Similar {
    messages: HashSet<String>,
    last: Timestamp,
}

/// Which events are the same, and which are nearly. Pure.
#[derive(Debug, Default)]
struct Correlator {
    seen: HashMap<Key, Seen>,
    similar: HashMap<Key, Similar>,
}

impl Correlator {
    fn correlate(&mut self, mut pending: Pending, component: &str) -> Act {
        let now = pending.at;
        self.forget(now);
        let mut key = Key {
            host: pending.host.clone(),
            kind: pending.about.kind.clone(),
            namespace: pending.about.namespace.clone(),
            name: pending.about.name.clone(),
            uid: pending.about.uid.clone(),
            field_path: pending.about.field_path.clone(),
            severity: pending.severity,
            reason: pending.reason.clone(),
            message: None,
        };
        let similar = self.similar.entry(key.clone()).or_insert_with(|| Similar { messages: HashSet::new(), last: now });
        if now.duration_since(similar.last) > WINDOW {
            similar.messages.clear();
        }
        similar.last = now;
        if similar.messages.len() >= SIMILAR_LIMIT && !similar.messages.contains(&pending.message) {
            pending.message = format!("(combined from similar events): {}", pending.message);
        } else {
            similar.messages.insert(pending.message.clone());
            key.message = Some(pending.message.clone());
        }
        let fresh = || Seen { name: event_name(pending.about.name.as_deref().unwrap_or_default(), now), first: now, last: now, count: 0 };
        let seen = self.seen.entry(key).or_insert_with(fresh);
        if now.duration_since(seen.last) > WINDOW {
            *seen = fresh();
        }
        seen.count = seen.count.saturating_add(1);
        seen.last = now;
        let create = seen.count == 1;
        Act { event: event(pending, component, seen), create }
    }

    /// Keeps the memory bounded: first what is too old to matter, then, past the bound, all.
    fn forget(&mut self, now: Timestamp) {
        if self.seen.len() >= MEMORY_LIMIT {
            self.seen.retain(|_, seen| now.duration_since(seen.last) <= WINDOW);
            self.similar.retain(|_, similar| now.duration_since(similar.last) <= WINDOW);
        }
        if self.seen.len() >= MEMORY_LIMIT {
            self.seen.clear();
        }
        if self.similar.len() >= MEMORY_LIMIT {
            self.similar.clear();
        }
    }
}

/// `<name>.<time in hexadecimal nanoseconds>`, as upstream's `getEventName`.
fn event_name(name: &str, now: Timestamp) -> String {
    format!("{name}.{:x}", now.as_nanosecond())
}

fn event(pending: Pending, component: &str, seen: &Seen) -> Event {
    let namespace = pending.about.namespace.clone().filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| "default".to_owned());
    let host = pending.host.as_deref().map(str::to_owned);
    Event {
        metadata: ObjectMeta { name: Some(seen.name.clone()), namespace: Some(namespace), ..ObjectMeta::default() },
        involved_object: pending.about,
        type_: Some(pending.severity.as_str().to_owned()),
        reason: Some(pending.reason),
        message: Some(pending.message),
        source: Some(EventSource { component: Some(component.to_owned()), host: host.clone() }),
        reporting_component: Some(component.to_owned()),
        reporting_instance: Some(host.unwrap_or_default()),
        first_timestamp: Some(Time(seen.first)),
        last_timestamp: Some(Time(seen.last)),
        count: Some(seen.count),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cluster, fake};

    fn pending(message: &str, seconds: i64) -> Pending {
        let about = ObjectReference { kind: Some("Pod".into()), name: Some("web-0".into()), namespace: Some("default".into()), ..Default::default() };
        let at = Timestamp::from_second(1_000_000 + seconds).expect("in range");
        Pending { number: 0, about, severity: Severity::Normal, reason: "Killing".into(), message: message.into(), host: None, at }
    }

    fn check(events: &[(&str, i64)], expected: &[&str]) {
        let mut correlator = Correlator::default();
        let found: Vec<String> = events
            .iter()
            .map(|(message, seconds)| {
                let act = correlator.correlate(pending(message, *seconds), "kubelet");
                let verb = if act.create { "create" } else { "patch" };
                format!("{verb} {} x{}", act.event.message.unwrap_or_default(), act.event.count.unwrap_or_default())
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_same_event_within_ten_minutes_is_counted() {
        check(&[("a", 0), ("a", 5), ("b", 6), ("a", 500)], &["create a x1", "patch a x2", "create b x1", "patch a x3"]);
        check(&[("a", 0), ("a", 601)], &["create a x1", "create a x1"]);
    }

    #[test]
    fn from_the_eleventh_message_on_similar_events_are_combined() {
        let texts: Vec<String> = (0..12).map(|n| n.to_string()).collect();
        let events: Vec<(&str, i64)> = texts.iter().map(|text| (text.as_str(), 0)).collect();
        let mut correlator = Correlator::default();
        let last: Vec<String> = events.iter().filter_map(|(text, at)| correlator.correlate(pending(text, *at), "x").event.message).skip(9).collect();
        assert_eq!(last, ["9", "(combined from similar events): 10", "(combined from similar events): 11"]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut correlator = Correlator::default();
        for n in 0..3 * MEMORY_LIMIT {
            let mut next = pending("a", 0);
            next.about.name = Some(format!("p{n}"));
            correlator.correlate(next, "x");
        }
        assert!(correlator.seen.len() <= MEMORY_LIMIT && correlator.similar.len() <= MEMORY_LIMIT);
    }

    #[tokio::test]
    async fn repeats_become_one_object_with_a_count() {
        let api = fake::Api::new();
        let cluster = Cluster::new(api.client(), "kubelet");
        let recorder = cluster.recorder().on_host("n1");
        for _ in 0..3 {
            recorder.record(pending("", 0).about, Severity::Warning, "BackOff", "Back-off restarting failed container");
        }
        recorder.flush().await;
        let events = api.list("/api/v1", "events");
        assert_eq!(events.len(), 1);
        let event = &events[0];
        assert_eq!(event["count"], 3);
        assert_eq!(event["source"], serde_json::json!({"component": "kubelet", "host": "n1"}));
        assert_eq!(event["reportingComponent"], "kubelet");
        assert!(event["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("web-0.") && name.len() > 15));
    }
}
