//! POST.

use crate::handler::{Answer, Call};
use crate::object::{self, metadata_mut};
use crate::status::Failure;
use crate::view::{View, rfc3339};
use crate::write::{self, Options};
use crate::{namespaces, render};
use mainstay_api::{Errors, meta, names};
use mainstay_store::{Write, WriteError};
use serde_json::Value;

/// How many names are tried for a `generateName`; upstream's figure.
const NAMES: usize = 8;

/// Creates an object and answers with it, 201.
pub(crate) async fn create(call: &Call<'_>, body: &[u8]) -> Answer {
    let options = Options::parse(call.query, "CreateOptions")?;
    let mut warnings = Vec::new();
    let mut value = write::decode_object(call, body, options.validation, &mut warnings)?;
    write::check_namespace(call, &mut value)?;
    if !matches!(object::meta_text(&value, "resourceVersion"), "" | "0") {
        return Err(Failure::bad_request("resourceVersion should not be set on objects to be created"));
    }
    let generate = match object::meta_text(&value, "name") {
        "" => object::meta_text(&value, "generateName").to_owned(),
        _ => String::new(),
    };
    fill_metadata(call, &mut value);
    let _turn = write::turn(call.row).await;
    for left in (0..NAMES).rev() {
        let mut attempt = if generate.is_empty() { std::mem::take(&mut value) } else { value.clone() };
        if !generate.is_empty() {
            metadata_mut(&mut attempt).insert("name".into(), names::generate_name(&generate).into());
        }
        let name = object::meta_text(&attempt, "name").to_owned();
        prepare(call, &mut attempt, &name)?;
        warnings.extend((call.row.kind.warnings)(&attempt));
        match store(call, options, attempt, &name, &warnings).await {
            Err(Taken::Name) if !generate.is_empty() && left > 0 => warnings.clear(),
            Err(Taken::Name) => return Err(Failure::already_exists(call.row.kind, &name)),
            Err(Taken::Failed(failure)) => return Err(failure),
            Ok(answer) => return Ok(answer),
        }
    }
    Err(Failure::already_exists(call.row.kind, &generate))
}

enum Taken {
    Name,
    Failed(Failure),
}

async fn store(call: &Call<'_>, options: Options, value: Value, name: &str, warnings: &[String]) -> Result<http::Response<crate::Body>, Taken> {
    let key = object::key(call.row, call.namespace.unwrap_or(""), name);
    if options.dry_run {
        if call.server.store.get(&key).is_some() {
            return Err(Taken::Name);
        }
        return render::value(call, 201, object::dry(call.row, value, None), warnings).map_err(Taken::Failed);
    }
    let (draft, meta) = object::draft(call.row, value);
    match call.server.store.write(Write::Create { key, draft, meta }).await {
        Ok(object) => render::stored(call, 201, &object, warnings).map_err(Taken::Failed),
        Err(WriteError::Exists(_)) => Err(Taken::Name),
        Err(error) => Err(Taken::Failed(Failure::from_write(error, call.row.kind, name))),
    }
}

/// What is the server's to say about a new object.
fn fill_metadata(call: &Call<'_>, value: &mut Value) {
    let now = rfc3339(jiff::Timestamp::now());
    let metadata = metadata_mut(value);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields", "resourceVersion", "generation"] {
        metadata.remove(field);
    }
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), now.into());
    if call.row.kind.generation {
        metadata.insert("generation".into(), 1.into());
    }
    metadata.retain(|_, field| !field.is_null());
}

/// Defaults, admission, validation.
fn prepare(call: &Call<'_>, value: &mut Value, name: &str) -> Result<(), Failure> {
    let kind = call.row.kind;
    let view = View(call.server);
    if let Some(namespace) = call.namespace {
        namespaces::check_create(call.server, call.row, namespace, name)?;
    }
    (kind.default)(value);
    (kind.prepare_create)(value, &view);
    (kind.admit)(value, None, &view).map_err(|refusal| Failure::from_refusal(refusal, kind, name))?;
    object::complete(call.row, value);
    let mut errors = Errors::default();
    meta::validate_object_meta(value, kind, &mut errors);
    (kind.validate)(value, &mut errors);
    write::reject(call.row, name, &errors)
}
