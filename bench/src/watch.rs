//! Watches whose events carry the moment at which their bytes arrived.

use crate::api::{Api, request};
use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::Method;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

struct Event {
    at: Instant,
    kind: String,
    object: Value,
}

/// The objects of one kind in one namespace, by name, as a watch tells of them.
pub(crate) struct Objects {
    events: mpsc::Receiver<Event>,
    reader: JoinHandle<()>,
    /// As of the last event that was looked at.
    pub now: BTreeMap<String, Value>,
}

/// More events than any row causes between two looks.
const QUEUE: usize = 100_000;

impl Objects {
    /// Watches from what there is; `path` is the collection's.
    pub(crate) async fn watch(api: &Api, path: &str) -> Result<Self> {
        let mut connection = api.connect().await?;
        let response = connection.open(request(Method::GET, &format!("{path}?watch=true"), Bytes::new())).await?;
        ensure!(response.status().is_success(), "watch {path}: {}", response.status());
        let (sender, events) = mpsc::channel(QUEUE);
        let mut body = response.into_body();
        let reader = tokio::spawn(async move {
            let _open = connection;
            let mut buffer = BytesMut::new();
            while let Some(Ok(frame)) = body.frame().await {
                let at = Instant::now();
                buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                    let line = buffer.split_to(end + 1);
                    let Ok(mut event) = serde_json::from_slice::<Value>(&line) else { return };
                    let kind = event["type"].as_str().unwrap_or_default().to_owned();
                    if sender.send(Event { at, kind, object: event["object"].take() }).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Self { events, reader, now: BTreeMap::new() })
    }

    /// Takes events in until a condition on [`Self::now`] holds; when the event arrived that made it so.
    pub(crate) async fn until(&mut self, what: &str, limit: Duration, mut holds: impl FnMut(&BTreeMap<String, Value>) -> bool) -> Result<Instant> {
        if holds(&self.now) {
            return Ok(Instant::now());
        }
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let next = tokio::time::timeout_at(deadline, self.events.recv()).await;
            let Ok(next) = next else { bail!("{what}: not within {limit:?}; there are: {}", self.summary()) };
            let event = next.with_context(|| format!("{what}: the watch ended"))?;
            let name = event.object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            match event.kind.as_str() {
                "ADDED" | "MODIFIED" => drop(self.now.insert(name, event.object)),
                "DELETED" => drop(self.now.remove(&name)),
                "BOOKMARK" => {}
                other => bail!("{what}: the watch says {other}: {}", event.object),
            }
            if holds(&self.now) {
                return Ok(event.at);
            }
        }
    }

    fn summary(&self) -> String {
        let words = |object: &Value| {
            let state = &object["status"]["containerStatuses"][0]["state"];
            format!("{} {} ready={} {}", object["metadata"]["name"], object["status"]["phase"], ready(object), if state.is_null() { String::new() } else { state.to_string() })
        };
        self.now.values().take(5).map(words).collect::<Vec<_>>().join("; ")
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Whether an object's condition `Ready` is true.
pub(crate) fn ready(object: &Value) -> bool {
    object["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// An object's uid.
pub(crate) fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}
