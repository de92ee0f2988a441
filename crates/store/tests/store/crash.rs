//! A process is killed again and again under load, at random moments and at every failpoint; its acknowledgements arrive through a pipe.
//!
//! Killing a process proves the order of writing and publishing; only pulling the plug would prove the disk itself.

use crate::support::*;
use mainstay_store::{EventKind, Key, Object, Store, Write, WriteError};
use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

/// Names the directory, and tells the victim from an ordinary run of the tests.
const DIRECTORY: &str = "MAINSTAY_STORE_VICTIM";
/// `name hits`: abort when the failpoint is reached for so many times. `name return`: it fails each time from its hundredth on.
const FAILPOINT: &str = "MAINSTAY_STORE_FAILPOINT";
const WRITERS: usize = 8;
const KEYS: usize = 4;
/// Events kept: small, so that compaction goes on all the time.
const WINDOW: usize = 200;

fn say(line: &str) {
    // One call: a line arrives whole or, after a kill, not at all.
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Not a test: the process that the tests kill. Without its directory there is nothing to do.
#[test]
fn victim() {
    let Ok(dir) = std::env::var(DIRECTORY) else { return };
    #[cfg(feature = "failpoints")]
    if let Ok(failpoint) = std::env::var(FAILPOINT) {
        let (name, hits) = failpoint.split_once(' ').unwrap();
        if hits == "return" {
            fail::cfg(name, "100*off->return").unwrap();
            return run_load(&dir);
        }
        let left = std::sync::atomic::AtomicU64::new(hits.parse().unwrap());
        fail::cfg_callback(name, move || {
            if left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1 {
                std::process::abort();
            }
        })
        .unwrap();
    }
    run_load(&dir);
}

fn run_load(dir: &str) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(load(Path::new(dir)));
}

async fn load(dir: &Path) {
    let store = Store::open(dir, small_window(WINDOW)).unwrap();
    let mut watch = store.watch(&range("pods", None), store.revision()).unwrap();
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write_forever(store.clone(), writer))).collect();
    loop {
        let batch = watch.next(1_000).await.unwrap();
        say(&format!("\nsaw {}", batch.revision));
        assert!(writers.iter().all(|writer| !writer.is_finished()));
    }
}

