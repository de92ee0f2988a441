//! What must not grow does not.

use crate::support::*;
use mainstay_store::{Options, Store};

fn size(dir: &std::path::Path) -> u64 {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn updates_without_end_leave_files_of_bounded_size() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), small_window(100)).unwrap();
    let body = "1".repeat(4_000);
    let writers: Vec<_> = (0..32)
        .map(|writer| {
            let (store, body) = (store.clone(), body.clone());
            tokio::spawn(async move {
                let at = format!("pods default {writer}");
                let mut revision = create(&store, &at, &body).await.unwrap().revision;
                for _ in 0..400 {
                    revision = update(&store, &at, revision, &body).await.unwrap().revision;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    // 51 MB were written; the bound is the backlog of the compaction and twice the WAL's step.
    assert!(size(dir.path()) < 50 << 20, "{} bytes", size(dir.path()));
    store.close().await;
    let closed = size(dir.path());
    let store = Store::open(dir.path(), Options::default()).unwrap();
    assert_eq!(store.count(&range("pods", None)), 32);
    assert!(closed < 45 << 20, "{closed} bytes");
}
