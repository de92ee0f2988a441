//! Random operations, compared with a model that keeps every revision.

use crate::support::*;
use mainstay_store::{Event, EventKind, Range, Store, Watch, WriteError};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const WINDOW: usize = 6;
const PLACES: [&str; 6] = ["pods a x", "pods a y", "pods b x", "nodes - x", "nodes - y", "pods b z"];
const RANGES: [(&str, Option<&str>); 4] = [("pods", None), ("pods", Some("a")), ("pods", Some("b")), ("nodes", None)];

#[derive(Clone, Debug)]
enum Operation {
    Create(usize),
    /// The place, and whether with a revision that is not the newest.
    Update(usize, bool),
    Delete(usize, bool),
    /// Opens a watch of a range so many revisions back.
    Watch(usize, u64),
    /// Reads at most so many events of one of the watches.
    Read(usize, usize),
    Bookmark(usize),
    /// Lists a range so many revisions back, in pages of so many.
    List(usize, u64, usize),
    Reopen,
}

fn operation() -> impl Strategy<Value = Operation> {
    let place = 0..PLACES.len();
    let range = 0..RANGES.len();
    prop_oneof![
        4 => place.clone().prop_map(Operation::Create),
        6 => (place.clone(), prop::bool::weighted(0.1)).prop_map(|(place, stale)| Operation::Update(place, stale)),
        2 => (place, prop::bool::weighted(0.1)).prop_map(|(place, stale)| Operation::Delete(place, stale)),
        2 => (range.clone(), 0..10_u64).prop_map(|(range, back)| Operation::Watch(range, back)),
        5 => (0..4_usize, 1..4_usize).prop_map(|(watch, limit)| Operation::Read(watch, limit)),
        1 => (0..4_usize).prop_map(Operation::Bookmark),
        3 => (range, 0..10_u64, 1..4_usize).prop_map(|(range, back, limit)| Operation::List(range, back, limit)),
        1 => Just(Operation::Reopen),
    ]
}

/// One revision: the place, what happened, and the value written.
type Happened = (usize, EventKind, u64);
type Present = BTreeMap<usize, (u64, u64)>;

struct Model {
    /// The first entry is revision 2.
    history: Vec<Happened>,
    /// Value and revision of each place that is taken.
    present: Present,
}

impl Model {
    fn revision(&self) -> u64 {
        self.history.len() as u64 + 1
    }

    fn happened(&mut self, place: usize, kind: EventKind) {
        let value = self.revision() + 1;
        self.history.push((place, kind, value));
        match kind {
            EventKind::Deleted => self.present.remove(&place),
            _ => self.present.insert(place, (value, value)),
        };
    }

    fn at(&self, revision: u64) -> Present {
        let mut present = Present::new();
        for (place, kind, value) in &self.history[..revision as usize - 1] {
            match kind {
                EventKind::Deleted => present.remove(place),
                _ => present.insert(*place, (*value, *value)),
            };
        }
        present
    }

    fn list(&self, range: usize, revision: u64) -> Vec<String> {
        let mut found: Vec<_> =
            self.at(revision).into_iter().filter(|(place, _)| within(range, PLACES[*place])).map(|(place, (value, at))| (PLACES[place], value, at)).collect();
        found.sort();
        found.into_iter().map(|(place, value, at)| format!("{place}={value}@{at}")).collect()
    }

    fn events(&self, range: usize, seen: u64, limit: usize) -> Vec<(EventKind, u64)> {
        let after = self.history.iter().zip(2_u64..).filter(|((place, ..), revision)| *revision > seen && within(range, PLACES[*place]));
        after.map(|((_, kind, _), revision)| (*kind, revision)).take(limit).collect()
    }

    fn kept(&self, seen: u64) -> bool {
        seen + WINDOW as u64 >= self.revision()
    }
}

fn within(range: usize, place: &str) -> bool {
    let (resource, namespace) = RANGES[range];
    place.starts_with(&format!("{resource} {}", namespace.unwrap_or_default()))
}

fn range_of(index: usize) -> Range {
    range(RANGES[index].0, RANGES[index].1)
}

fn describe(event: &Event) -> (EventKind, u64) {
    assert_eq!(event.previous.is_none(), event.kind == EventKind::Added);
    assert_eq!(value(&event.object), event.object.revision.to_string());
    (event.kind, event.object.revision)
}

struct Watcher {
    range: usize,
    seen: u64,
    watch: Watch,
}

struct Run<'a> {
    dir: &'a Path,
    store: Option<Store>,
    model: Model,
    watchers: Vec<Watcher>,
}

