//! The table of kinds, with what the server derives from each row once.

use mainstay_api::{Kind, Scope, kinds};
use mainstay_schema::Type;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// A row of the table of kinds as the server uses it.
pub(crate) struct Row {
    /// The row itself.
    pub(crate) kind: &'static Kind,
    /// The row whose form is stored: itself, or the one it converts to.
    pub(crate) stored: &'static Kind,
    /// `apps/v1`.
    pub(crate) api_version: String,
    /// The same of the stored form.
    pub(crate) stored_api_version: String,
    /// Storage name.
    pub(crate) resource: Arc<str>,
    /// The shape of its objects, where one is known.
    pub(crate) shape: Option<Type>,
    /// The same of the stored form.
    pub(crate) stored_shape: Option<Type>,
    /// Held from `admit` to the commit, where two writes must not be given the same (see [`Kind::serialized`]).
    pub(crate) turn: Option<Arc<Mutex<()>>>,
}

impl Row {
    /// Whether objects are read and written in the form they are stored in.
    pub(crate) fn is_stored_form(&self) -> bool {
        self.kind.convert.is_none()
    }

    /// In a namespace.
    pub(crate) fn namespaced(&self) -> bool {
        self.kind.scope == Scope::Namespaced
    }

    /// Has this verb.
    pub(crate) fn allows(&self, verb: &str) -> bool {
        self.kind.verbs.contains(&verb)
    }
}

/// All rows, by plural.
pub(crate) struct Rows {
    by_plural: HashMap<&'static str, Vec<Arc<Row>>>,
}

impl Rows {
    pub(crate) fn new() -> Self {
        let mut by_plural: HashMap<&'static str, Vec<Arc<Row>>> = HashMap::new();
        let mut turns: HashMap<&'static str, Arc<Mutex<()>>> = HashMap::new();
        for kind in kinds::all().iter().copied() {
            let stored = kinds::all().iter().copied().find(|other| other.storage == kind.storage && other.convert.is_none()).unwrap_or(kind);
            let api_version = kind.api_version();
            let row = Row {
                kind,
                stored,
                shape: mainstay_schema::root(&api_version, kind.kind),
                stored_shape: mainstay_schema::root(&stored.api_version(), stored.kind),
                stored_api_version: stored.api_version(),
                api_version,
                resource: kind.storage.into(),
                turn: kind.serialized.then(|| turns.entry(kind.storage).or_default().clone()),
            };
            by_plural.entry(kind.plural).or_default().push(Arc::new(row));
        }
        Self { by_plural }
    }

    /// A resource of a path.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Row>> {
        self.by_plural.get(plural)?.iter().find(|row| row.kind.group == group && row.kind.version == version)
    }
}
