//! Questions about identities, which are answered and not stored: who am I, may I, whose token is this; and tokens themselves.

use crate::authorize;
use crate::decode::{self, MediaType};
use crate::handler::{Answer, Call, json};
use crate::identity::Identity;
use crate::object;
use crate::render;
use crate::route::Path;
use crate::server::Inner;
use crate::status::Failure;
use crate::tokens::{Bound, Claims, Named};
use crate::verbs::decode_as;
use crate::view::rfc3339;
use crate::write;
use http::request::Parts;
use mainstay_api::Errors;
use mainstay_store::Key;
use serde_json::{Map, Value, json};

/// Seconds that a token lives when nothing else is asked for, and the least and most that may be.
const LIFETIME_SECONDS: (i64, i64, i64) = (3_600, 600, 1 << 32);

/// Answers a review: body in, the same with a status out.
pub(crate) type Review = fn(&Inner, &Identity, &Parts, &[u8]) -> Answer;

/// A resource that only ever answers POST.
pub(crate) struct ReviewRow {
    pub(crate) group: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    review: Review,
}

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// All reviews, for discovery; all `v1`, all cluster-scoped.
pub(crate) const REVIEWS: [ReviewRow; 5] = [
    ReviewRow { group: AUTHENTICATION, kind: "SelfSubjectReview", plural: "selfsubjectreviews", singular: "selfsubjectreview", review: who_am_i },
    ReviewRow { group: AUTHENTICATION, kind: "TokenReview", plural: "tokenreviews", singular: "tokenreview", review: whose_token },
    ReviewRow { group: AUTHORIZATION, kind: "SelfSubjectAccessReview", plural: "selfsubjectaccessreviews", singular: "selfsubjectaccessreview", review: may_i },
    ReviewRow { group: AUTHORIZATION, kind: "SelfSubjectRulesReview", plural: "selfsubjectrulesreviews", singular: "selfsubjectrulesreview", review: my_rules },
    ReviewRow { group: AUTHORIZATION, kind: "SubjectAccessReview", plural: "subjectaccessreviews", singular: "subjectaccessreview", review: may_they },
];

/// The review of a path.
pub(crate) fn find(path: &Path<'_>) -> Option<Review> {
    let plain = path.version == "v1" && path.name.is_none() && path.namespace.is_none();
    let row = REVIEWS.iter().find(|row| row.group == path.group && row.plural == path.resource)?;
    plain.then_some(row.review)
}

fn read(parts: &Parts, body: &[u8], api_version: &str, kind: &str) -> Result<Value, Failure> {
    let mut decoded = decode::decode(body, MediaType::of(&parts.headers)?)
        .map_err(|why| Failure::bad_request(format!("the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {why}")))?;
    write::check_kind(&mut decoded.value, api_version, kind, "v1", body)?;
    if !decoded.value["metadata"].is_object() {
        decoded.value["metadata"] = json!({});
    }
    Ok(decoded.value)
}

fn answer(mut review: Value, status: Value) -> Answer {
    object::metadata_mut(&mut review).insert("creationTimestamp".into(), Value::Null);
    review["status"] = status;
    Ok(json(201, review.to_string()))
}

fn user_info(identity: &Identity) -> Value {
    let mut info = json!({"username": &*identity.user, "groups": identity.groups.iter().map(|group| &**group).collect::<Vec<_>>()});
    if let Some(uid) = &identity.uid {
        info["uid"] = (&**uid).into();
    }
    if !identity.extra.is_empty() {
        let extra: Map<String, Value> =
            identity.extra.iter().map(|(key, values)| (key.to_string(), values.iter().map(|value| Value::from(&**value)).collect())).collect();
        info["extra"] = Value::Object(extra);
    }
    info
}

/// `kubectl auth whoami`.
fn who_am_i(_: &Inner, identity: &Identity, parts: &Parts, body: &[u8]) -> Answer {
    let review = read(parts, body, "authentication.k8s.io/v1", "SelfSubjectReview")?;
    answer(review, json!({"userInfo": user_info(identity)}))
}

