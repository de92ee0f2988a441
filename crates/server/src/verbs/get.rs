//! GET of one object.

use crate::handler::{Answer, Call};
use crate::object;
use crate::render;
use crate::status::Failure;

/// The newest committed state. Every `resourceVersion` that exists asks for no more than that.
pub(crate) fn get(call: &Call<'_>) -> Answer {
    if let Some(text) = call.query.get("resourceVersion") {
        text.parse::<u64>().map_err(|_| super::invalid_resource_version(text))?;
    }
    let key = object::key(call.row, call.namespace.unwrap_or(""), call.name);
    let object = call.server.store.get(&key).ok_or_else(|| Failure::not_found(call.row.kind, call.name))?;
    render::stored(call, 200, &object, &[])
}
