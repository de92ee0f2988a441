//! What hangs below an object: `status`, `scale`, `finalize`, `token`, `eviction`, and the hooks of rows (`binding`).

use super::{delete, get, patch, scale, update};
use crate::decode::{self, MediaType};
use crate::handler::{Answer, Call};
use crate::object;
use crate::render;
use crate::reviews;
use crate::status::{self, Failure};
use crate::write::{self, Options, Outcome, Part};
use crate::namespaces;
use bytes::Bytes;
use mainstay_api::Refusal;
use serde_json::Value;

/// Answers a request below an object.
pub(crate) async fn subresource(call: &Call<'_>, name: &str, verb: &str, body: Bytes) -> Answer {
    let kind = call.row.kind;
    match (name, kind.scale) {
        ("status", _) if kind.status => match verb {
            "get" => get::get(call),
            "update" => update::replace(call, &body, Part::Status).await,
            "patch" => patch::patch_part(call, &body, Part::Status).await,
            _ => Err(Failure::method_not_allowed()),
        },
        ("scale", Some(paths)) => scale::scale(call, paths, verb, &body).await,
        ("finalize", _) if namespaces::finalizes(call.row) => match verb {
            "update" => finalize(call, &body).await,
            _ => Err(Failure::method_not_allowed()),
        },
        _ => {
            let row = kind.subresources.iter().find(|sub| sub.name == name).ok_or_else(Failure::no_such_path)?;
            match (verb, row.post, name) {
                ("create", Some(hook), _) => post(call, name, row.body, hook, &body).await,
                ("create", None, "token") => reviews::create_token(call, &body),
                ("create", None, "eviction") => evict(call, &body).await,
                _ => Err(Failure::method_not_allowed()),
            }
        }
    }
}

/// A row's hook: applies the body to the parent. Answers with a Status, 201.
async fn post(
    call: &Call<'_>,
    name: &str,
    (group, version, kind): (&str, &str, &str),
    hook: fn(&mut Value, &Value) -> Result<(), Refusal>,
    body: &[u8],
) -> Answer {
    let options = Options::parse(call.query, "CreateOptions")?;
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let body = decode_as(call, &api_version, kind, version, body)?;
    let mut warnings = Vec::new();
    write::modify(call, Part::Hook, options, &mut warnings, |current, _| {
        let mut next = current.clone();
        hook(&mut next, &body).map_err(|refusal| Failure::from_refusal(refusal, call.row.kind, call.name))?;
        Ok(next)
    })
    .await?;
    let mut answer = status::success(call.row.kind, call.name, "");
    answer["code"] = 201.into();
    if let Some(details) = answer.get_mut("details") {
        details["kind"] = format!("{}/{name}", call.row.kind.plural).into();
    }
    render::plain(call, 201, &answer, &[])
}

/// A body of another kind than the row's.
pub(crate) fn decode_as(call: &Call<'_>, api_version: &str, kind: &str, version: &str, body: &[u8]) -> Result<Value, Failure> {
    let media_type = MediaType::of(call.headers)?;
    let mut decoded = decode::decode(body, media_type)
        .map_err(|why| Failure::bad_request(format!("the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {why}")))?;
    write::check_kind(&mut decoded.value, api_version, kind, version, body)?;
    let said = object::meta_text(&decoded.value, "name");
    if !said.is_empty() && said != call.name {
        return Err(Failure::bad_request(format!("the name of the object ({said}) does not match the name on the URL ({})", call.name)));
    }
    Ok(decoded.value)
}

/// `PUT namespaces/NAME/finalize`: the only way to change `spec.finalizers`; the last one gone lets a deleted namespace go.
async fn finalize(call: &Call<'_>, body: &[u8]) -> Answer {
    let options = Options::parse(call.query, "UpdateOptions")?;
    let mut warnings = Vec::new();
    let value = write::decode_object(call, body, options.validation, &mut warnings)?;
    update::check_name(call, &value)?;
    let outcome = write::modify(call, Part::Hook, options, &mut warnings, |current, _| {
        let mut next = current.clone();
        let finalizers = value.pointer("/spec/finalizers").cloned().unwrap_or_else(|| Value::Array(Vec::new()));
        object::set_pointer(&mut next, "/spec/finalizers", finalizers);
        let said = object::meta_text(&value, "resourceVersion").to_owned();
        object::metadata_mut(&mut next).insert("resourceVersion".into(), said.into());
        Ok(next)
    })
    .await?;
    match outcome {
        Outcome::Stored(stored) => render::stored(call, 200, &stored, &[]),
        Outcome::Dry(value) => render::value(call, 200, value, &[]),
    }
}

/// `POST pods/NAME/eviction`. No disruption budgets exist yet, so nothing stands against it: a delete with the eviction's options.
async fn evict(call: &Call<'_>, body: &[u8]) -> Answer {
    let eviction = decode_as(call, "policy/v1", "Eviction", "v1", body)?;
    let mut options = delete::Options::parse(call.query, eviction.get("deleteOptions").unwrap_or(&Value::Null))?;
    options.dry_run |= Options::parse(call.query, "CreateOptions")?.dry_run;
    delete::remove(call, call.namespace.unwrap_or(""), call.name, &options).await?;
    let mut answer = status::success(call.row.kind, call.name, "");
    answer["code"] = 201.into();
    render::plain(call, 201, &answer, &[])
}