fn whose_token(server: &Inner, _: &Identity, parts: &Parts, body: &[u8]) -> Answer {
    let review = read(parts, body, "authentication.k8s.io/v1", "TokenReview")?;
    let tokens = server.tokens().map_err(Failure::internal)?;
    let text = |pointer: &str| review.pointer(pointer).and_then(Value::as_str).unwrap_or("");
    let mut audiences: Vec<&str> = review.pointer("/spec/audiences").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    if audiences.is_empty() {
        audiences.push(tokens.issuer());
    }
    let status = match tokens.authenticate(text("/spec/token"), &audiences, &server.store) {
        Some((identity, claims)) => {
            let accepted: Vec<&str> = audiences.into_iter().filter(|audience| claims.aud.iter().any(|aud| aud == audience)).collect();
            json!({"authenticated": true, "user": user_info(&identity), "audiences": accepted})
        }
        None => json!({"authenticated": false, "error": "invalid bearer token", "user": {}}),
    };
    let mut review = review;
    // The credential is not repeated in the answer of a review that failed or not.
    if let Some(spec) = review.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("token");
    }
    answer(review, status)
}

fn access(review: &Value, identity: &Identity) -> Result<Value, Failure> {
    let attributes = |pointer: &str, field: &str| review.pointer(pointer).and_then(|a| a.get(field)).and_then(Value::as_str).unwrap_or("").to_owned();
    let (resource, path) = ("/spec/resourceAttributes", "/spec/nonResourceAttributes");
    let allowed = match (review.pointer(resource).is_some(), review.pointer(path).is_some()) {
        (true, false) => authorize::resource_allowed(identity, &attributes(resource, "verb"), &attributes(resource, "group"), &attributes(resource, "resource")),
        (false, true) => authorize::path_allowed(identity, &attributes(path, "verb"), &attributes(path, "path")),
        _ => {
            let mut errors = Errors::default();
            errors.invalid("spec.resourceAttributes", &Value::Null, "exactly one of nonResourceAttributes or resourceAttributes must be specified");
            return Err(Failure::invalid(AUTHORIZATION, review["kind"].as_str().unwrap_or(""), "", &errors));
        }
    };
    Ok(match allowed {
        true => json!({"allowed": true}),
        false => json!({"allowed": false, "reason": "only members of system:masters may do this until RBAC is there"}),
    })
}

fn may_i(_: &Inner, identity: &Identity, parts: &Parts, body: &[u8]) -> Answer {
    let review = read(parts, body, "authorization.k8s.io/v1", "SelfSubjectAccessReview")?;
    let status = access(&review, identity)?;
    answer(review, status)
}

fn may_they(_: &Inner, _: &Identity, parts: &Parts, body: &[u8]) -> Answer {
    let review = read(parts, body, "authorization.k8s.io/v1", "SubjectAccessReview")?;
    let groups = review.pointer("/spec/groups").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect();
    let user = review.pointer("/spec/user").and_then(Value::as_str).unwrap_or("").into();
    let status = access(&review, &Identity { user, groups, uid: None, extra: Vec::new() })?;
    answer(review, status)
}

fn my_rules(_: &Inner, identity: &Identity, parts: &Parts, body: &[u8]) -> Answer {
    let review = read(parts, body, "authorization.k8s.io/v1", "SelfSubjectRulesReview")?;
    let (resources, paths) = if identity.is_in("system:masters") {
        (json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]), json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]))
    } else {
        let own = |group: &str| REVIEWS.iter().filter(|row| row.group == group && row.plural.starts_with("self")).map(|row| row.plural).collect::<Vec<_>>();
        let rule = |group: &str| json!({"verbs": ["create"], "apiGroups": [group], "resources": own(group)});
        let urls = ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version", "/version/"];
        (json!([rule(AUTHENTICATION), rule(AUTHORIZATION)]), json!([{"verbs": ["get"], "nonResourceURLs": urls}]))
    };
    answer(review, json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false}))
}

