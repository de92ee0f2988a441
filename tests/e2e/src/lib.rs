//! What the end-to-end tests share: an engine of their own, kubectl, and waiting for conditions.

mod kubectl;
mod machine;
mod terminal;
mod writer;

pub use kubectl::{Answer, Kubectl};
pub use machine::Machine;
pub use terminal::Terminal;
pub use writer::{Writer, lost};

use std::time::{Duration, Instant};

/// The repository: two folders above this crate, where cargo, or whoever runs the test binary by hand, starts it.
pub fn repository() -> std::path::PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| std::path::PathBuf::from("."), std::path::PathBuf::from);
    here.join("../..").canonicalize().expect("the repository is there")
}

/// Waits for a condition, asking every 50 ms; panics with what it was told last.
#[track_caller]
pub fn eventually<T, E: std::fmt::Display>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + limit;
    loop {
        match ask() {
            Ok(found) => return found,
            Err(last) if Instant::now() >= end => panic!("{what}: not within {limit:?}; last: {last}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
