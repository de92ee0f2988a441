//! Writes, reads, conditions, pages, watches, reopening, damage.

use crate::support::*;
use mainstay_store::{Error, EventKind, Expired, Options, Store, Watch, WriteError};
use std::time::Duration;

async fn show_events(watch: &mut Watch, limit: usize) -> String {
    let batch = match tokio::time::timeout(Duration::from_secs(10), watch.next(limit)).await.expect("an event within ten seconds") {
        Ok(batch) => batch,
        Err(expired) => return expired.to_string(),
    };
    let events: Vec<String> = batch
        .events
        .iter()
        .map(|event| {
            let before = event.previous.as_ref().map_or(String::new(), |previous| format!(" was {}", value(previous)));
            format!("{:?} {}{before}", event.kind, show([&event.object]))
        })
        .collect();
    format!("{} | {}", events.join(", "), batch.revision)
}

#[tokio::test]
async fn writes_are_conditional_and_say_what_is_there_instead() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options { object_limit_bytes: 200, ..Options::default() }).unwrap();
    assert_eq!(store.revision(), 1);
    assert_eq!(create(&store, "pods default a", 1).await.unwrap().revision, 2);
    assert!(matches!(create(&store, "pods default a", 2).await, Err(WriteError::Exists(object)) if object.revision == 2));
    assert!(matches!(update(&store, "pods default a", 1, 2).await, Err(WriteError::Conflict(object)) if object.revision == 2));
    assert!(matches!(update(&store, "pods default b", 1, 2).await, Err(WriteError::NotFound)));
    assert!(matches!(delete(&store, "pods default b", 1, 2).await, Err(WriteError::NotFound)));
    assert!(matches!(create(&store, "pods default c", "1".repeat(200)).await, Err(WriteError::TooLarge { limit: 200, .. })));
    assert_eq!(update(&store, "pods default a", 2, 2).await.unwrap().revision, 3);
    assert!(matches!(delete(&store, "pods default a", 2, 2).await, Err(WriteError::Conflict(_))));
    assert_eq!(show([&delete(&store, "pods default a", 3, 9).await.unwrap()]), "a=9@4");
    assert!(store.get(&key("pods default a")).is_none());
    assert_eq!(create(&store, "pods default a", 5).await.unwrap().revision, 5);
    assert_eq!(store.revision(), 5);
    let clone = store.clone();
    store.close().await;
    assert!(matches!(create(&clone, "pods default z", 1).await, Err(WriteError::Closed)));
}

#[tokio::test]
async fn pages_follow_key_order_and_count_what_remains() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    for (value, at) in ["pods b x", "pods a y", "pods a x", "nodes - n", "pods c x", "apps/pods a z"].iter().enumerate() {
        create(&store, at, value).await.unwrap();
    }
    let all = store.list(&range("pods", None), None, 0);
    assert_eq!((show(&all.items).as_str(), all.remaining, all.revision), ("x=2@4 y=1@3 x=0@2 x=4@6", 0, 7));
    let first = store.list(&range("pods", None), None, 3);
    assert_eq!((first.items.len(), first.remaining), (3, 1));
    let rest = store.list(&range("pods", None), Some(&first.items[2].key), 3);
    assert_eq!((show(&rest.items).as_str(), rest.remaining), ("x=4@6", 0));
    let one = store.list(&range("pods", Some("a")), Some(&key("pods a x")), 1);
    assert_eq!((show(&one.items).as_str(), one.remaining), ("y=1@3", 0));
    assert_eq!(show(&store.list(&range("nodes", None), None, 0).items), "n=3@5");
    assert_eq!((store.count(&range("pods", None)), store.count(&range("pods", Some("a"))), store.count(&range("none", None))), (4, 2, 0));
    assert_eq!(store.owned_by("owner-1").len(), 6);
    assert!(store.owned_by("owner-").is_empty());
}

