//! What readers see: the newest revision of every object, and the window of recent events.
//!
//! Revisions have no gaps, and every resource keeps its own part of the window, so that a watcher never looks at events of
//! other resources, and does not expire because of them.

use crate::watch::Signal;
use crate::{Event, EventKind, Expired, Key, Object, Page, Range};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// What an event costs beyond the objects that it alone keeps alive.
const EVENT_BYTES: usize = 96;
/// What an object costs beyond its bytes.
const OBJECT_BYTES: usize = 400;

/// An object in the index, ordered by its key: the key is stored once.
#[derive(Debug)]
struct Entry(Arc<Object>);

impl Borrow<Key> for Entry {
    fn borrow(&self) -> &Key {
        &self.0.key
    }
}
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

/// One kind's objects, events and watchers.
#[derive(Debug)]
struct Resource {
    objects: BTreeSet<Entry>,
    /// This resource's part of the window.
    events: VecDeque<Arc<Event>>,
    /// Every event of this resource after this revision is in `events`.
    floor: u64,
    all: Arc<Signal>,
    by_namespace: HashMap<Arc<str>, Arc<Signal>>,
}

impl Resource {
    fn new(floor: u64, revision: u64) -> Self {
        Self { objects: BTreeSet::new(), events: VecDeque::new(), floor, all: Arc::new(Signal::new(revision)), by_namespace: HashMap::new() }
    }

    fn range<'a>(&'a self, range: &'a Range, after: Option<&Key>) -> impl Iterator<Item = &'a Arc<Object>> {
        self.objects.range::<Key, _>((start(range, after), Bound::Unbounded)).map(|entry| &entry.0).take_while(|object| contains(range, &object.key))
    }

    fn events_after(&self, revision: u64) -> impl Iterator<Item = &Arc<Event>> {
        let first = self.events.partition_point(|event| event.object.revision <= revision);
        self.events.range(first..)
    }
}

/// Where a range begins, or goes on.
fn start(range: &Range, after: Option<&Key>) -> Bound<Key> {
    let empty: Arc<str> = Arc::from("");
    let first = Key { resource: Arc::clone(&range.resource), namespace: range.namespace.clone().unwrap_or_else(|| Arc::clone(&empty)), name: empty };
    match after {
        Some(after) if *after >= first => Bound::Excluded(after.clone()),
        _ => Bound::Included(first),
    }
}

fn contains(range: &Range, key: &Key) -> bool {
    range.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
}

/// Whom to wake after a publication, and what to free when no lock is held.
#[derive(Default)]
pub(crate) struct Published {
    /// The first revision of the batch.
    first: u64,
    pub(crate) signals: Vec<Arc<Signal>>,
    evicted: Vec<Arc<Event>>,
}

#[derive(Debug)]
pub(crate) struct State {
    resources: HashMap<Arc<str>, Resource>,
    window: VecDeque<Arc<Event>>,
    window_bytes: usize,
    max_events: usize,
    max_bytes: usize,
    /// Every event after this revision is in the window.
    floor: u64,
    /// The same as it was when the store was opened: it holds for resources of which nothing was seen since.
    floor_at_open: u64,
    revision: u64,
    /// Owner's uid and owned object.
    owners: BTreeSet<(Arc<str>, Key)>,
}

