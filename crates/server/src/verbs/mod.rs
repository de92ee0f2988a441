//! One file a verb.

mod create;
mod delete;
mod get;
mod list;
mod patch;
mod scale;
mod subresource;
mod update;
mod watch;

pub(crate) use create::create;
pub(crate) use delete::{delete, delete_collection};
pub(crate) use get::get;
pub(crate) use list::list;
pub(crate) use patch::patch;
pub(crate) use subresource::{decode_as, subresource};
pub(crate) use update::update;
pub(crate) use watch::watch;

use crate::status::Failure;

/// 400 of a resourceVersion that is no number (500 upstream on some verbs).
pub(crate) fn invalid_resource_version(text: &str) -> Failure {
    Failure::bad_request(format!("resourceVersion: Invalid value: {text:?}: must be a number, as a resourceVersion that this server gave out"))
}