#[tokio::test]
async fn a_watch_sees_its_range_only_and_its_bookmark_moves_over_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let mut pods = store.watch(&range("pods", None), 1).unwrap();
    let mut other = store.watch(&range("pods", Some("other")), 1).unwrap();
    create(&store, "pods default a", 1).await.unwrap();
    create(&store, "nodes - n", 1).await.unwrap();
    update(&store, "pods default a", 2, 2).await.unwrap();
    delete(&store, "pods default a", 4, 3).await.unwrap();
    create(&store, "nodes - m", 1).await.unwrap();
    assert_eq!(show_events(&mut pods, 2).await, "Added a=1@2, Modified a=2@4 was 1 | 4");
    assert_eq!(pods.revision(), 4, "a deletion waits");
    assert_eq!(show_events(&mut pods, 2).await, "Deleted a=3@5 was 2 | 6");
    assert_eq!(other.revision(), 6);
    assert!(tokio::time::timeout(Duration::from_millis(20), other.next(1)).await.is_err());
    create(&store, "pods other b", 7).await.unwrap();
    assert_eq!(show_events(&mut other, 9).await, "Added b=7@7 | 7");
    let mut late = store.watch(&range("pods", None), 4).unwrap();
    assert_eq!(show_events(&mut late, 9).await, "Deleted a=3@5 was 2, Added b=7@7 | 7");
}

#[tokio::test]
async fn a_watch_that_falls_out_of_the_window_expires_and_one_of_a_quiet_kind_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), small_window(3)).unwrap();
    let mut quiet = store.watch(&range("nodes", None), 1).unwrap();
    let mut quiet_namespace = store.watch(&range("pods", Some("other")), 1).unwrap();
    let mut slow = store.watch(&range("pods", None), 1).unwrap();
    for name in 0..6 {
        create(&store, &format!("pods default {name}"), name).await.unwrap();
    }
    assert_eq!(slow.next(1).await.unwrap_err(), Expired { requested: 1, oldest: 4 });
    assert_eq!(slow.revision(), 1);
    assert_eq!(store.watch(&range("pods", None), 3).unwrap_err(), Expired { requested: 3, oldest: 4 });
    assert!(store.watch(&range("pods", None), 4).is_ok());
    create(&store, "nodes - n", 1).await.unwrap();
    assert_eq!(show_events(&mut quiet, 9).await, "Added n=1@8 | 8");
    assert_eq!(quiet_namespace.revision(), 8);
}

#[tokio::test]
async fn an_older_revision_lists_as_it_was_until_it_is_no_longer_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), small_window(4)).unwrap();
    for name in ["b", "d", "f"] {
        create(&store, &format!("pods x {name}"), 0).await.unwrap();
    }
    let at = store.revision();
    create(&store, "pods x a", 1).await.unwrap();
    delete(&store, "pods x d", 3, 1).await.unwrap();
    update(&store, "pods x f", 4, 1).await.unwrap();
    let pods = range("pods", None);
    let page = store.list_at(&pods, None, 2, at).unwrap();
    assert_eq!((show(&page.items).as_str(), page.remaining, page.revision), ("b=0@2 d=0@3", 1, at));
    assert_eq!(show(&store.list_at(&pods, Some(&key("pods x d")), 2, at).unwrap().items), "f=0@4");
    assert_eq!(show(&store.list_at(&pods, None, 0, at + 1).unwrap().items), "a=1@5 b=0@2 d=0@3 f=0@4");
    assert_eq!(show(&store.list(&pods, None, 0).items), "a=1@5 b=0@2 f=1@7");
    create(&store, "pods x g", 1).await.unwrap();
    create(&store, "pods x h", 1).await.unwrap();
    assert_eq!(store.list_at(&pods, None, 0, at).unwrap_err().oldest, at + 1);
}

#[tokio::test]
async fn everything_is_there_after_reopening_and_a_watcher_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    create(&store, "pods default a", 1).await.unwrap();
    create(&store, "pods default b", 1).await.unwrap();
    update(&store, "pods default a", 2, 2).await.unwrap();
    delete(&store, "pods default b", 3, 2).await.unwrap();
    store.close().await;
    let store = Store::open(dir.path(), Options::default()).unwrap();
    assert_eq!(store.revision(), 5);
    let a = store.get(&key("pods default a")).unwrap();
    assert_eq!((show([&a]).as_str(), &a.meta), ("a=2@4", &meta("u")));
    assert_eq!(store.owned_by("owner-1").len(), 1);
    let mut watch = store.watch(&range("pods", None), 3).unwrap();
    assert_eq!(show_events(&mut watch, 9).await, "Modified a=2@4 was 1, Deleted b=2@5 was 1 | 5");
    assert_eq!(show(&store.list_at(&range("pods", None), None, 0, 3).unwrap().items), "a=1@2 b=1@3");
    assert_eq!(create(&store, "pods default b", 3).await.unwrap().revision, 6);
}

