//! One kind, listed and then watched for ever.

use super::{Item, Kind, Metadata, Owner};
use futures::TryStreamExt;
use http::{Method, Request};
use kube::core::WatchEvent;
use mainstay_client::{Cluster, Error};
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Objects asked for at once.
const PAGE: usize = 500;
/// How long one watch lasts, and how long a silent one is believed beyond that.
const WATCH_SECONDS: u64 = 540;
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS + 30);
/// Waits after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(5));

/// All that is read of an object.
#[derive(Clone, Debug, Deserialize)]
struct Partial {
    metadata: PartialMeta,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PartialMeta {
    name: String,
    #[serde(default)]
    namespace: String,
    uid: String,
    resource_version: String,
    #[serde(default)]
    deletion_timestamp: Option<String>,
    #[serde(default)]
    finalizers: Option<Vec<String>>,
    #[serde(default)]
    owner_references: Option<Vec<Owner>>,
}

impl Partial {
    fn item(self, kind: usize) -> Item {
        let PartialMeta { name, namespace, uid, resource_version, deletion_timestamp, finalizers, owner_references } = self.metadata;
        Item {
            kind,
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.into(),
            revision: resource_version,
            deleting: deletion_timestamp.is_some(),
            finalizers: finalizers.unwrap_or_default(),
            owners: owner_references.unwrap_or_default(),
        }
    }
}

/// Why a watch ended.
enum Ended {
    /// It can go on from where it was.
    Resume,
    /// History is gone: list again.
    Expired,
}

pub(super) async fn follow(cluster: &Cluster, metadata: &Metadata, index: usize, kind: &Kind, listed: impl Fn()) {
    let mut wait = BACKOFF.0;
    let mut revision: Option<String> = None;
    let mut first = true;
    loop {
        let from = match &revision {
            Some(revision) => revision.clone(),
            None => match list(cluster, metadata, index, kind).await {
                Ok(from) => {
                    if std::mem::take(&mut first) {
                        listed();
                    }
                    from
                }
                Err(error) => {
                    tracing::debug!(kind = kind.plural, "{error}");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(BACKOFF.1);
                    continue;
                }
            },
        };
        let mut reached = from;
        match watch(cluster, metadata, index, kind, &mut reached).await {
            Ok(Ended::Resume) => {
                wait = BACKOFF.0;
                revision = Some(reached);
            }
            Ok(Ended::Expired) => revision = None,
            Err(error) => {
                tracing::debug!(kind = kind.plural, "{error}");
                revision = Some(reached);
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(BACKOFF.1);
            }
        }
    }
}

async fn list(cluster: &Cluster, metadata: &Metadata, index: usize, kind: &Kind) -> Result<String, Error> {
    let path = kind.collection("");
    let (mut token, mut seen) = (String::new(), HashSet::new());
    loop {
        let more = if token.is_empty() { String::new() } else { format!("&continue={}", mainstay_client::encode_segment(&token)) };
        let page = cluster.request(Method::GET, &format!("{path}?limit={PAGE}{more}"), None).await?;
        for object in page["items"].as_array().into_iter().flatten() {
            let partial = Partial::deserialize(object).map_err(|source| Error::Decode { doing: format!("list {}", kind.plural), source })?;
            seen.insert(partial.metadata.uid.clone());
            metadata.put(partial.item(index));
        }
        token = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            let known: Vec<Arc<str>> = metadata.world().of_kind(index);
            known.iter().filter(|uid| !seen.contains(&***uid)).for_each(|uid| metadata.remove(uid));
            return Ok(page["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned());
        }
    }
}

async fn watch(cluster: &Cluster, metadata: &Metadata, index: usize, kind: &Kind, reached: &mut String) -> Result<Ended, kube::Error> {
    let path = format!("{}?watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={reached}", kind.collection(""));
    let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    let events = match cluster.client().request_events::<Partial>(request).await {
        Ok(events) => events,
        Err(kube::Error::Api(status)) if status.code == 410 => return Ok(Ended::Expired),
        Err(error) => return Err(error),
    };
    let mut events = std::pin::pin!(events);
    loop {
        let Ok(event) = tokio::time::timeout(SILENCE, events.try_next()).await else { return Ok(Ended::Resume) };
        match event? {
            None => return Ok(Ended::Resume),
            Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                reached.clone_from(&object.metadata.resource_version);
                metadata.put(object.item(index));
            }
            Some(WatchEvent::Deleted(object)) => {
                reached.clone_from(&object.metadata.resource_version);
                metadata.remove(&object.metadata.uid);
            }
            Some(WatchEvent::Bookmark(bookmark)) => reached.clone_from(&bookmark.metadata.resource_version),
            Some(WatchEvent::Error(status)) if status.code == 410 => return Ok(Ended::Expired),
            Some(WatchEvent::Error(status)) => return Err(kube::Error::Api(status)),
        }
    }
}