impl State {
    pub(crate) fn new(floor: u64, max_events: usize, max_bytes: usize) -> Self {
        Self {
            resources: HashMap::new(),
            window: VecDeque::new(),
            window_bytes: 0,
            max_events: max_events.max(1),
            max_bytes,
            floor,
            floor_at_open: floor,
            revision: floor,
            owners: BTreeSet::new(),
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The revision after which nothing may be removed from the log.
    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.resources.get(&key.resource)?.objects.get(key).map(|entry| &entry.0)
    }

    pub(crate) fn list(&self, range: &Range, after: Option<&Key>, limit: usize) -> Page {
        let mut page = Page { revision: self.revision, items: Vec::new(), remaining: 0 };
        let Some(resource) = self.resources.get(&range.resource) else { return page };
        let mut objects = resource.range(range, after);
        let limit = if limit == 0 { usize::MAX } else { limit };
        page.items = objects.by_ref().take(limit).cloned().collect();
        page.remaining = if page.items.len() < limit { 0 } else { objects.count() };
        page
    }

    pub(crate) fn list_at(&self, range: &Range, after: Option<&Key>, limit: usize, revision: u64) -> Result<Page, Expired> {
        if revision >= self.revision {
            return Ok(self.list(range, after, limit));
        }
        self.check_kept(&range.resource, revision)?;
        let mut page = Page { revision, items: Vec::new(), remaining: 0 };
        let Some(resource) = self.resources.get(&range.resource) else { return Ok(page) };
        // The first event of a key after `revision` tells what it was at `revision`.
        let mut then: BTreeMap<&Key, Option<&Arc<Object>>> = BTreeMap::new();
        for event in resource.events_after(revision) {
            then.entry(&event.object.key).or_insert(event.previous.as_ref());
        }
        let mut changed = then
            .range::<Key, _>((start(range, after), Bound::Unbounded))
            .filter(|(key, _)| contains(range, key))
            .filter_map(|(_, object)| *object)
            .peekable();
        let mut unchanged = resource.range(range, after).filter(|object| !then.contains_key(&object.key)).peekable();
        let limit = if limit == 0 { usize::MAX } else { limit };
        loop {
            let next = match (changed.peek(), unchanged.peek()) {
                (Some(a), Some(b)) if a.key < b.key => changed.next(),
                (Some(_), None) => changed.next(),
                _ => unchanged.next(),
            };
            match next {
                None => return Ok(page),
                Some(object) if page.items.len() < limit => page.items.push(Arc::clone(object)),
                Some(_) => page.remaining += 1,
            }
        }
    }

    pub(crate) fn count(&self, range: &Range) -> usize {
        match (self.resources.get(&range.resource), &range.namespace) {
            (None, _) => 0,
            (Some(resource), None) => resource.objects.len(),
            (Some(resource), Some(_)) => resource.range(range, None).count(),
        }
    }

    pub(crate) fn owned_by(&self, uid: &str) -> Vec<Arc<Object>> {
        let empty: Arc<str> = Arc::from("");
        let first = (Arc::from(uid), Key { resource: Arc::clone(&empty), namespace: Arc::clone(&empty), name: empty });
        self.owners.range(first..).take_while(|(owner, _)| **owner == *uid).filter_map(|(_, key)| self.get(key).cloned()).collect()
    }

    /// `Expired` when events of `resource` after `revision` are no longer all there.
    pub(crate) fn check_kept(&self, resource: &str, revision: u64) -> Result<(), Expired> {
        let oldest = self.resources.get(resource).map_or(self.floor_at_open, |resource| resource.floor);
        if revision < oldest { Err(Expired { requested: revision, oldest }) } else { Ok(()) }
    }

    /// The next events of a range after `seen`, at most `limit`, and how far that is.
    pub(crate) fn events(&self, range: &Range, seen: u64, limit: usize) -> (Vec<Arc<Event>>, u64) {
        let end = self.revision.max(seen);
        let Some(resource) = self.resources.get(&range.resource) else { return (Vec::new(), end) };
        let mut events = Vec::new();
        for event in resource.events_after(seen).filter(|event| contains(range, &event.object.key)) {
            if events.len() == limit.max(1) {
                let last = events.last().map_or(seen, |event: &Arc<Event>| event.object.revision);
                return (events, last);
            }
            events.push(Arc::clone(event));
        }
        (events, end)
    }

    /// Whether an event of the range waits after `seen`.
    pub(crate) fn pending(&self, range: &Range, seen: u64) -> bool {
        self.resources.get(&range.resource).is_some_and(|resource| resource.events_after(seen).any(|event| contains(range, &event.object.key)))
    }

    /// What wakes the watchers of a range.
    pub(crate) fn signal(&mut self, range: &Range) -> Arc<Signal> {
        let revision = self.revision;
        let resource = self.resource(&range.resource);
        match &range.namespace {
            None => Arc::clone(&resource.all),
            Some(namespace) => Arc::clone(resource.by_namespace.entry(Arc::clone(namespace)).or_insert_with(|| Arc::new(Signal::new(revision)))),
        }
    }

    /// Forgets the signal of a namespace when the watch that gives it back was the last to hold it.
    pub(crate) fn release(&mut self, range: &Range, signal: Arc<Signal>) {
        drop(signal);
        if let (Some(resource), Some(namespace)) = (self.resources.get_mut(&range.resource), &range.namespace)
            && resource.by_namespace.get(namespace).is_some_and(|signal| Arc::strong_count(signal) == 1)
        {
            resource.by_namespace.remove(namespace);
        }
    }

    fn resource(&mut self, name: &Arc<str>) -> &mut Resource {
        let (floor, revision) = (self.floor_at_open, self.revision);
        self.resources.entry(Arc::clone(name)).or_insert_with(|| Resource::new(floor, revision))
    }

    /// Makes committed events visible, all at once.
    pub(crate) fn publish(&mut self, events: Vec<Event>) -> Published {
        let mut published = Published { first: self.revision + 1, ..Published::default() };
        for event in events {
            self.apply(event.kind, &event.object, event.previous.as_ref());
            self.remember(Arc::new(event), &mut published);
        }
        self.trim(&mut published);
        published
    }

    /// Takes up a record that is older than the window (when the store is opened).
    pub(crate) fn restore(&mut self, kind: EventKind, object: &Arc<Object>) {
        let previous = self.get(&object.key).cloned();
        self.apply(kind, object, previous.as_ref());
    }

    fn apply(&mut self, kind: EventKind, object: &Arc<Object>, previous: Option<&Arc<Object>>) {
        let gone = kind == EventKind::Deleted;
        let before = previous.map_or(&[][..], |previous| &previous.meta.owners);
        let after = if gone { &[][..] } else { &object.meta.owners };
        if before != after {
            for uid in before {
                self.owners.remove(&(Arc::clone(uid), object.key.clone()));
            }
            for uid in after {
                self.owners.insert((Arc::clone(uid), object.key.clone()));
            }
        }
        let resource = self.resource(&object.key.resource);
        if gone {
            resource.objects.remove(&object.key);
        } else {
            resource.objects.replace(Entry(Arc::clone(object)));
        }
    }

    fn remember(&mut self, event: Arc<Event>, published: &mut Published) {
        self.revision = event.object.revision;
        self.window_bytes += cost(&event);
        let revision = self.revision;
        let resource = self.resource(&event.object.key.resource);
        let namespace = resource.by_namespace.get(&event.object.key.namespace);
        for signal in namespace.into_iter().chain([&resource.all]) {
            // One batch wakes a signal once.
            if signal.raise(revision) < published.first {
                published.signals.push(Arc::clone(signal));
            }
        }
        resource.events.push_back(Arc::clone(&event));
        self.window.push_back(event);
    }

    /// Keeps the window within its bounds; the newest event always stays.
    fn trim(&mut self, published: &mut Published) {
        while self.window.len() > 1 && (self.window.len() > self.max_events || self.window_bytes > self.max_bytes) {
            let Some(event) = self.window.pop_front() else { return };
            self.window_bytes -= cost(&event);
            self.floor = event.object.revision;
            if let Some(resource) = self.resources.get_mut(&event.object.key.resource) {
                resource.events.pop_front();
                resource.floor = event.object.revision;
            }
            published.evicted.push(event);
        }
    }
}

/// What only this event keeps in memory: the state that it replaced, and for a deletion the last state.
fn cost(event: &Event) -> usize {
    let object = |object: &Object| object.bytes.len() + OBJECT_BYTES;
    let last = if event.kind == EventKind::Deleted { object(&event.object) } else { 0 };
    EVENT_BYTES + last + event.previous.as_deref().map_or(0, object)
}