#[tokio::test]
async fn revisions_go_on_rising_when_all_objects_are_gone_and_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), small_window(1)).unwrap();
    let mut last = 1;
    for _ in 0..400 {
        let made = create(&store, "pods default a", 1).await.unwrap().revision;
        last = delete(&store, "pods default a", made, 1).await.unwrap().revision;
    }
    store.close().await;
    let store = Store::open(dir.path(), small_window(1)).unwrap();
    assert_eq!(store.revision(), last);
    assert_eq!(store.count(&range("pods", None)), 0);
    assert!(store.watch(&range("pods", None), 5).is_err());
    assert!(create(&store, "pods default a", 1).await.unwrap().revision > last);
}

#[tokio::test]
async fn many_writers_of_one_object_lose_no_increment() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    create(&store, "pods default counter", 0).await.unwrap();
    let writers: Vec<_> = (0..16)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..25 {
                    let mut now = store.get(&key("pods default counter")).unwrap();
                    loop {
                        let next = value(&now).parse::<u64>().unwrap() + 1;
                        match update(&store, "pods default counter", now.revision, next).await {
                            Ok(_) => break,
                            Err(WriteError::Conflict(newer)) => now = newer,
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(value(&store.get(&key("pods default counter")).unwrap()), "400");
}

#[tokio::test]
async fn a_full_disk_refuses_writes_keeps_reading_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options { disk_limit_bytes: 512 << 10, window_events: 1, ..Options::default() }).unwrap();
    let big = "1".repeat(50_000);
    let mut made = Vec::new();
    let refused = loop {
        match create(&store, &format!("pods default {}", made.len()), &big).await {
            Ok(object) => made.push(object),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, WriteError::Full), "{refused}");
    let last = store.revision();
    assert_eq!(last, made.last().unwrap().revision);
    assert_eq!(store.count(&range("pods", None)), made.len());
    // Deleting frees room only once the history has moved on, so more than one goes.
    for object in &made[..4] {
        store.write(mainstay_store::Write::Delete { key: object.key.clone(), expected: object.revision, draft: draft(0) }).await.unwrap();
    }
    let mut tries = 0;
    while let Err(error) = create(&store, "pods default again", &big).await {
        assert!(matches!(error, WriteError::Full));
        tries += 1;
        assert!(tries < 5, "room was never found again");
    }
    drop(store);
    let store = Store::open(dir.path(), Options::default()).unwrap();
    assert_eq!(store.count(&range("pods", None)), made.len() - 4 + 1);
}

#[tokio::test]
async fn a_changed_byte_a_lost_record_a_newer_format_and_a_foreign_file_are_told_apart() {
    let cases: [(&str, &str); 5] = [
        ("UPDATE log SET body = replace(CAST(body AS TEXT), '7', '8') WHERE revision = 3", "the record of revision 3 does not match its checksum"),
        ("DELETE FROM log WHERE revision = 2", "has lost records before revision 3"),
        ("DELETE FROM bounds", "does not say from where its history is complete"),
        ("PRAGMA user_version = 9", "format 9, this version knows up to 1"),
        ("PRAGMA application_id = 9", "is a database of another program"),
    ];
    for (harm, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        create(&store, "pods default a", 7).await.unwrap();
        create(&store, "pods default b", 7).await.unwrap();
        store.close().await;
        let path = dir.path().join("store.db");
        let database = rusqlite::Connection::open(&path).unwrap();
        let harm = harm.replace("replace(CAST(body AS TEXT), '7', '8')", "CAST(replace(CAST(body AS TEXT), '7', '8') AS BLOB)");
        database.execute_batch(&harm).unwrap();
        drop(database);
        let error = Store::open(dir.path(), Options::default()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected), "{harm}: {text}");
        if matches!(error, Error::Damaged(_)) {
            assert!(text.contains(path.to_str().unwrap()) && text.contains("restore the data directory"), "{text}");
        }
    }
}

#[tokio::test]
async fn garbage_instead_of_a_database_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("store.db"), vec![7; 100_000]).unwrap();
    assert!(matches!(Store::open(dir.path(), Options::default()).unwrap_err(), Error::Damaged(_)));
}

#[tokio::test]
async fn the_first_event_of_a_key_is_an_addition_also_after_a_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let mut watch = store.watch(&range("pods", Some("default")), 1).unwrap();
    let made = create(&store, "pods default a", 1).await.unwrap();
    delete(&store, "pods default a", made.revision, 1).await.unwrap();
    create(&store, "pods default a", 2).await.unwrap();
    let kinds: Vec<EventKind> = watch.next(9).await.unwrap().events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Added, EventKind::Deleted, EventKind::Added]);
}
