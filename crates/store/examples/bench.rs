//! `cargo run --release -p mainstay-store --example bench [DIR]`: durable creates a second with 64 writers, the median latency at one,
//! rows a second of full batches, a fan-out, and memory an object; each beside what the disk itself takes for an fdatasync.

use mainstay_store::{Draft, Key, Meta, Options, Range, Store, Write};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const RUNS: usize = 5;
const OBJECTS: usize = 10_000;

fn key(resource: &str, name: usize) -> Key {
    Key { resource: resource.into(), namespace: "default".into(), name: format!("object-{name:06}").into() }
}

/// 1.2 KB, like a small pod.
fn draft() -> Draft {
    let mut head = br#"{"apiVersion":"v1","data":{"text":""#.to_vec();
    head.resize(1_120, b'x');
    head.extend_from_slice(br#""},"kind":"ConfigMap","metadata":{"name":"object","resourceVersion":""#);
    Draft { head, tail: br#""}}"#.to_vec() }
}

fn meta(name: usize) -> Meta {
    Meta { uid: format!("7d1f9d0e-0000-4000-8000-{name:012}").into(), labels: vec![("app".into(), "bench".into())], ..Meta::default() }
}

async fn create(store: &Store, resource: &str, name: usize) {
    let write = Write::Create { key: key(resource, name), draft: draft(), meta: meta(name) };
    if let Err(error) = store.write(write).await {
        panic!("create {name}: {error}");
    }
}

/// Creates `OBJECTS` objects with as many writers; objects a second.
async fn creates(store: &Store, writers: usize, run: usize) -> f64 {
    let resource = format!("run-{run}");
    let begin = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (store, resource) = (store.clone(), resource.clone());
            tokio::spawn(async move {
                for name in (writer..OBJECTS).step_by(writers) {
                    create(&store, &resource, name).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a writer panicked");
    }
    OBJECTS as f64 / begin.elapsed().as_secs_f64()
}

fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("figures are comparable"));
    values[values.len() / 2]
}

fn rss_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("second field of statm");
    pages * 4_096
}

/// The floor: the median of appending 1.2 KB to a file that has its size already, and syncing it.
fn fdatasync(dir: &Path) -> Duration {
    use std::os::unix::fs::FileExt;
    let mut file = std::fs::File::create(dir.join("floor")).expect("create a file");
    file.write_all(&vec![0; 4 << 20]).expect("fill it");
    file.sync_all().expect("sync it");
    let times = (0..500)
        .map(|number| {
            let begin = Instant::now();
            file.write_all_at(&[1; 8_192], (number % 500) * 8_192).expect("write");
            file.sync_data().expect("sync");
            begin.elapsed()
        })
        .collect();
    std::fs::remove_file(dir.join("floor")).expect("remove it");
    median(times)
}

async fn fan_out(store: &Store, watchers: usize) -> (f64, f64) {
    const EVENTS: usize = 300;
    let range = Range { resource: Arc::from("watched"), namespace: None };
    let from = store.revision();
    let tasks: Vec<_> = (0..watchers)
        .map(|_| {
            let mut watch = store.watch(&range, from).expect("the newest revision is kept");
            tokio::spawn(async move {
                let mut seen = 0;
                while seen < EVENTS {
                    seen += watch.next(100).await.expect("kept up").events.len();
                }
            })
        })
        .collect();
    let (begin, cpu) = (Instant::now(), cpu_time());
    for name in 0..EVENTS {
        create(store, "watched", name).await;
    }
    for task in tasks {
        task.await.expect("a watcher panicked");
    }
    let events = (EVENTS * watchers) as f64;
    (events / begin.elapsed().as_secs_f64(), (cpu_time() - cpu).as_secs_f64() * 1e6 / events)
}

fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name in brackets").split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime");
    Duration::from_millis(ticks * 10)
}

#[tokio::main]
async fn main() {
    let base = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let dir = base.join(format!("mainstay-store-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("make a directory");
    println!("fdatasync of 8 KiB, the floor of a write     {:>10.3} ms", fdatasync(&dir).as_secs_f64() * 1e3);

    let before = rss_bytes();
    let store = Store::open(&dir, Options::default()).expect("open");
    let first = creates(&store, 64, 0).await;
    println!("memory an object of 1.2 KB, all included     {:>10.2} KB", (rss_bytes() - before) as f64 / OBJECTS as f64 / 1e3);
    let mut rates = vec![first];
    for run in 1..RUNS {
        rates.push(creates(&store, 64, run).await);
    }
    println!("durable creates, 64 writers                  {:>10.0} /s", median(rates));
    let rates = RUNS..2 * RUNS;
    let mut full = Vec::new();
    for run in rates {
        full.push(creates(&store, 512, run).await);
    }
    println!("durable creates, 512 writers                 {:>10.0} /s", median(full));

    let mut times = Vec::new();
    for name in 0..1_000 {
        let begin = Instant::now();
        create(&store, "alone", name).await;
        times.push(begin.elapsed());
    }
    let mut sorted = times.clone();
    sorted.sort();
    println!("one writer: p50, p99, most                   {:>10.3} ms {:>8.3} ms {:>8.3} ms", median(times).as_secs_f64() * 1e3, sorted[989].as_secs_f64() * 1e3, sorted[999].as_secs_f64() * 1e3);

    let range = Range { resource: Arc::from("run-0"), namespace: None };
    let lists = (0..50).map(|_| { let begin = Instant::now(); assert_eq!(store.list(&range, None, 0).items.len(), OBJECTS); begin.elapsed() }).collect();
    println!("list of {OBJECTS}                                {:>10.3} ms", median(lists).as_secs_f64() * 1e3);

    let (rate, cpu) = fan_out(&store, 1_000).await;
    println!("events to 1,000 watchers                     {rate:>10.0} /s {cpu:>8.2} µs of CPU each");

    store.close().await;
    let begin = Instant::now();
    let store = Store::open(&dir, Options::default()).expect("open again");
    println!("open with {} objects                     {:>10.1} ms", 11 * OBJECTS, begin.elapsed().as_secs_f64() * 1e3);
    store.close().await;
    std::fs::remove_dir_all(&dir).expect("remove the directory");
}
