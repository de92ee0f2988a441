//! GET of a collection.

use crate::body::ListBody;
use crate::handler::{Answer, Call, json};
use crate::negotiate::Form;
use crate::object::{self, write};
use crate::render;
use crate::select::Selector;
use crate::status::Failure;
use crate::table::{self, Include};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use http::{HeaderValue, header};
use http_body_util::BodyExt;
use mainstay_api::CauseReason;
use mainstay_store::{Expired, Key, Object, Page, Range};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;

/// How long a client that asks for a revision of the future is kept waiting; upstream's figure.
const FUTURE_TIMEOUT: Duration = Duration::from_secs(3);

/// Objects of one version that a walk with a selector looks at between two looks at the store.
const STRIDE: usize = 2_000;

/// Where a page ends: opaque to clients.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    v: String,
    /// The revision of the first page; 0: whatever is newest (after that one was compacted).
    rv: u64,
    ns: String,
    name: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

impl Continue {
    fn decode(text: &str) -> Result<Self, Failure> {
        let bytes = BASE64.decode(text.trim_end_matches('=')).ok();
        let token: Option<Self> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        token.filter(|token| token.v == TOKEN_VERSION).ok_or_else(|| Failure::bad_request("continue key is not valid: it is not one that this server gave out"))
    }

    fn after(revision: u64, last: &Object) -> String {
        Self::encode(revision, &last.key.namespace, &last.key.name)
    }

    fn encode(revision: u64, namespace: &str, name: &str) -> String {
        let mut out = Vec::new();
        write(&mut out, &Self { v: TOKEN_VERSION.to_owned(), rv: revision, ns: namespace.to_owned(), name: name.to_owned() });
        BASE64.encode(out)
    }
}

/// What was found.
pub(crate) struct Found {
    pub(crate) revision: u64,
    pub(crate) items: Vec<Arc<Object>>,
    continue_token: Option<String>,
    remaining: Option<usize>,
}

