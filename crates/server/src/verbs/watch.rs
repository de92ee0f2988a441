//! GET of a collection with `watch=true`: what happens to it, as it happens.

use crate::handler::{Answer, Call};
use crate::negotiate::Form;
use crate::object;
use crate::render;
use crate::rows::Row;
use crate::select::Selector;
use crate::server::Inner;
use crate::status::Failure;
use crate::table::Include;
use crate::verbs::list::{At, range, reach, state};
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use mainstay_api::CauseReason;
use mainstay_store::{Event, EventKind, Object, Watch};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Bytes after which a chunk goes out; the events behind it wait for the next.
const CHUNK_BYTES: usize = 256 * 1024;

/// Events taken from the log at once.
const BATCH: usize = 512;

/// Room for events that a watch keeps while nothing happens.
const KEPT: usize = 64;

/// Time between bookmarks.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// A watch without a timeout of its own ends between these, spread so that clients do not come back all at once.
const TIMEOUT_SECONDS: (u64, u64) = (1_800, 3_600);

/// Starts a watch. Errors of the request are a Status; a revision that is gone is an ERROR event, as clients expect it.
pub(crate) async fn watch(call: &Call<'_>) -> Answer {
    let include = Include::parse(call.query.get("includeObject"))?;
    let selector = Selector::parse(call.row, call.query.get("labelSelector"), call.query.get("fieldSelector"))?;
    let start = Start::parse(call)?;
    let bookmarks = call.query.flag("allowWatchBookmarks");
    let revision = match start.at {
        At::NotOlderThan(revision) | At::Exactly(revision) => {
            reach(call, revision).await?;
            Some(revision)
        }
        At::Newest => None,
    };
    let range = range(call, &selector);
    let (initial, revision) = if start.with_state {
        state(call, &range, &selector)
    } else {
        (Vec::new(), revision.unwrap_or_else(|| call.server.store.revision()))
    };
    let mut follow = Follow {
        server: call.server.clone(),
        row: call.row.clone(),
        selector,
        form: call.accept.form,
        include,
        columns_sent: false,
        initial: initial.into(),
        initial_end: (start.initial_end && bookmarks).then_some(revision),
        waiting: VecDeque::new(),
        watch: None,
        bookmarks,
        next_bookmark: Instant::now() + BOOKMARK_INTERVAL,
        deadline: Instant::now() + timeout(call)?,
        sleep: Box::pin(tokio::time::sleep(BOOKMARK_INTERVAL)),
        closing: call.server.closing(),
        error: None,
        ended: false,
    };
    match call.server.store.watch(&range, revision) {
        Ok(watch) => follow.watch = Some(watch),
        Err(expired) => follow.error = Some(Failure::expired(expired)),
    }
    follow.arm();
    call.server.metrics.watches.fetch_add(1, Ordering::Relaxed);
    let frames = stream::unfold(follow, |mut follow| async move { follow.chunk().await.map(|chunk| (Ok(Frame::data(chunk)), follow)) });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Where a watch starts.
struct Start {
    at: At,
    /// With what is there now, as ADDED events.
    with_state: bool,
    /// With a bookmark after that.
    initial_end: bool,
}

impl Start {
    /// `resourceVersion`, `resourceVersionMatch` and `sendInitialEvents` (apimachinery validation of ListOptions).
    fn parse(call: &Call<'_>) -> Result<Self, Failure> {
        let forbidden = |field: &str, message: &str| Err(Failure::invalid_option("ListOptions", field, CauseReason::Forbidden, format!("Forbidden: {message}")));
        let revision: u64 = match call.query.get("resourceVersion") {
            None => 0,
            Some(text) => text.parse().map_err(|_| super::invalid_resource_version(text))?,
        };
        let at = if revision == 0 { At::Newest } else { At::NotOlderThan(revision) };
        let matching = call.query.get("resourceVersionMatch");
        let Some(send) = call.query.get("sendInitialEvents") else {
            return match matching {
                Some(_) => forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"),
                None => Ok(Self { at, with_state: revision == 0, initial_end: false }),
            };
        };
        if matching != Some("NotOlderThan") {
            return forbidden("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
        }
        match call.query.flag("sendInitialEvents") {
            true => Ok(Self { at, with_state: true, initial_end: true }),
            false if matches!(send, "0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(Self { at, with_state: false, initial_end: false }),
            false => Err(Failure::bad_request(format!("sendInitialEvents: Invalid value: {send:?}: must be true or false"))),
        }
    }
}

fn timeout(call: &Call<'_>) -> Result<Duration, Failure> {
    let seconds = match call.query.get("timeoutSeconds") {
        Some(text) => text.parse().map_err(|_| Failure::bad_request(format!("timeoutSeconds: Invalid value: {text:?}: must be a number")))?,
        None => 0,
    };
    let (least, most) = TIMEOUT_SECONDS;
    let spread = u64::from(uuid::Uuid::new_v4().as_fields().0) % (most - least);
    Ok(Duration::from_secs(if seconds == 0 { least + spread } else { seconds }))
}

/// One watch: its place in the log and what is due when.
struct Follow {
    server: Arc<Inner>,
    row: Arc<Row>,
    selector: Selector,
    form: Form,
    include: Include,
    columns_sent: bool,
    initial: VecDeque<Arc<Object>>,
    /// The revision of the bookmark that ends the initial events, while it is due.
    initial_end: Option<u64>,
    /// Taken from the log and not sent yet.
    waiting: VecDeque<Arc<Event>>,
    watch: Option<Watch>,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    sleep: Pin<Box<Sleep>>,
    closing: tokio::sync::watch::Receiver<bool>,
    /// The last event, which tells why there are no more.
    error: Option<Failure>,
    ended: bool,
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.server.metrics.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What woke a watch.
enum Woken {
    Events,
    Timer,
    Closing,
}

impl Follow {
    /// The next bytes; `None` when the watch is over.
    async fn chunk(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        if self.ended {
            return None;
        }
        self.write_initial(&mut out);
        while out.is_empty() {
            self.write_waiting(&mut out);
            if !out.is_empty() {
                break;
            }
            if let Some(failure) = self.error.take() {
                self.ended = true;
                write_error(&mut out, &failure);
                break;
            }
            match self.wait().await {
                Woken::Events => {}
                Woken::Timer => self.tick(&mut out),
                Woken::Closing => self.ended = true,
            }
            if self.ended && out.is_empty() {
                return None;
            }
        }
        Some(Bytes::from(out))
    }

    /// What was there at the start, a chunk of it.
    fn write_initial(&mut self, out: &mut Vec<u8>) {
        while out.len() < CHUNK_BYTES {
            let Some(object) = self.initial.pop_front() else { break };
            self.write_event(out, "ADDED", &object);
        }
        if self.initial.is_empty() {
            // A watch lives for an hour: it should not hold the room that its first second took.
            self.initial = VecDeque::new();
            if let Some(revision) = self.initial_end.take() {
                self.write_bookmark(out, revision, true);
            }
        }
    }

    /// Events that were taken from the log, a chunk of them.
    fn write_waiting(&mut self, out: &mut Vec<u8>) {
        while out.len() < CHUNK_BYTES {
            let Some(event) = self.waiting.pop_front() else { break };
            self.write_change(out, &event);
        }
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT {
            self.waiting = VecDeque::new();
        }
    }

    async fn wait(&mut self) -> Woken {
        let Some(watch) = &mut self.watch else { return Woken::Closing };
        tokio::select! {
            biased;
            batch = watch.next(BATCH) => {
                match batch {
                    Ok(batch) => self.waiting.extend(batch.events),
                    Err(expired) => self.error = Some(Failure::expired(expired)),
                }
                Woken::Events
            }
            () = &mut self.sleep => Woken::Timer,
            _ = self.closing.wait_for(|closing| *closing) => Woken::Closing,
        }
    }

    /// A bookmark is due, or the end.
    fn tick(&mut self, out: &mut Vec<u8>) {
        let now = Instant::now();
        self.ended = now >= self.deadline;
        if self.bookmarks && (self.ended || now >= self.next_bookmark) {
            self.next_bookmark = now + BOOKMARK_INTERVAL;
            if let Some(revision) = self.watch.as_mut().map(Watch::revision) {
                self.write_bookmark(out, revision, false);
            }
        }
        self.arm();
    }

    fn arm(&mut self) {
        let due = if self.bookmarks { self.next_bookmark.min(self.deadline) } else { self.deadline };
        self.sleep.as_mut().reset(due);
    }

    /// What a change in the log is to this watch's selector.
    fn write_change(&mut self, out: &mut Vec<u8>, event: &Event) {
        let now = event.kind != EventKind::Deleted && self.selector.matches(&event.object);
        let before = match (&event.previous, event.kind) {
            (Some(previous), _) => self.selector.matches(previous),
            (None, EventKind::Added) => false,
            (None, _) => self.selector.matches(&event.object),
        };
        match (before, now) {
            (false, false) => {}
            (false, true) => self.write_event(out, "ADDED", &event.object),
            (true, true) => self.write_event(out, "MODIFIED", &event.object),
            (true, false) if event.kind == EventKind::Deleted => self.write_event(out, "DELETED", &event.object),
            (true, false) => self.write_left(out, event),
        }
    }

    /// An object that no longer matches: DELETED, with the last state that did, at the revision at which it ceased to.
    fn write_left(&mut self, out: &mut Vec<u8>, event: &Event) {
        let last = event.previous.as_deref().unwrap_or(&event.object);
        let Ok(mut value) = serde_json::from_slice::<Value>(&last.bytes) else { return };
        object::metadata_mut(&mut value).insert("resourceVersion".into(), event.object.revision.to_string().into());
        let mut bytes = Vec::with_capacity(last.bytes.len());
        object::write(&mut bytes, &value);
        let left = Object { key: last.key.clone(), revision: event.object.revision, bytes: bytes.into(), meta: last.meta.clone() };
        self.write_event(out, "DELETED", &left);
    }

    fn write_event(&mut self, out: &mut Vec<u8>, kind: &str, object: &Object) {
        let start = out.len();
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        match render::write_item(out, &self.row, self.form, self.include, !self.columns_sent, object) {
            Ok(()) => {
                out.extend_from_slice(b"}\n");
                self.columns_sent = true;
            }
            Err(failure) => {
                out.truncate(start);
                self.error = Some(failure);
            }
        }
    }

    fn write_bookmark(&mut self, out: &mut Vec<u8>, revision: u64, initial_end: bool) {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.form {
            Form::Plain => json!({"kind": self.row.kind.kind, "apiVersion": self.row.api_version, "metadata": metadata}),
            Form::Metadata(version) => json!({"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": metadata}),
            Form::Table(version) => {
                let partial = json!({"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": metadata});
                let cells: Vec<Value> = self.row.kind.columns.iter().map(|_| Value::Null).collect();
                json!({"kind": "Table", "apiVersion": version, "metadata": {"resourceVersion": revision.to_string()},
                       "columnDefinitions": null, "rows": [{"cells": cells, "object": partial}]})
            }
        };
        object::write(out, &json!({"type": "BOOKMARK", "object": object}));
        out.push(b'\n');
    }
}

fn write_error(out: &mut Vec<u8>, failure: &Failure) {
    object::write(out, &json!({"type": "ERROR", "object": failure.status()}));
    out.push(b'\n');
}
