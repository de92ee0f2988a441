//! OpenAPI v3: the index that kubectl reads first, and one document a group and version.
//!
//! Documents are made when the index is first asked for and kept compressed: a tenth of their size.

use crate::discovery::subresource_names;
use crate::handler::{Answer, json};
use crate::server::Inner;
use crate::status::Failure;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use mainstay_api::{Scope, kinds};
use mainstay_schema::{GroupVersion, Operation, document};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use tokio::sync::OnceCell;

const ROOT: &str = "/openapi/v3";

/// All documents.
#[derive(Default)]
pub(crate) struct OpenApi {
    documents: OnceCell<Arc<Documents>>,
}

struct Documents {
    index: Bytes,
    index_etag: String,
    /// By `api/v1`, `apis/apps/v1`.
    by_path: BTreeMap<String, Document>,
}

struct Document {
    compressed: Bytes,
    hash: String,
}

/// `None`: not a path of this file.
pub(crate) async fn answer(server: &Inner, parts: &Parts) -> Option<Answer> {
    let path = parts.uri.path();
    if path == "/openapi/v2" {
        return Some(Ok(version_2(parts)));
    }
    let rest = path.strip_prefix(ROOT)?;
    if parts.method != Method::GET {
        return Some(Err(Failure::method_not_allowed()));
    }
    let documents = match documents(server).await {
        Ok(documents) => documents,
        Err(failure) => return Some(Err(failure)),
    };
    if rest.trim_end_matches('/').is_empty() {
        return Some(Ok(respond(parts, documents.index.clone(), &documents.index_etag, false)));
    }
    let document = documents.by_path.get(rest.trim_matches('/'))?;
    Some(serve(parts, document))
}

async fn documents(server: &Inner) -> Result<Arc<Documents>, Failure> {
    let made = server.openapi.documents.get_or_try_init(|| async { tokio::task::spawn_blocking(make).await.map_err(Failure::internal)?.map(Arc::new) }).await?;
    Ok(made.clone())
}

fn make() -> Result<Documents, Failure> {
    let mut by_path = BTreeMap::new();
    let mut group_versions: Vec<(&str, &str)> = kinds::all().iter().map(|kind| (kind.group, kind.version)).collect();
    group_versions.sort_unstable();
    group_versions.dedup();
    for (group, version) in group_versions {
        let rows: Vec<_> = kinds::all().iter().copied().filter(|kind| kind.group == group && kind.version == version).collect();
        let names: Vec<Vec<&'static str>> = rows.iter().map(|kind| subresource_names(kind)).collect();
        let mut operations = Vec::new();
        for (kind, names) in rows.iter().zip(names) {
            // The table of operations wants names that live as long as the program; they do, each of them is a literal.
            let subresources: &'static [&'static str] = Vec::leak(names);
            operations.push(Operation { kind: kind.kind, plural: kind.plural, namespaced: kind.scope == Scope::Namespaced, subresources });
        }
        let bytes = document(&GroupVersion { group, version, kinds: &operations });
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02X}")).collect();
        let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), Compression::default());
        encoder.write_all(&bytes).map_err(Failure::internal)?;
        let compressed = encoder.finish().map_err(Failure::internal)?.into();
        let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
        by_path.insert(path, Document { compressed, hash });
    }
    let paths: Map<String, Value> = by_path
        .iter()
        .map(|(path, document)| (path.clone(), json!({"serverRelativeURL": format!("{ROOT}/{path}?hash={}", document.hash)})))
        .collect();
    let index = json!({"paths": paths}).to_string().into_bytes();
    let index_etag = format!("\"{}\"", Sha256::digest(&index).iter().map(|byte| format!("{byte:02X}")).collect::<String>());
    Ok(Documents { index: index.into(), index_etag, by_path })
}

fn serve(parts: &Parts, document: &Document) -> Answer {
    let etag = format!("\"{}\"", document.hash);
    let zipped = parts.headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains("gzip"));
    let bytes = if zipped {
        document.compressed.clone()
    } else {
        let mut plain = Vec::with_capacity(document.compressed.len() * 10);
        GzDecoder::new(&document.compressed[..]).read_to_end(&mut plain).map_err(Failure::internal)?;
        plain.into()
    };
    let mut response = respond(parts, bytes, &etag, zipped);
    // A URL that names the hash of what it stands for never changes its meaning.
    if parts.uri.query().is_some_and(|query| query.contains(&format!("hash={}", document.hash))) {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    Ok(response)
}

/// kubectl asks version 2 only about a kind that version 3 does not have. An empty document says "not here", so that it goes on to the
/// words its user needs: `no matches for kind`. Protobuf (gnostic `openapi.v2.Document`: 1 swagger, 2 info{1 title, 2 version}) or JSON, as asked.
fn version_2(parts: &Parts) -> Response<crate::Body> {
    const PROTOBUF: &[u8] = b"\x0a\x032.0\x12\x13\x0a\x0aKubernetes\x12\x05v1.36";
    const JSON: &[u8] = br#"{"swagger":"2.0","info":{"title":"Kubernetes","version":"v1.36"},"paths":{}}"#;
    let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !accept.contains("protobuf") {
        return json(200, Bytes::from_static(JSON));
    }
    let mut response = json(200, Bytes::from_static(PROTOBUF));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/com.github.proto-openapi.spec.v2.v1.0+protobuf"));
    response
}

fn respond(parts: &Parts, bytes: Bytes, etag: &str, zipped: bool) -> Response<crate::Body> {
    let known = parts.headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == etag.as_bytes());
    let mut response = json(200, if known { Bytes::new() } else { bytes });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    if zipped && !known {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}
