//! What is served: aggregated discovery (v2, v2beta1) and the legacy documents, all made once from the table of kinds.

use crate::handler::{Answer, json};
use crate::reviews::REVIEWS;
use crate::server::Inner;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use mainstay_api::{Kind, Scope, kinds};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::OnceLock;

/// Streams below pods, which no row names because the server has its own code for them: (name, verbs).
const POD_STREAMS: [(&str, &[&str]); 4] =
    [("attach", &["create", "get"]), ("exec", &["create", "get"]), ("log", &["get"]), ("portforward", &["create", "get"])];

/// Documents by path and version of aggregation, made when first asked for.
#[derive(Default)]
pub(crate) struct Discovery {
    documents: OnceLock<HashMap<(String, Aggregation), Document>>,
}

/// What a client that sends an Accept header can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Aggregation {
    None,
    V2Beta1,
    V2,
}

struct Document {
    bytes: bytes::Bytes,
    etag: String,
}

/// `None`: not a path of this file.
pub(crate) fn answer(server: &Inner, parts: &Parts) -> Option<Answer> {
    let path = parts.uri.path().trim_end_matches('/');
    let documents = server.discovery.documents.get_or_init(make);
    let aggregation = if matches!(path, "/api" | "/apis") { aggregation(&parts.headers) } else { Aggregation::None };
    let document = documents.get(&(path.to_owned(), aggregation))?;
    Some(Ok(respond(document, aggregation, matches!(path, "/api" | "/apis"), &parts.headers)))
}

fn respond(document: &Document, aggregation: Aggregation, varies: bool, request: &HeaderMap) -> Response<crate::Body> {
    let known = request.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == document.etag.as_bytes());
    let mut response = match known {
        true => json(304, ""),
        false => json(200, document.bytes.clone()),
    };
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(aggregation.content_type()));
    if aggregation != Aggregation::None
        && let Ok(etag) = HeaderValue::from_str(&document.etag)
    {
        headers.insert(header::ETAG, etag);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    }
    if varies {
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    }
    response
}

impl Aggregation {
    fn content_type(self) -> &'static str {
        match self {
            Self::None => "application/json",
            Self::V2Beta1 => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
            Self::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::V2Beta1 => "apidiscovery.k8s.io/v2beta1",
            _ => "apidiscovery.k8s.io/v2",
        }
    }
}

/// The first offer that is understood.
fn aggregation(headers: &HeaderMap) -> Aggregation {
    let offers = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    for offer in offers {
        let mut parts = offer.split(';').map(str::trim);
        if !matches!(parts.next(), Some("application/json" | "*/*" | "application/*")) {
            continue;
        }
        let parameters: Vec<&str> = parts.collect();
        let has = |parameter: &str| parameters.contains(&parameter);
        match has("as=APIGroupDiscoveryList") && has("g=apidiscovery.k8s.io") {
            true if has("v=v2") => return Aggregation::V2,
            true if has("v=v2beta1") => return Aggregation::V2Beta1,
            true => {}
            false => return Aggregation::None,
        }
    }
    Aggregation::None
}

fn make() -> HashMap<(String, Aggregation), Document> {
    let mut documents = HashMap::new();
    let mut add = |path: &str, aggregation: Aggregation, value: Value| {
        let bytes = value.to_string().into_bytes();
        let etag = format!("\"{}\"", Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02X}")).collect::<String>());
        documents.insert((path.to_owned(), aggregation), Document { bytes: bytes.into(), etag });
    };
    for aggregation in [Aggregation::V2, Aggregation::V2Beta1] {
        let list = |items: Vec<Value>| json!({"kind": "APIGroupDiscoveryList", "apiVersion": aggregation.api_version(), "metadata": {}, "items": items});
        add("/api", aggregation, list(vec![aggregated("")]));
        add("/apis", aggregation, list(groups().into_iter().map(aggregated).collect()));
    }
    let addresses = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}]);
    add("/api", Aggregation::None, json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}));
    let list: Vec<Value> = groups().into_iter().map(|group| legacy_group(group, false)).collect();
    add("/apis", Aggregation::None, json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list}));
    add("/api/v1", Aggregation::None, legacy_resources("", "v1"));
    for group in groups() {
        add(&format!("/apis/{group}"), Aggregation::None, legacy_group(group, true));
        for version in versions(group) {
            add(&format!("/apis/{group}/{version}"), Aggregation::None, legacy_resources(group, version));
        }
    }
    let mut paths: Vec<String> = documents.keys().map(|(path, _)| path.clone()).collect();
    paths.extend(["/healthz", "/livez", "/metrics", "/openapi/v3", "/readyz", "/version"].map(str::to_owned));
    paths.sort();
    paths.dedup();
    let root = json!({"paths": paths}).to_string().into_bytes();
    documents.insert((String::new(), Aggregation::None), Document { bytes: root.into(), etag: String::new() });
    documents
}

/// All groups but the core one, in the order of the table.
fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&str> = Vec::new();
    for group in kinds::all().iter().map(|kind| kind.group).chain(REVIEWS.iter().map(|row| row.group)) {
        if !group.is_empty() && !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

/// The versions of a group, preferred first.
fn versions(group: &str) -> Vec<&'static str> {
    let mut versions: Vec<&str> = Vec::new();
    let reviews = REVIEWS.iter().filter(|row| row.group == group).map(|_| "v1");
    for version in kinds::all().iter().filter(|kind| kind.group == group).map(|kind| kind.version).chain(reviews) {
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    versions
}

fn kinds_of<'a>(group: &'a str, version: &'a str) -> impl Iterator<Item = &'static Kind> + 'a {
    kinds::all().iter().copied().filter(move |kind| kind.group == group && kind.version == version)
}