/// Creates, updates and deletes keys that no other writer touches.
async fn write_forever(store: Store, writer: usize) {
    for round in 0_u64.. {
        let key = key(&format!("pods default {writer}-{}", round as usize % KEYS));
        let body = draft(format!("[{round},\"{}\"]", "x".repeat(6_000)));
        let write = match store.get(&key) {
            None => Write::Create { key: key.clone(), draft: body, meta: meta("u") },
            Some(now) if round % 7 == 0 => Write::Delete { key: key.clone(), expected: now.revision, draft: body },
            Some(now) => Write::Update { key: key.clone(), expected: now.revision, draft: body, meta: meta("u") },
        };
        let gone = matches!(write, Write::Delete { .. });
        match store.write(write).await {
            Ok(object) => say(&format!("\nack {} {} {} {gone}", key.name, object.revision, checksum(&object))),
            Err(WriteError::Closed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

fn checksum(object: &Object) -> u32 {
    crc32fast::hash(&object.bytes)
}

/// What an acknowledgement promised about a key.
struct Promise {
    revision: u64,
    checksum: u32,
    gone: bool,
}

#[derive(Default)]
struct Witness {
    promises: BTreeMap<String, Promise>,
    revisions: HashSet<u64>,
    seen: u64,
}

impl Witness {
    /// Reads what the victim says, until it has acknowledged `enough` writes (then kills it) and to the end.
    fn listen(&mut self, mut victim: Child, enough: usize) -> ExitStatus {
        let output = BufReader::new(victim.stdout.take().unwrap());
        let mut acknowledged = 0;
        for line in output.lines() {
            let line = line.unwrap();
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["saw", revision] => self.seen = self.seen.max(revision.parse().unwrap()),
                ["ack", name, revision, checksum, gone] => {
                    let promise =
                        Promise { revision: revision.parse().unwrap(), checksum: checksum.parse().unwrap(), gone: gone == "true" };
                    assert!(self.revisions.insert(promise.revision), "revision {revision} was given twice");
                    self.promises.insert(name.to_string(), promise);
                    acknowledged += 1;
                    if acknowledged == enough {
                        victim.kill().unwrap();
                    }
                }
                _ => {}
            }
        }
        let status = victim.wait().unwrap();
        assert!(!status.success(), "the victim ended by itself");
        assert!(acknowledged > 0 || enough == usize::MAX, "the victim acknowledged nothing: {status}");
        status
    }

    fn check(&mut self, dir: &Path) {
        let store = Store::open(dir, small_window(WINDOW)).unwrap();
        let newest = self.revisions.iter().max().copied().unwrap_or(1).max(self.seen);
        assert!(store.revision() >= newest, "revision {} was seen, {} is left", newest, store.revision());
        let (oldest, events) = history(&store);
        for (name, promise) in &self.promises {
            let key: Key = key(&format!("pods default {name}"));
            let now = store.get(&key);
            let later: Vec<_> = events.iter().filter(|event| event.object.key == key && event.object.revision > promise.revision).collect();
            assert!(later.len() <= 1, "{name}: a writer had one change in flight, not {}", later.len());
            match (later.first(), &now) {
                (Some(event), now) => assert_eq!(event.kind == EventKind::Deleted, now.is_none(), "{name}"),
                (None, None) => assert!(promise.gone, "{name}: revision {} is lost", promise.revision),
                (None, Some(now)) => {
                    assert_eq!((now.revision, checksum(now), false), (promise.revision, promise.checksum, promise.gone), "{name}");
                }
            }
        }
        let mut replayed: BTreeMap<Key, Arc<Object>> =
            store.list_at(&range("pods", None), None, 0, oldest).unwrap().items.into_iter().map(|object| (object.key.clone(), object)).collect();
        for (event, revision) in events.iter().zip(oldest + 1..) {
            assert_eq!(event.object.revision, revision, "a gap or a repeat");
            match event.kind {
                EventKind::Deleted => replayed.remove(&event.object.key),
                _ => replayed.insert(event.object.key.clone(), Arc::clone(&event.object)),
            };
        }
        let now = store.list(&range("pods", None), None, 0).items;
        assert_eq!(replayed.values().map(facts).collect::<Vec<_>>(), now.iter().map(facts).collect::<Vec<_>>());
        // What was read once must stay, acknowledged or not.
        self.seen = store.revision();
        self.promises.retain(|_, promise| promise.gone);
        for object in &now {
            let promise = Promise { revision: object.revision, checksum: checksum(object), gone: false };
            self.promises.insert(object.key.name.to_string(), promise);
        }
        for event in events.iter().filter(|event| event.kind == EventKind::Deleted && !replayed.contains_key(&event.object.key)) {
            let promise = Promise { revision: event.object.revision, checksum: checksum(&event.object), gone: true };
            self.promises.insert(event.object.key.name.to_string(), promise);
        }
    }
}

fn facts(object: &Arc<Object>) -> (Key, u64, u32) {
    (object.key.clone(), object.revision, checksum(object))
}

/// The oldest revision from which one can watch, and all events since.
fn history(store: &Store) -> (u64, Vec<Arc<mainstay_store::Event>>) {
    let pods = range("pods", None);
    let oldest = store.watch(&pods, 1).err().map_or(1, |expired| expired.oldest);
    if store.revision() == oldest {
        return (oldest, Vec::new());
    }
    let mut watch = store.watch(&pods, oldest).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    (oldest, runtime.block_on(watch.next(usize::MAX)).unwrap().events)
}

fn spawn(dir: &Path, failpoint: Option<String>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["crash::victim", "--exact", "--nocapture", "--test-threads=1"]).env(DIRECTORY, dir).stdout(Stdio::piped());
    command.stderr(Stdio::null());
    if let Some(failpoint) = failpoint {
        command.env(FAILPOINT, failpoint);
    }
    command.spawn().unwrap()
}

#[test]
fn nothing_acknowledged_is_lost_when_killed_at_random_moments() {
    let dir = tempfile::tempdir().unwrap();
    let mut witness = Witness::default();
    // A fixed sequence that looks random: a failure can be run again.
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..15 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        witness.listen(spawn(dir.path(), None), 1 + (random % 700) as usize);
        witness.check(dir.path());
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn nothing_acknowledged_is_lost_when_killed_at_a_failpoint() {
    for name in ["before-commit", "after-commit", "before-publish", "after-publish", "compact", "compacted", "checkpoint"] {
        let dir = tempfile::tempdir().unwrap();
        let mut witness = Witness::default();
        for hits in [1, 3, 1, 2] {
            witness.listen(spawn(dir.path(), Some(format!("store::{name} {hits}"))), usize::MAX);
            witness.check(dir.path());
        }
        println!("{name}: {} acknowledged", witness.revisions.len());
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn a_failed_sync_ends_the_process_and_what_was_acknowledged_before_is_there() {
    use std::os::unix::process::ExitStatusExt;
    let dir = tempfile::tempdir().unwrap();
    let mut witness = Witness::default();
    let status = witness.listen(spawn(dir.path(), Some("store::sync-fails return".to_owned())), usize::MAX);
    assert_eq!(status.signal(), Some(6), "{status}");
    assert!(!witness.revisions.is_empty());
    witness.check(dir.path());
}
