//! Rows and columns, as `kubectl get` shows them.

use crate::object::{metadata, write};
use crate::rows::Row;
use crate::status::Failure;
use serde_json::{Value, json};

/// What a row carries of its object (`?includeObject=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    /// Its metadata.
    Metadata,
    /// Nothing.
    None,
    /// All of it.
    Object,
}

impl Include {
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, Failure> {
        match text {
            None | Some("Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::None),
            Some("Object") => Ok(Self::Object),
            Some(other) => Err(Failure::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        }
    }
}

/// Appends a Table of these objects. `list_metadata` is the list's own. Without columns for all but the first event of a watch.
pub(crate) fn write_table<'a>(
    out: &mut Vec<u8>,
    row: &Row,
    version: &str,
    list_metadata: &Value,
    with_columns: bool,
    include: Include,
    objects: impl Iterator<Item = Result<Value, Failure>> + 'a,
) -> Result<(), Failure> {
    let now = jiff::Timestamp::now().as_second();
    out.extend_from_slice(br#"{"kind":"Table","apiVersion":""#);
    out.extend_from_slice(version.as_bytes());
    out.extend_from_slice(br#"","metadata":"#);
    write(out, list_metadata);
    out.extend_from_slice(br#","columnDefinitions":"#);
    if with_columns {
        let columns: Vec<Value> = row.kind.columns.iter().map(definition).collect();
        write(out, &columns);
    } else {
        out.extend_from_slice(b"null");
    }
    out.extend_from_slice(br#","rows":["#);
    for (index, object) in objects.enumerate() {
        let object = object?;
        if index > 0 {
            out.push(b',');
        }
        let cells: Vec<Value> = row.kind.columns.iter().map(|column| (column.cell)(&object, now)).collect();
        out.extend_from_slice(br#"{"cells":"#);
        write(out, &cells);
        match include {
            Include::None => {}
            Include::Object => {
                out.extend_from_slice(br#","object":"#);
                write(out, &object);
            }
            Include::Metadata => {
                out.extend_from_slice(br#","object":"#);
                write_partial(out, version, metadata(&object));
            }
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}\n");
    Ok(())
}

/// Appends a PartialObjectMetadata.
pub(crate) fn write_partial(out: &mut Vec<u8>, version: &str, metadata: &Value) {
    out.extend_from_slice(br#"{"kind":"PartialObjectMetadata","apiVersion":""#);
    out.extend_from_slice(version.as_bytes());
    out.extend_from_slice(br#"","metadata":"#);
    write(out, metadata);
    out.push(b'}');
}

fn definition(column: &mainstay_api::Column) -> Value {
    json!({
        "name": column.name, "type": column.kind, "format": column.format, "description": column.description, "priority": column.priority,
    })
}
