//! From a request to the verb that answers it.

use crate::body::{self, Body, Incoming};
use crate::identity::Identity;
use crate::negotiate::{self, Accept, Form};
use crate::route::{Path, Query};
use crate::rows::Row;
use crate::server::Inner;
use crate::status::Failure;
use crate::{absent, authorize, discovery, health, http_proxy, openapi, proxy, render, reviews, verbs};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use hyper::upgrade::OnUpgrade;
use std::sync::Arc;

/// An answer, or why there is none.
pub(crate) type Answer = Result<Response<Body>, Failure>;

/// Who sent a request.
pub(crate) struct Caller {
    /// Authenticated.
    pub(crate) identity: Identity,
    /// In process: a component of ours, which is not turned away for load.
    pub(crate) local: bool,
}

/// A request for a resource, understood.
pub(crate) struct Call<'a> {
    pub(crate) server: &'a Arc<Inner>,
    pub(crate) row: &'a Arc<Row>,
    /// `None`: cluster-scoped, or all namespaces.
    pub(crate) namespace: Option<&'a str>,
    /// Empty: the collection.
    pub(crate) name: &'a str,
    pub(crate) query: &'a Query<'a>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) accept: Accept,
}

impl Inner {
    /// Answers any request.
    pub(crate) async fn handle(self: &Arc<Self>, request: Request<Incoming>, caller: Caller) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        let path = parts.uri.path();
        let resource = http_proxy::split(path).map_or(path, |(resource, _)| resource);
        let (verb, answer) = match Path::parse(resource) {
            Some(path) => {
                let query = Query::parse(parts.uri.query());
                let verb = verb(&parts.method, &path, &query);
                (verb, self.resource(&parts, &path, &query, verb, &caller, body, upgrade).await)
            }
            None => ("get", self.other(&parts, &caller).await),
        };
        let response = answer.unwrap_or_else(Failure::into_response);
        self.metrics.count(verb, response.status().as_u16());
        response
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one request, taken apart once")]
    async fn resource(
        self: &Arc<Self>,
        parts: &Parts,
        path: &Path<'_>,
        query: &Query<'_>,
        verb: &'static str,
        caller: &Caller,
        body: Incoming,
        upgrade: Option<OnUpgrade>,
    ) -> Answer {
        authorize::check_resource(&caller.identity, if verb == "connect" { "create" } else { verb }, path)?;
        let long = matches!(verb, "watch" | "connect") || matches!(path.subresource, Some("log" | "proxy"));
        let _permit = match long || caller.local {
            true => None,
            false => Some(self.inflight.try_acquire().map_err(|_| Failure::too_many_requests())?),
        };
        let Some(row) = self.rows.find(path.group, path.version, path.resource) else {
            if verb == "list"
                && let Some(answer) = absent::list(self, path)
            {
                return answer;
            }
            let review = reviews::find(path).ok_or_else(Failure::no_such_path)?;
            // What is not stored has neither rows nor metadata to show.
            negotiate::plain(&parts.headers)?;
            return match verb {
                "create" => review(self, &caller.identity, parts, &self.read_body(body).await?),
                _ => Err(Failure::method_not_allowed()),
            };
        };
        let answer = self.of_row(row, parts, path, query, verb, body, upgrade).await;
        // Upstream adds it before the verb is looked at, so that refusals carry it too (apiserver pkg/endpoints/installer.go).
        match row.kind.deprecation {
            Some(text) => Ok(render::warn(answer.unwrap_or_else(Failure::into_response), &[text.to_owned()])),
            None => answer,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one request, taken apart once")]
    async fn of_row(
        self: &Arc<Self>,
        row: &Arc<Row>,
        parts: &Parts,
        path: &Path<'_>,
        query: &Query<'_>,
        verb: &'static str,
        body: Incoming,
        upgrade: Option<OnUpgrade>,
    ) -> Answer {
        check_scope(row, path, verb)?;
        let call = Call {
            server: self,
            row,
            namespace: if row.namespaced() { path.namespace.as_deref() } else { None },
            name: path.name.as_deref().unwrap_or(""),
            query,
            headers: &parts.headers,
            accept: Accept { form: Form::Plain, yaml: false },
        };
        if let Some(subresource) = path.subresource {
            if subresource == "proxy" && matches!(row.kind.storage, "pods" | "services") {
                return http_proxy::answer(&call, parts, body, upgrade).await;
            }
            if let Some(stream) = proxy::Stream::of(row, subresource) {
                return stream.answer(&call, parts, body, upgrade).await;
            }
            let call = Call { accept: negotiate::accept(call.headers)?, ..call };
            return verbs::subresource(&call, subresource, verb, self.read(verb, body).await?).await;
        }
        if !row.allows(verb) {
            return Err(Failure::method_not_allowed());
        }
        let call = Call { accept: negotiate::accept(call.headers)?, ..call };
        let body = self.read(verb, body).await?;
        match verb {
            "get" => verbs::get(&call),
            "list" => verbs::list(&call).await,
            "watch" => verbs::watch(&call).await,
            "create" => verbs::create(&call, &body).await,
            "update" => verbs::update(&call, &body).await,
            "patch" => verbs::patch(&call, &body).await,
            "delete" => verbs::delete(&call, &body).await,
            "deletecollection" => verbs::delete_collection(&call, &body).await,
            _ => Err(Failure::method_not_allowed()),
        }
    }

    /// The body, of verbs that have one.
    async fn read(&self, verb: &str, body: Incoming) -> Result<Bytes, Failure> {
        match verb {
            "get" | "list" | "watch" => Ok(Bytes::new()),
            _ => self.read_body(body).await,
        }
    }

    /// The whole body, of a client that takes neither too much room nor too much time.
    async fn read_body(&self, body: Incoming) -> Result<Bytes, Failure> {
        let reading = body::read(body, self.config.body_limit_bytes);
        tokio::time::timeout(self.limits.body, reading).await.unwrap_or_else(|_| Err(Failure::timeout()))
    }

    /// What is no resource: discovery, health, version.
    async fn other(self: &Arc<Self>, parts: &Parts, caller: &Caller) -> Answer {
        let path = parts.uri.path();
        let verb = match parts.method {
            Method::GET | Method::HEAD => "get",
            Method::POST => "post",
            Method::PUT => "put",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "options",
        };
        authorize::check_path(&caller.identity, verb, path)?;
        if let Some(answer) = openapi::answer(self, parts).await {
            return answer;
        }
        if verb != "get" {
            let known = discovery::answer(self, parts).is_some() || health::answer(self, parts).is_some();
            return Err(if known { Failure::method_not_allowed() } else { Failure::no_such_path() });
        }
        discovery::answer(self, parts).or_else(|| health::answer(self, parts)).unwrap_or_else(|| Err(Failure::no_such_path()))
    }
}

/// Whether a path with, or without, a namespace leads to objects of this row.
fn check_scope(row: &Row, path: &Path<'_>, verb: &str) -> Result<(), Failure> {
    match (row.namespaced(), &path.namespace, &path.name) {
        (false, Some(_), _) if path.resource != "namespaces" => Err(Failure::no_such_path()),
        // Only the whole collection is reached without a namespace.
        (true, None, None) if !matches!(verb, "list" | "watch") => Err(Failure::method_not_allowed()),
        (true, None, Some(_)) => Err(Failure::no_such_path()),
        _ => Ok(()),
    }
}

/// The verb of a request for a resource, in RBAC's words; `connect` for streams.
fn verb(method: &Method, path: &Path<'_>, query: &Query<'_>) -> &'static str {
    let named = path.name.is_some();
    if path.resource == "pods" && matches!(path.subresource, Some("exec" | "attach" | "portforward")) {
        return "connect";
    }
    match *method {
        Method::GET if named => "get",
        Method::GET if path.watch || query.flag("watch") => "watch",
        Method::GET => "list",
        Method::POST if !named || path.subresource.is_some() => "create",
        Method::PUT if named => "update",
        Method::PATCH if named => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => "other",
    }
}

/// A JSON answer.
pub(crate) fn json(code: u16, bytes: impl Into<Bytes>) -> Response<Body> {
    typed(code, "application/json", bytes)
}

/// An answer of any type.
pub(crate) fn typed(code: u16, media_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(bytes));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
