//! List, then watch, for ever: what keeps a [`Cache`](crate::Cache) current.

use crate::backoff::Backoff;
use crate::cache::{Store, parse_revision};
use crate::cluster::Transport;
use crate::lines::Lines;
use crate::{Error, Resource};
use http::Method;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;

/// Objects asked for at once.
const PAGE: usize = 500;
/// How long one watch may last, as reflectors have it (5 to 10 minutes), and how long a silent one is believed beyond that.
const WATCH_SECONDS: u64 = 540;
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS + 30);
/// A server in this process may still be starting: the first attempts follow each other fast.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(5));

#[derive(Deserialize)]
struct List<'a> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: Option<String>,
    r#continue: Option<String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    r#type: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize, Default)]
struct Partial {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default)]
    code: Option<u16>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

/// Where the informer stands: `revision` is `None` when it has to list.
pub(crate) struct Informer<K> {
    transport: Transport,
    store: Arc<Store<K>>,
    revision: Option<String>,
}

impl<K: Resource> Informer<K> {
    pub(crate) fn new(transport: Transport, store: Arc<Store<K>>) -> Self {
        Self { transport, store, revision: None }
    }

    /// Never returns; dropped with the last cache.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            let outcome = if self.revision.is_none() { self.list().await.map(|()| true) } else { self.watch().await };
            match outcome {
                Ok(true) => {
                    backoff.reset();
                    continue;
                }
                // A watch that ends without a word is no error, but must not spin.
                Ok(false) => {}
                Err(error) if error.is_expired() => {
                    tracing::debug!(kind = K::KIND, %error, "listing again");
                    self.revision = None;
                }
                Err(error) => tracing::debug!(kind = K::KIND, %error, "informer"),
            }
            let wait = backoff.next();
            if wait >= Duration::from_secs(1) {
                tracing::warn!(kind = K::KIND, wait_ms = wait.as_millis() as u64, "the API does not answer; trying again");
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn doing(verb: &str) -> String {
        format!("{verb} {}", K::PLURAL)
    }

    async fn list(&mut self) -> Result<(), Error> {
        let doing = || Self::doing("list");
        let (mut all, mut next) = (Vec::new(), None::<String>);
        let revision = loop {
            let mut path = format!("{}/{}?limit={PAGE}", K::PREFIX, K::PLURAL);
            if let Some(next) = &next {
                path.push_str("&continue=");
                path.push_str(&crate::encode_segment(next));
            }
            let bytes = self.transport.call(&doing, Method::GET, &path, None, Vec::new()).await?;
            let list: List<'_> = serde_json::from_slice(&bytes).map_err(|source| Error::Decode { doing: doing(), source })?;
            for item in list.items.iter().flatten() {
                match K::decode(item.get().as_bytes()) {
                    Ok(mut object) => {
                        object.trim();
                        all.push(object);
                    }
                    Err(error) => tracing::error!(kind = K::KIND, %error, "an object that cannot be read is left out of the cache"),
                }
            }
            match list.metadata.r#continue.filter(|next| !next.is_empty()) {
                Some(more) => next = Some(more),
                None => break list.metadata.resource_version.unwrap_or_default(),
            }
        };
        self.store.replace(all, parse_revision(Some(&revision)));
        self.revision = Some(revision);
        Ok(())
    }

    /// Follows one watch to its end; whether it said anything.
    async fn watch(&mut self) -> Result<bool, Error> {
        let doing = || Self::doing("watch");
        let revision = self.revision.as_deref().unwrap_or("0");
        let path = format!("{}/{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={revision}", K::PREFIX, K::PLURAL);
        let response = self.transport.open(&doing, Method::GET, &path).await?;
        let mut body = std::pin::pin!(response.into_body());
        let (mut lines, mut heard) = (Lines::default(), false);
        loop {
            let frame = match tokio::time::timeout(SILENCE, body.frame()).await {
                Ok(Some(frame)) => frame.map_err(|source| Error::Transport { doing: doing(), source })?,
                Ok(None) | Err(_) => return Ok(heard),
            };
            let Ok(data) = frame.into_data() else { continue };
            lines.push(&data).map_err(|error| Error::Transport { doing: doing(), source: kube::Error::Service(Box::new(error)) })?;
            while let Some(line) = lines.next() {
                if !line.is_empty() {
                    self.apply(&line)?;
                    heard = true;
                }
            }
        }
    }

    fn apply(&mut self, line: &[u8]) -> Result<(), Error> {
        let bad = |source| Error::Decode { doing: Self::doing("watch"), source };
        let line: Line<'_> = serde_json::from_slice(line).map_err(bad)?;
        let object = line.object.get().as_bytes();
        match line.r#type.as_ref() {
            "ADDED" | "MODIFIED" | "DELETED" => match K::decode(object) {
                Ok(mut object) => {
                    object.trim();
                    self.revision.clone_from(&object.metadata().resource_version);
                    if line.r#type == "DELETED" { self.store.take(&object) } else { self.store.put(object) }
                }
                Err(error) => {
                    tracing::error!(kind = K::KIND, %error, "a change that cannot be read is left out of the cache");
                    self.bookmark(object).map_err(bad)?;
                }
            },
            "BOOKMARK" => self.bookmark(object).map_err(bad)?,
            _ => {
                let status: Partial = serde_json::from_slice(object).unwrap_or_default();
                return Err(Error::Api {
                    doing: Self::doing("watch"),
                    code: status.code.unwrap_or(500),
                    reason: status.reason.unwrap_or_default(),
                    message: status.message.unwrap_or_else(|| "the watch ended with an error".to_owned()),
                });
            }
        }
        Ok(())
    }

    fn bookmark(&mut self, object: &[u8]) -> Result<(), serde_json::Error> {
        let partial: Partial = serde_json::from_slice(object)?;
        if let Some(revision) = partial.metadata.resource_version {
            self.store.advance(parse_revision(Some(&revision)));
            self.revision = Some(revision);
        }
        Ok(())
    }
}
