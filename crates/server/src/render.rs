//! Objects in the form a client asked for.

use crate::body::Body;
use crate::handler::{Answer, Call, json, typed};
use crate::negotiate::Form;
use crate::object;
use crate::rows::Row;
use crate::status::Failure;
use crate::table::{self, Include};
use http::{HeaderValue, Response, header};
use mainstay_store::Object;
use serde_json::{Value, json};

/// A stored object; its bytes as they are, wherever that is what was asked for.
pub(crate) fn stored(call: &Call<'_>, code: u16, object: &Object, warnings: &[String]) -> Answer {
    if call.row.is_stored_form() && call.accept.form == Form::Plain && !call.accept.yaml {
        return Ok(warn(json(code, object.bytes.clone()), warnings));
    }
    value(call, code, object::read(call.row, object)?, warnings)
}

/// An object that is not stored, or not in this form.
pub(crate) fn value(call: &Call<'_>, code: u16, value: Value, warnings: &[String]) -> Answer {
    let mut out = Vec::with_capacity(1024);
    match call.accept.form {
        Form::Plain => object::write(&mut out, &value),
        Form::Metadata(version) => table::write_partial(&mut out, version, object::metadata(&value)),
        Form::Table(version) => {
            let include = Include::parse(call.query.get("includeObject"))?;
            let list_metadata = json!({"resourceVersion": object::meta_text(&value, "resourceVersion")});
            table::write_table(&mut out, call.row, version, &list_metadata, true, include, std::iter::once(Ok(value)))?;
        }
    }
    finish(call, code, out, warnings)
}

/// Any JSON value whose kind is not the row's: a Scale, a Status, a TokenRequest.
pub(crate) fn plain(call: &Call<'_>, code: u16, value: &Value, warnings: &[String]) -> Answer {
    let mut out = Vec::with_capacity(256);
    object::write(&mut out, value);
    finish(call, code, out, warnings)
}

/// Serialized JSON, turned into YAML where that was asked for.
pub(crate) fn finish(call: &Call<'_>, code: u16, bytes: Vec<u8>, warnings: &[String]) -> Answer {
    let response = if call.accept.yaml {
        let value: Value = serde_json::from_slice(&bytes).map_err(Failure::internal)?;
        typed(code, "application/yaml", serde_saphyr::to_string(&value).map_err(Failure::internal)?)
    } else {
        json(code, bytes)
    };
    Ok(warn(response, warnings))
}

/// Adds `Warning` headers, which kubectl prints. Bounded as upstream bounds them (4 KiB in total).
pub(crate) fn warn(mut response: Response<Body>, warnings: &[String]) -> Response<Body> {
    let mut room = 4096usize;
    for warning in warnings {
        let text: String = warning.chars().filter(|c| !c.is_control()).collect();
        let header = format!("299 - \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        room = match room.checked_sub(header.len()) {
            Some(room) => room,
            None => break,
        };
        if let Ok(value) = HeaderValue::from_bytes(header.as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// Appends one object of a list or watch in the form asked for.
pub(crate) fn write_item(out: &mut Vec<u8>, row: &Row, form: Form, include: Include, with_columns: bool, item: &Object) -> Result<(), Failure> {
    match form {
        Form::Plain if row.is_stored_form() => out.extend_from_slice(&item.bytes),
        Form::Plain => object::write(out, &object::read(row, item)?),
        Form::Metadata(version) => table::write_partial(out, version, object::metadata(&object::read(row, item)?)),
        Form::Table(version) => {
            let list_metadata = json!({"resourceVersion": item.revision.to_string()});
            table::write_table(out, row, version, &list_metadata, with_columns, include, std::iter::once(object::read(row, item)))?;
            // A Table ends with a newline; within an event there is none.
            out.pop();
        }
    }
    Ok(())
}
