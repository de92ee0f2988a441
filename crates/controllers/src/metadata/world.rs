//! What exists, who owns whom, and what a namespace holds.

use super::Kind;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Removed uids remembered, so that a dependent's missing owner need not be asked for.
const GONE_LIMIT: usize = 2_048;

/// One owner reference, complete, so that the others can be written back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Owner {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) controller: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) block_owner_deletion: Option<bool>,
}

/// One object's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Index of its kind.
    pub(crate) kind: usize,
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) uid: Arc<str>,
    pub(crate) revision: String,
    pub(crate) deleting: bool,
    pub(crate) finalizers: Vec<String>,
    pub(crate) owners: Vec<Owner>,
}

impl Item {
    pub(crate) fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == name)
    }
}

/// Everything. Bounded by what the store holds.
#[derive(Debug, Default)]
pub(crate) struct World {
    kinds: Vec<Kind>,
    items: HashMap<Arc<str>, Arc<Item>>,
    dependents: HashMap<String, BTreeSet<Arc<str>>>,
    namespaces: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    gone: VecDeque<Arc<str>>,
}

impl World {
    pub(crate) fn set_kinds(&mut self, kinds: Vec<Kind>) {
        self.kinds = kinds;
    }

    pub(crate) fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The kind of an owner reference, in whatever version it names.
    pub(crate) fn kind_of(&self, owner: &Owner) -> Option<&Kind> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        self.kinds.iter().find(|kind| kind.kind == owner.kind && kind.group() == group)
    }

    pub(crate) fn get(&self, uid: &str) -> Option<&Arc<Item>> {
        self.items.get(uid)
    }

    pub(crate) fn items(&self) -> impl Iterator<Item = &Arc<Item>> {
        self.items.values()
    }

    /// What names this uid as an owner.
    pub(crate) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Arc<Item>> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|uid| self.items.get(uid))
    }

    /// What a namespace holds.
    pub(crate) fn inside(&self, namespace: &str) -> impl Iterator<Item = &Arc<Item>> {
        self.namespaces.get(namespace).into_iter().flatten().filter_map(|uid| self.items.get(uid))
    }

    /// Whether its removal was seen. uids are never used again.
    pub(crate) fn is_gone(&self, uid: &str) -> bool {
        self.gone.iter().any(|gone| **gone == *uid)
    }

    /// Returns the state before.
    pub(crate) fn put(&mut self, item: Arc<Item>) -> Option<Arc<Item>> {
        let old = self.take(&item.uid);
        for owner in &item.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(Arc::clone(&item.uid));
        }
        if !item.namespace.is_empty() {
            self.namespaces.entry(Arc::clone(&item.namespace)).or_default().insert(Arc::clone(&item.uid));
        }
        self.items.insert(Arc::clone(&item.uid), item);
        old
    }

    /// Returns the last state.
    pub(crate) fn remove(&mut self, uid: &str) -> Option<Arc<Item>> {
        let old = self.take(uid)?;
        if self.gone.len() == GONE_LIMIT {
            self.gone.pop_front();
        }
        self.gone.push_back(Arc::clone(&old.uid));
        Some(old)
    }

    fn take(&mut self, uid: &str) -> Option<Arc<Item>> {
        let old = self.items.remove(uid)?;
        for owner in &old.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        if let Some(inside) = self.namespaces.get_mut(&old.namespace) {
            inside.remove(uid);
            if inside.is_empty() {
                self.namespaces.remove(&old.namespace);
            }
        }
        Some(old)
    }

    /// The uids of one kind, for comparison with a list.
    pub(crate) fn of_kind(&self, kind: usize) -> Vec<Arc<str>> {
        self.items.values().filter(|item| item.kind == kind).map(|item| Arc::clone(&item.uid)).collect()
    }

    /// How many objects of each kind a namespace holds, by kind's index, and how many of them wait for each finalizer.
    pub(crate) fn remaining(&self, namespace: &str) -> (BTreeMap<usize, usize>, BTreeMap<String, usize>) {
        let (mut kinds, mut finalizers) = (BTreeMap::new(), BTreeMap::new());
        for item in self.inside(namespace) {
            *kinds.entry(item.kind).or_insert(0) += 1;
            for finalizer in &item.finalizers {
                *finalizers.entry(finalizer.clone()).or_insert(0) += 1;
            }
        }
        (kinds, finalizers)
    }
}
