//! `/scale`: how many, of whatever has that, as `autoscaling/v1`.

use super::patch::Patch;
use crate::decode::{self, MediaType};
use crate::handler::{Answer, Call};
use crate::negotiate::Form;
use crate::object;
use crate::render;
use crate::status::Failure;
use crate::write::{self, Options, Outcome, Part};
use mainstay_api::{Errors, Kind, Scale, selector_text};
use serde_json::{Value, json};

const API_VERSION: &str = "autoscaling/v1";

/// GET, PUT and PATCH.
pub(crate) async fn scale(call: &Call<'_>, scale: Scale, verb: &str, body: &[u8]) -> Answer {
    match verb {
        "get" => {
            let key = object::key(call.row, call.namespace.unwrap_or(""), call.name);
            let stored = call.server.store.get(&key).ok_or_else(|| Failure::not_found(call.row.kind, call.name))?;
            answer(call, &of(scale, &object::read(call.row, &stored)?))
        }
        "update" => {
            let options = Options::parse(call.query, "UpdateOptions")?;
            let wish = decode_scale(call, body)?;
            change(call, scale, options, |_, _| Ok(wish.clone())).await
        }
        "patch" => {
            let options = Options::parse(call.query, "PatchOptions")?;
            let patch = Patch::read(call, body, options.validation)?;
            let shape = mainstay_schema::root(API_VERSION, "Scale");
            change(call, scale, options, |current, _| patch.apply_raw(&of(scale, current), shape)).await
        }
        _ => Err(Failure::method_not_allowed()),
    }
}

fn decode_scale(call: &Call<'_>, body: &[u8]) -> Result<Value, Failure> {
    let mut decoded = decode::decode(body, MediaType::of(call.headers)?).map_err(|why| Failure::bad_request(format!("the object provided is unrecognized (must be of type Scale): {why}")))?;
    write::check_kind(&mut decoded.value, API_VERSION, "Scale", "v1", body)?;
    match object::meta_text(&decoded.value, "name") {
        name if name == call.name => Ok(decoded.value),
        name => Err(Failure::bad_request(format!("the name of the object ({name}) does not match the name on the URL ({})", call.name))),
    }
}

/// Takes over what a Scale says, as an update of the object.
async fn change(
    call: &Call<'_>,
    scale: Scale,
    options: Options,
    mut wish: impl FnMut(&Value, &mut Vec<String>) -> Result<Value, Failure> + Send,
) -> Answer {
    let mut warnings = Vec::new();
    let outcome = write::modify(call, Part::Whole, options, &mut warnings, |current, warnings| {
        let wish = wish(current, warnings)?;
        let replicas = match wish.pointer("/spec/replicas") {
            None | Some(Value::Null) => 0,
            Some(value) => value.as_i64().filter(|n| i32::try_from(*n).is_ok()).ok_or_else(|| {
                Failure::bad_request(format!("Scale in version \"v1\" cannot be handled as a Scale: json: cannot unmarshal {value} into Go struct field ScaleSpec.spec.replicas of type int32"))
            })?,
        };
        let mut errors = Errors::default();
        if replicas < 0 {
            errors.invalid("spec.replicas", &replicas.into(), "must be greater than or equal to 0");
            return Err(Failure::invalid("autoscaling", "Scale", call.name, &errors));
        }
        let mut next = current.clone();
        object::set_pointer(&mut next, scale.replicas, replicas.into());
        for field in ["resourceVersion", "uid"] {
            let said = object::meta_text(&wish, field).to_owned();
            match said.is_empty() {
                true => object::metadata_mut(&mut next).remove(field),
                false => object::metadata_mut(&mut next).insert(field.into(), said.into()),
            };
        }
        Ok(next)
    })
    .await?;
    let value = match outcome {
        Outcome::Stored(stored) => object::read(call.row, &stored)?,
        Outcome::Dry(value) => value,
    };
    answer(call, &of(scale, &value))
}

/// A Scale as it was asked for; as a Table it has columns of its own (upstream: pkg/printers/internalversion, `scaleColumnDefinitions`).
fn answer(call: &Call<'_>, scale: &Value) -> Answer {
    match call.accept.form {
        Form::Plain => render::plain(call, 200, scale, &[]),
        Form::Metadata(version) => render::plain(call, 200, &json!({"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": scale["metadata"]}), &[]),
        Form::Table(version) => {
            let column = |name: &str, kind: &str, description: &str| json!({"name": name, "type": kind, "format": if name == "Name" { "name" } else { "" }, "description": description, "priority": 0});
            let age = Kind::BASE.columns.last().map_or(Value::Null, |age| (age.cell)(scale, jiff::Timestamp::now().as_second()));
            let object = json!({"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": scale["metadata"]});
            let table = json!({
                "kind": "Table", "apiVersion": version, "metadata": {"resourceVersion": scale["metadata"]["resourceVersion"]},
                "columnDefinitions": [
                    column("Name", "string", "The name of what is scaled."), column("Desired", "integer", "How many are wished for."),
                    column("Available", "integer", "How many there are."), column("Age", "string", "How long ago it was created."),
                ],
                "rows": [{"cells": [scale["metadata"]["name"], scale["spec"]["replicas"], scale["status"]["replicas"], age], "object": object}],
            });
            render::plain(call, 200, &table, &[])
        }
    }
}

/// The Scale of an object.
fn of(scale: Scale, value: &Value) -> Value {
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(own) = object::metadata(value).get(field) {
            metadata[field] = own.clone();
        }
    }
    let number = |pointer: &str| value.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let mut status = json!({"replicas": number(scale.current)});
    let selector = value.pointer(scale.selector).map(selector_text).unwrap_or_default();
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    json!({"kind": "Scale", "apiVersion": API_VERSION, "metadata": metadata, "spec": {"replicas": number(scale.replicas)}, "status": status})
}
