//! `cargo run --release -p mainstay-store --example day [DIR]`: half a million updates of a thousand objects, which is more than a busy
//! day of a small cluster, and what that leaves on disk and in memory.

use mainstay_store::{Draft, Key, Meta, Options, Store, Write};
use std::path::Path;
use std::sync::Arc;

const OBJECTS: usize = 1_000;
const UPDATES: usize = 500_000;
const WRITERS: usize = 50;
const STEPS: usize = 10;

fn draft(number: usize) -> Draft {
    let mut head = format!(r#"{{"data":{{"number":"{number}","text":""#).into_bytes();
    head.resize(1_150, b'x');
    head.extend_from_slice(br#""},"metadata":{"resourceVersion":""#);
    Draft { head, tail: br#""}}"#.to_vec() }
}

async fn work(store: Store, writer: usize, updates: usize) {
    let keys: Vec<Key> = (writer..OBJECTS)
        .step_by(WRITERS)
        .map(|name| Key { resource: Arc::from("configmaps"), namespace: Arc::from("default"), name: format!("object-{name}").into() })
        .collect();
    for (number, key) in keys.iter().cycle().take(updates).enumerate() {
        let write = match store.get(key) {
            None => Write::Create { key: key.clone(), draft: draft(number), meta: Meta::default() },
            Some(now) => Write::Update { key: key.clone(), expected: now.revision, draft: draft(number), meta: Meta::default() },
        };
        store.write(write).await.expect("write");
    }
}

fn disk_bytes(dir: &Path) -> u64 {
    std::fs::read_dir(dir).expect("read the directory").map(|entry| entry.and_then(|entry| entry.metadata()).expect("a file").len()).sum()
}

fn rss_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("second field of statm") * 4_096
}

#[tokio::main]
async fn main() {
    let base = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let dir = base.join(format!("mainstay-store-day-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("make a directory");
    let store = Store::open(&dir, Options::default()).expect("open");
    println!("{:>10} {:>12} {:>12}", "updates", "disk, MB", "RSS, MB");
    for step in 1..=STEPS {
        let tasks: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(work(store.clone(), writer, UPDATES / STEPS / WRITERS))).collect();
        for task in tasks {
            task.await.expect("a writer panicked");
        }
        println!("{:>10} {:>12.1} {:>12.1}", step * UPDATES / STEPS, disk_bytes(&dir) as f64 / 1e6, rss_bytes() as f64 / 1e6);
    }
    store.close().await;
    println!("{:>10} {:>12.1} {:>12.1}", "closed", disk_bytes(&dir) as f64 / 1e6, rss_bytes() as f64 / 1e6);
    let begin = std::time::Instant::now();
    let store = Store::open(&dir, Options::default()).expect("open again");
    println!("opened again in {:.0} ms at revision {}", begin.elapsed().as_secs_f64() * 1e3, store.revision());
    store.close().await;
    std::fs::remove_dir_all(&dir).expect("remove the directory");
}
