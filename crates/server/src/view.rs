//! What admission may look at.

use crate::server::Inner;
use mainstay_api::{Admission, Settings};
use mainstay_store::{Key, Range};
use serde_json::Value;

/// The newest committed objects, parsed on demand.
pub(crate) struct View<'a>(pub(crate) &'a Inner);

impl Admission for View<'_> {
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = Key { resource: resource.into(), namespace: namespace.into(), name: name.into() };
        serde_json::from_slice(&self.0.store.get(&key)?.bytes).ok()
    }

    fn list(&self, resource: &str, namespace: Option<&str>) -> Vec<Value> {
        let range = Range { resource: resource.into(), namespace: namespace.map(Into::into) };
        let page = self.0.store.list(&range, None, 0);
        page.items.iter().filter_map(|object| serde_json::from_slice(&object.bytes).ok()).collect()
    }

    fn settings(&self) -> &Settings {
        &self.0.config.settings
    }

    fn now(&self) -> String {
        rfc3339(jiff::Timestamp::now())
    }
}

/// `2026-01-31T12:00:00Z`.
pub(crate) fn rfc3339(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