impl Run<'_> {
    fn store(&self) -> &Store {
        self.store.as_ref().expect("open between operations")
    }

    async fn step(&mut self, operation: Operation) {
        match operation {
            Operation::Create(place) => {
                let next = self.model.revision() + 1;
                match create(self.store(), PLACES[place], next).await {
                    Ok(object) => {
                        assert_eq!(object.revision, next);
                        self.model.happened(place, EventKind::Added);
                    }
                    Err(WriteError::Exists(object)) => assert_eq!(Some(object.revision), self.model.present.get(&place).map(|(_, at)| *at)),
                    Err(error) => panic!("{error}"),
                }
            }
            Operation::Update(place, stale) => self.change(place, stale, EventKind::Modified).await,
            Operation::Delete(place, stale) => self.change(place, stale, EventKind::Deleted).await,
            Operation::Watch(range, back) => self.watch(range, back),
            Operation::Read(watcher, limit) => self.read(watcher, limit).await,
            Operation::Bookmark(watcher) => {
                if let Some(watcher) = self.watchers.get_mut(watcher) {
                    let revision = watcher.watch.revision();
                    assert!(revision >= watcher.seen, "a step back");
                    assert!(self.model.events(watcher.range, watcher.seen, 1).iter().all(|(_, next)| *next > revision), "skipped an event");
                    watcher.seen = revision;
                }
            }
            Operation::List(range, back, limit) => self.list(range, back, limit),
            Operation::Reopen => {
                self.watchers.clear();
                if let Some(store) = self.store.take() {
                    store.close().await;
                }
                self.store = Some(Store::open(self.dir, small_window(WINDOW)).unwrap());
                assert_eq!(self.store().revision(), self.model.revision());
            }
        }
    }

    async fn change(&mut self, place: usize, stale: bool, kind: EventKind) {
        let now = self.model.present.get(&place).map(|(_, at)| *at);
        let expected = now.unwrap_or(1) - u64::from(stale);
        let next = self.model.revision() + 1;
        let result = match kind {
            EventKind::Deleted => delete(self.store(), PLACES[place], expected, next).await,
            _ => update(self.store(), PLACES[place], expected, next).await,
        };
        match (result, now) {
            (Ok(object), Some(_)) if !stale => {
                assert_eq!(object.revision, next);
                self.model.happened(place, kind);
            }
            (Err(WriteError::NotFound), None) => {}
            (Err(WriteError::Conflict(object)), Some(at)) if stale => assert_eq!(object.revision, at),
            (result, _) => panic!("{kind:?} {place} at {expected}, now {now:?}: {result:?}"),
        }
    }

    fn watch(&mut self, range: usize, back: u64) {
        let from = self.model.revision().saturating_sub(back).max(1);
        match self.store().watch(&range_of(range), from) {
            Ok(watch) => {
                let watcher = Watcher { range, seen: from, watch };
                if self.watchers.len() == 4 {
                    self.watchers.remove(0);
                }
                self.watchers.push(watcher);
            }
            Err(expired) => assert!(!self.model.kept(from) && expired.requested == from && expired.oldest > from),
        }
    }

    async fn read(&mut self, watcher: usize, limit: usize) {
        let Some(watcher) = self.watchers.get_mut(watcher) else { return };
        let expected = self.model.events(watcher.range, watcher.seen, limit);
        match tokio::time::timeout(Duration::ZERO, watcher.watch.next(limit)).await {
            Err(_waiting) => assert!(expected.is_empty(), "{expected:?} did not arrive"),
            Ok(Ok(batch)) => {
                assert_eq!(batch.events.iter().map(|event| describe(event)).collect::<Vec<_>>(), expected);
                let skipped = self.model.events(watcher.range, expected.last().map_or(0, |(_, last)| *last), 1);
                assert!(skipped.iter().all(|(_, next)| *next > batch.revision), "the bookmark is past an event");
                watcher.seen = batch.revision;
            }
            Ok(Err(expired)) => assert!(!self.model.kept(watcher.seen), "{expired}"),
        }
    }

    fn list(&self, range: usize, back: u64, limit: usize) {
        let revision = self.model.revision().saturating_sub(back).max(1);
        let expected = self.model.list(range, revision);
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = match self.store().list_at(&range_of(range), after.as_ref(), limit, revision) {
                Ok(page) => page,
                Err(_) => return assert!(!self.model.kept(revision)),
            };
            for object in &page.items {
                let namespace = if object.key.namespace.is_empty() { "-" } else { &object.key.namespace };
                found.push(format!("{} {namespace} {}={}@{}", object.key.resource, object.key.name, value(object), object.revision));
            }
            assert_eq!(page.remaining, expected.len() - found.len());
            match page.items.last() {
                Some(last) if page.remaining > 0 => after = Some(last.key.clone()),
                _ => break,
            }
        }
        assert_eq!(found, expected);
        assert_eq!(self.store().count(&range_of(range)), self.model.list(range, self.model.revision()).len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn random_operations_agree_with_a_model_that_keeps_every_revision(operations in prop::collection::vec(operation(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let store = Some(Store::open(dir.path(), small_window(WINDOW)).unwrap());
            let mut run = Run { dir: dir.path(), store, model: Model { history: Vec::new(), present: Present::new() }, watchers: Vec::new() };
            for operation in operations {
                run.step(operation).await;
            }
        });
    }
}