/// Lists.
pub(crate) async fn list(call: &Call<'_>) -> Answer {
    if call.query.get("sendInitialEvents").is_some() {
        let message = "Forbidden: sendInitialEvents is forbidden for list".to_owned();
        return Err(Failure::invalid_option("ListOptions", "sendInitialEvents", CauseReason::Forbidden, message));
    }
    let found = find(call).await?;
    if call.accept.form == Form::Plain && !call.accept.yaml && call.row.is_stored_form() {
        let mut head = Vec::with_capacity(256);
        write_head(&mut head, call, &found);
        return Ok(stream(head, found.items));
    }
    let mut out = Vec::with_capacity(4096);
    match call.accept.form {
        Form::Table(version) => {
            let include = Include::parse(call.query.get("includeObject"))?;
            let values = found.items.iter().map(|item| object::read(call.row, item));
            table::write_table(&mut out, call.row, version, &list_metadata(&found), true, include, values)?;
        }
        form => {
            match form {
                Form::Metadata(version) => {
                    out.extend_from_slice(format!(r#"{{"kind":"PartialObjectMetadataList","apiVersion":"{version}","metadata":"#).as_bytes());
                    write(&mut out, &list_metadata(&found));
                    out.extend_from_slice(br#","items":["#);
                }
                _ => write_head(&mut out, call, &found),
            }
            for (index, item) in found.items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                render::write_item(&mut out, call.row, form, Include::Metadata, true, item)?;
            }
            out.extend_from_slice(b"]}\n");
        }
    }
    render::finish(call, 200, out, &[])
}

fn stream(head: Vec<u8>, items: Vec<Arc<Object>>) -> http::Response<crate::Body> {
    let mut response = http::Response::new(ListBody::new(head, items).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A list of objects that were just deleted.
pub(crate) fn of_items(call: &Call<'_>, items: Vec<Arc<Object>>) -> Answer {
    let found = Found { revision: call.server.store.revision(), items, continue_token: None, remaining: None };
    let mut out = Vec::with_capacity(4096);
    write_head(&mut out, call, &found);
    for (index, item) in found.items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        render::write_item(&mut out, call.row, Form::Plain, Include::Metadata, true, item)?;
    }
    out.extend_from_slice(b"]}\n");
    Ok(json(200, out))
}

fn write_head(out: &mut Vec<u8>, call: &Call<'_>, found: &Found) {
    out.extend_from_slice(format!(r#"{{"kind":"{}List","apiVersion":"{}","metadata":"#, call.row.kind.kind, call.row.api_version).as_bytes());
    write(out, &list_metadata(found));
    out.extend_from_slice(br#","items":["#);
}

fn list_metadata(found: &Found) -> Value {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), found.revision.to_string().into());
    if let Some(token) = &found.continue_token {
        metadata.insert("continue".into(), token.as_str().into());
    }
    if let Some(remaining) = found.remaining {
        metadata.insert("remainingItemCount".into(), remaining.into());
    }
    Value::Object(metadata)
}

/// The revision a LIST or a watch's start must be at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// The newest, or any.
    Newest,
    /// This one or newer.
    NotOlderThan(u64),
    /// Exactly this one.
    Exactly(u64),
}

/// `resourceVersion` and `resourceVersionMatch` of a LIST.
fn wanted_revision(call: &Call<'_>, limit: usize) -> Result<At, Failure> {
    let forbidden = |message: String| {
        let message = format!("Forbidden: {message}");
        Err(Failure::invalid_option("ListOptions", "resourceVersionMatch", CauseReason::Forbidden, message))
    };
    let matching = call.query.get("resourceVersionMatch");
    let Some(text) = call.query.get("resourceVersion") else {
        return match matching {
            Some(_) => forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided".to_owned()),
            None => Ok(At::Newest),
        };
    };
    let revision: u64 = text.parse().map_err(|_| super::invalid_resource_version(text))?;
    match (matching, revision) {
        (Some("Exact"), 0) => forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"".to_owned()),
        (Some("Exact"), _) => Ok(At::Exactly(revision)),
        (Some("NotOlderThan") | None, 0) => Ok(At::Newest),
        // A first page at a revision means that revision exactly, as it always has.
        (None, _) if limit > 0 => Ok(At::Exactly(revision)),
        (Some("NotOlderThan") | None, _) => Ok(At::NotOlderThan(revision)),
        (Some(other), _) => {
            let message = format!("Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\"");
            Err(Failure::invalid_option("ListOptions", "resourceVersionMatch", CauseReason::NotSupported, message))
        }
    }
}

/// Waits for a revision that is not there yet, a little while.
pub(crate) async fn reach(call: &Call<'_>, revision: u64) -> Result<(), Failure> {
    let store = &call.server.store;
    if store.revision() >= revision {
        return Ok(());
    }
    let waited = tokio::time::timeout(FUTURE_TIMEOUT, store.reached(revision)).await;
    waited.map_err(|_| Failure::too_large_resource_version(revision, store.revision()))
}

/// The part of the key space that a request is about.
pub(crate) fn range(call: &Call<'_>, selector: &Selector) -> Range {
    let namespace = call.namespace.or(if call.row.namespaced() { selector.namespace() } else { None });
    Range { resource: call.row.resource.clone(), namespace: namespace.map(Into::into) }
}

/// Finds the objects of a request.
pub(crate) async fn find(call: &Call<'_>) -> Result<Found, Failure> {
    let selector = Selector::parse(call.row, call.query.get("labelSelector"), call.query.get("fieldSelector"))?;
    let limit: usize = match call.query.get("limit") {
        None => 0,
        // A negative limit is none.
        Some(text) => text.parse::<i64>().map(|limit| usize::try_from(limit).unwrap_or(0)).map_err(|_| Failure::bad_request(format!("limit: Invalid value: {text:?}: must be a number")))?,
    };
    let range = range(call, &selector);
    if let Some(text) = call.query.get("continue") {
        if call.query.get("resourceVersion").is_some_and(|text| text != "0") {
            return Err(Failure::bad_request("specifying resource version is not allowed when using continue"));
        }
        if call.query.get("resourceVersionMatch").is_some() {
            let message = "Forbidden: resourceVersionMatch is forbidden when continue is provided".to_owned();
            return Err(Failure::invalid_option("ListOptions", "resourceVersionMatch", CauseReason::Forbidden, message));
        }
        let token = Continue::decode(text)?;
        let after = Key { resource: range.resource.clone(), namespace: token.ns.as_str().into(), name: token.name.as_str().into() };
        let at = (token.rv > 0).then_some(token.rv);
        let found = walk(call, &range, &selector, Some(after), limit, at);
        return found.map_err(|_| Failure::page_expired(Continue::encode(0, &token.ns, &token.name)));
    }
    let at = match wanted_revision(call, limit)? {
        At::Newest => None,
        At::NotOlderThan(revision) => {
            reach(call, revision).await?;
            None
        }
        At::Exactly(revision) => {
            reach(call, revision).await?;
            Some(revision)
        }
    };
    if at.is_none()
        && let Some(found) = find_one(call, &range, &selector)
    {
        return Ok(found);
    }
    walk(call, &range, &selector, None, limit, at).map_err(Failure::expired)
}

/// All that matches now, and the revision at which that is so: the start of a watch.
pub(crate) fn state(call: &Call<'_>, range: &Range, selector: &Selector) -> (Vec<Arc<Object>>, u64) {
    let mut page = call.server.store.list(range, None, 0);
    page.items.retain(|object| selector.matches(object));
    page.items.shrink_to_fit();
    (page.items, page.revision)
}

/// The shortcut for `metadata.name=x`, when nothing is written meanwhile: the answer must be true at the revision that it names.
fn find_one(call: &Call<'_>, range: &Range, selector: &Selector) -> Option<Found> {
    let name = selector.name()?;
    let namespace = match (&range.namespace, call.row.namespaced()) {
        (Some(namespace), _) => namespace.clone(),
        (None, false) => "".into(),
        (None, true) => return None,
    };
    let store = &call.server.store;
    let revision = store.revision();
    let object = store.get(&object::key(call.row, &namespace, name));
    (store.revision() == revision).then(|| Found {
        revision,
        items: object.into_iter().filter(|object| selector.matches(object)).collect(),
        continue_token: None,
        remaining: None,
    })
}

/// Walks a range at one revision until `limit` objects match.
fn walk(call: &Call<'_>, range: &Range, selector: &Selector, mut after: Option<Key>, limit: usize, mut at: Option<u64>) -> Result<Found, Expired> {
    let store = &call.server.store;
    let page = |after: Option<&Key>, count: usize, at: Option<u64>| -> Result<Page, Expired> {
        match at {
            Some(revision) => store.list_at(range, after, count, revision),
            None => Ok(store.list(range, after, count)),
        }
    };
    if selector.is_empty() || limit == 0 {
        let mut page = page(after.as_ref(), limit, at)?;
        page.items.retain(|object| selector.matches(object));
        let more = limit > 0 && page.remaining > 0;
        let continue_token = if more { page.items.last().map(|last| Continue::after(page.revision, last)) } else { None };
        let remaining = more.then_some(page.remaining);
        return Ok(Found { revision: page.revision, items: page.items, continue_token, remaining });
    }
    let mut items: Vec<Arc<Object>> = Vec::new();
    loop {
        let page = page(after.as_ref(), STRIDE, at)?;
        at = Some(page.revision);
        let last = page.items.last().map(|object| object.key.clone());
        for object in page.items {
            if selector.matches(&object) {
                if items.len() == limit {
                    let continue_token = items.last().map(|last| Continue::after(page.revision, last));
                    return Ok(Found { revision: page.revision, items, continue_token, remaining: None });
                }
                items.push(object);
            }
        }
        if page.remaining == 0 || last.is_none() {
            return Ok(Found { revision: page.revision, items, continue_token: None, remaining: None });
        }
        after = last;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_went() {
        let token = Continue::decode(&Continue::encode(7, "a", "b")).unwrap();
        assert_eq!((token.rv, token.ns.as_str(), token.name.as_str()), (7, "a", "b"));
        for bad in ["", "x", "eyJ2IjoiMSJ9", "%%%"] {
            assert!(Continue::decode(bad).is_err(), "{bad}");
        }
    }
}
