//! PUT.

use crate::handler::{Answer, Call};
use crate::object;
use crate::render;
use crate::status::Failure;
use crate::write::{self, Options, Outcome, Part};
use serde_json::Value;

/// Replaces an object. Without a resourceVersion it does so whatever is there; it never creates.
pub(crate) async fn update(call: &Call<'_>, body: &[u8]) -> Answer {
    replace(call, body, Part::Whole).await
}

/// The same of a part.
pub(crate) async fn replace(call: &Call<'_>, body: &[u8], part: Part) -> Answer {
    let options = Options::parse(call.query, "UpdateOptions")?;
    let mut warnings = Vec::new();
    let mut value = write::decode_object(call, body, options.validation, &mut warnings)?;
    write::check_namespace(call, &mut value)?;
    check_name(call, &value)?;
    let mut said = Vec::new();
    let outcome = write::modify(call, part, options, &mut said, |_, _| Ok(value.clone())).await?;
    warnings.append(&mut said);
    answer(call, outcome, &warnings)
}

/// The name of the body must be the URL's.
pub(crate) fn check_name(call: &Call<'_>, value: &Value) -> Result<(), Failure> {
    match object::meta_text(value, "name") {
        name if name == call.name => Ok(()),
        "" => Err(Failure::bad_request(format!("the name of the object ({}) was undeterminable: name must be provided", call.name))),
        name => Err(Failure::bad_request(format!("the name of the object ({name}) does not match the name on the URL ({})", call.name))),
    }
}

/// 200 with the new state.
pub(crate) fn answer(call: &Call<'_>, outcome: Outcome, warnings: &[String]) -> Answer {
    match outcome {
        Outcome::Stored(object) => render::stored(call, 200, &object, warnings),
        Outcome::Dry(value) => render::value(call, 200, value, warnings),
    }
}