/// `POST serviceaccounts/NAME/token`: a TokenRequest, answered with the token.
pub(crate) fn create_token(call: &Call<'_>, body: &[u8]) -> Answer {
    let mut request = decode_as(call, "authentication.k8s.io/v1", "TokenRequest", "v1", body)?;
    let tokens = call.server.tokens().map_err(Failure::internal)?;
    let namespace = call.namespace.unwrap_or("");
    let account = call.server.store.get(&object::key(call.row, namespace, call.name)).ok_or_else(|| Failure::not_found(call.row.kind, call.name))?;
    let spec = &request["spec"];
    let mut audiences: Vec<String> = spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences.push(tokens.issuer().to_owned());
    }
    let lifetime = lifetime(spec["expirationSeconds"].as_i64())?;
    let (pod, secret) = bound_object(call, &spec["boundObjectRef"])?;
    let now = jiff::Timestamp::now();
    let (iat, exp) = (now.as_second(), now.as_second() + lifetime);
    let node = pod.as_ref().and_then(|(_, node)| node.clone());
    let claims = Claims {
        aud: audiences.clone(),
        exp,
        iat,
        iss: tokens.issuer().to_owned(),
        jti: uuid::Uuid::new_v4().to_string(),
        bound: Bound {
            namespace: namespace.to_owned(),
            node,
            pod: pod.map(|(pod, _)| pod),
            secret,
            serviceaccount: Named { name: call.name.to_owned(), uid: account.meta.uid.to_string() },
        },
        nbf: iat,
        sub: format!("system:serviceaccount:{namespace}:{}", call.name),
    };
    let token = tokens.sign(&claims).map_err(Failure::internal)?;
    let expires = jiff::Timestamp::from_second(exp).map_err(Failure::internal)?;
    request["metadata"] = json!({"name": call.name, "namespace": namespace, "creationTimestamp": rfc3339(now)});
    request["spec"]["audiences"] = audiences.into();
    request["spec"]["expirationSeconds"] = lifetime.into();
    request["status"] = json!({"token": token, "expirationTimestamp": rfc3339(expires)});
    render::plain(call, 201, &request, &[])
}

fn lifetime(asked: Option<i64>) -> Result<i64, Failure> {
    let (default, least, most) = LIFETIME_SECONDS;
    let mut errors = Errors::default();
    match asked {
        None => return Ok(default),
        Some(seconds) if seconds < least => errors.invalid("spec.expirationSeconds", &seconds.into(), "may not specify a duration less than 10 minutes"),
        Some(seconds) if seconds > most => errors.invalid("spec.expirationSeconds", &seconds.into(), "may not specify a duration larger than 2^32 seconds"),
        Some(seconds) => return Ok(seconds),
    }
    Err(Failure::invalid("authentication.k8s.io", "TokenRequest", "", &errors))
}

type Pod = (Named, Option<Named>);

/// The pod (with its node) or secret that the token is to live and die with.
fn bound_object(call: &Call<'_>, reference: &Value) -> Result<(Option<Pod>, Option<Named>), Failure> {
    if !reference.is_object() {
        return Ok((None, None));
    }
    let text = |field: &str| reference[field].as_str().unwrap_or("");
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let resource = match (text("apiVersion"), kind) {
        ("v1" | "", "Pod") => "pods",
        ("v1" | "", "Secret") => "secrets",
        (api_version, _) => return Err(Failure::bad_request(format!("cannot bind token to object of type {api_version}, Kind={kind}"))),
    };
    let get = |resource: &str, namespace: &str, name: &str| call.server.store.get(&Key { resource: resource.into(), namespace: namespace.into(), name: name.into() });
    let namespace = call.namespace.unwrap_or("");
    let object = get(resource, namespace, name).ok_or_else(|| Failure::new(404, "NotFound", format!("{resource} {name:?} not found")).about("", resource, name))?;
    if !uid.is_empty() && uid != &*object.meta.uid {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Failure::new(409, "Conflict", format!("Operation cannot be fulfilled on {resource} {name:?}: {why}")).about("", resource, name));
    }
    let named = Named { name: name.to_owned(), uid: object.meta.uid.to_string() };
    if resource == "secrets" {
        return Ok((None, Some(named)));
    }
    let value: Value = serde_json::from_slice(&object.bytes).map_err(Failure::internal)?;
    if value.pointer("/spec/serviceAccountName").and_then(Value::as_str) != Some(call.name) {
        return Err(Failure::bad_request(format!("cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.", call.name)));
    }
    let node = value.pointer("/spec/nodeName").and_then(Value::as_str).filter(|node| !node.is_empty());
    let node = node.and_then(|name| get("nodes", "", name)).map(|node| Named { name: node.key.name.to_string(), uid: node.meta.uid.to_string() });
    Ok((Some((named, node)), None))
}