/// A subresource, for both forms of discovery.
struct Sub {
    name: &'static str,
    /// Group, version, kind of the body.
    body: (&'static str, &'static str, &'static str),
    verbs: Vec<&'static str>,
}

/// The subresources of a row, by name.
fn subresources(kind: &'static Kind) -> Vec<Sub> {
    let own = (kind.group, kind.version, kind.kind);
    let mut all: Vec<Sub> = kind.subresources.iter().map(|sub| Sub { name: sub.name, body: sub.body, verbs: sub.verbs.to_vec() }).collect();
    if kind.status {
        all.push(Sub { name: "status", body: own, verbs: vec!["get", "patch", "update"] });
    }
    if kind.scale.is_some() {
        all.push(Sub { name: "scale", body: ("autoscaling", "v1", "Scale"), verbs: vec!["get", "patch", "update"] });
    }
    if kind.storage == "namespaces" {
        all.push(Sub { name: "finalize", body: own, verbs: vec!["update"] });
    }
    if let Some(options) = match kind.storage {
        "pods" => Some("PodProxyOptions"),
        "services" => Some("ServiceProxyOptions"),
        _ => None,
    } {
        all.push(Sub { name: "proxy", body: ("", "v1", options), verbs: vec!["create", "delete", "get", "patch", "update"] });
    }
    if kind.storage == "pods" {
        all.extend(POD_STREAMS.iter().map(|(name, verbs)| Sub { name, body: ("", "v1", if *name == "log" { "Pod" } else { stream_options(name) }), verbs: verbs.to_vec() }));
    }
    all.sort_by_key(|sub| sub.name);
    all.dedup_by_key(|sub| sub.name);
    all
}

fn stream_options(name: &str) -> &'static str {
    match name {
        "exec" => "PodExecOptions",
        "attach" => "PodAttachOptions",
        _ => "PodPortForwardOptions",
    }
}

fn aggregated(group: &'static str) -> Value {
    let response_kind = |(group, version, kind): (&str, &str, &str)| json!({"group": group, "version": version, "kind": kind});
    let versions: Vec<Value> = versions(group)
        .into_iter()
        .map(|version| {
            let mut resources: Vec<Value> = kinds_of(group, version)
                .map(|kind| {
                    let mut resource = json!({
                        "resource": kind.plural, "responseKind": response_kind((kind.group, kind.version, kind.kind)),
                        "scope": scope(kind), "singularResource": kind.singular, "verbs": kind.verbs,
                    });
                    let subs: Vec<Value> = subresources(kind)
                        .into_iter()
                        .map(|sub| json!({"subresource": sub.name, "responseKind": response_kind(sub.body), "verbs": sub.verbs}))
                        .collect();
                    for (field, list) in [("shortNames", json!(kind.short)), ("categories", json!(kind.categories)), ("subresources", Value::Array(subs))] {
                        if list.as_array().is_some_and(|items| !items.is_empty()) {
                            resource[field] = list;
                        }
                    }
                    resource
                })
                .collect();
            resources.extend(REVIEWS.iter().filter(|row| row.group == group && !group.is_empty()).map(|row| {
                json!({"resource": row.plural, "responseKind": response_kind((row.group, "v1", row.kind)), "scope": "Cluster",
                       "singularResource": row.singular, "verbs": ["create"]})
            }));
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    let metadata = if group.is_empty() { json!({"creationTimestamp": null}) } else { json!({"name": group, "creationTimestamp": null}) };
    json!({"metadata": metadata, "versions": versions})
}

fn scope(kind: &Kind) -> &'static str {
    match kind.scope {
        Scope::Namespaced => "Namespaced",
        Scope::Cluster => "Cluster",
    }
}

fn legacy_group(group: &'static str, alone: bool) -> Value {
    let versions: Vec<Value> = versions(group).into_iter().map(|version| json!({"groupVersion": format!("{group}/{version}"), "version": version})).collect();
    let mut value = json!({"name": group, "preferredVersion": versions.first(), "versions": versions});
    if alone {
        value["kind"] = "APIGroup".into();
        value["apiVersion"] = "v1".into();
    }
    value
}

fn legacy_resources(group: &'static str, version: &'static str) -> Value {
    let mut resources = Vec::new();
    for kind in kinds_of(group, version) {
        let namespaced = kind.scope == Scope::Namespaced;
        let mut resource = json!({"name": kind.plural, "singularName": kind.singular, "namespaced": namespaced, "kind": kind.kind, "verbs": kind.verbs});
        for (field, list) in [("shortNames", kind.short), ("categories", kind.categories)] {
            if !list.is_empty() {
                resource[field] = json!(list);
            }
        }
        resources.push(resource);
        for sub in subresources(kind) {
            let (sub_group, sub_version, sub_kind) = sub.body;
            let mut resource = json!({"name": format!("{}/{}", kind.plural, sub.name), "singularName": "", "namespaced": namespaced, "kind": sub_kind, "verbs": sub.verbs});
            if (sub_group, sub_version) != (group, version) {
                resource["group"] = sub_group.into();
                resource["version"] = sub_version.into();
            }
            resources.push(resource);
        }
    }
    resources.extend(REVIEWS.iter().filter(|row| row.group == group && !group.is_empty()).map(
        |row| json!({"name": row.plural, "singularName": row.singular, "namespaced": false, "kind": row.kind, "verbs": ["create"]}),
    ));
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources})
}

/// Names of the subresources of a row, for OpenAPI.
pub(crate) fn subresource_names(kind: &'static Kind) -> Vec<&'static str> {
    subresources(kind).into_iter().map(|sub| sub.name).collect()
}
