//! The end-to-end suites. Each test has a namespace of its own on one shared engine; those of `instances.rs` have engines of their own.
//!
//! Needs root, the debug build of `mainstay` and the images (`scripts/test` makes both). `cargo test -p mainstay-e2e -- NAME` runs a part.

mod clusters;
mod galera;
mod instances;
mod kafka;
mod kubectl;
mod manifests;
mod mariadb;
mod mongodb;
mod own;
mod pods;
mod postgres;
mod readme;
mod redis;
mod regions;
mod spdy;
mod streams;
mod survival;
mod web;
mod workloads;

use libtest_mimic::{Arguments, Failed, Trial};
use mainstay_e2e::Machine;
use std::sync::OnceLock;

/// The shared engine, started by the first test that asks for it.
static SHARED: OnceLock<Machine> = OnceLock::new();

fn shared() -> &'static Machine {
    SHARED.get_or_init(|| Machine::start("shared", 16443).expect("the engine starts"))
}

type Test = (&'static str, fn(&Machine));
type OwnTest = (&'static str, fn());

/// Suites on the shared engine.
const SHARED_SUITES: &[(&str, &[Test])] = &[
    ("web", web::TESTS),
    ("kubectl", kubectl::TESTS),
    ("manifests", manifests::TESTS),
    ("streams", streams::TESTS),
    ("workloads", workloads::TESTS),
    ("postgres", postgres::TESTS),
    ("mariadb", mariadb::TESTS),
    ("galera", galera::TESTS),
    ("redis", redis::TESTS),
    ("regions", regions::TESTS),
];

/// Suites whose tests have engines of their own.
const OWN_SUITES: &[(&str, &[OwnTest])] = &[
    ("postgres", postgres::OWN),
    ("mariadb", mariadb::OWN),
    ("galera", galera::OWN),
    ("redis", redis::OWN),
    ("regions", regions::OWN),
    ("mongodb", mongodb::TESTS),
    ("clusters", clusters::TESTS),
    ("kafka", kafka::TESTS),
    ("survival", survival::TESTS),
    ("instances", instances::TESTS),
    ("readme", readme::TESTS),
];

fn main() -> std::process::ExitCode {
    let mut arguments = Arguments::from_args();
    // Two cores: more tests side by side only make each other slow.
    arguments.test_threads.get_or_insert(3);
    let mut trials = Vec::new();
    for (suite, tests) in SHARED_SUITES {
        trials.extend(tests.iter().map(|(name, run)| Trial::test(format!("{suite}::{name}"), move || guarded(|| run(shared())))));
    }
    for (suite, tests) in OWN_SUITES {
        trials.extend(tests.iter().map(|(name, run)| Trial::test(format!("{suite}::{name}"), move || guarded(run))));
    }
    trials.extend(pods::TESTS.iter().map(|(name, run)| Trial::test(format!("pods::{name}"), move || guarded(|| run(shared())))));
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(machine) = SHARED.get() {
        if conclusion.has_failed() {
            eprintln!("engine log: {}", machine.data_dir.join("engine.log").display());
            let _ = std::fs::copy(machine.data_dir.join("engine.log"), std::env::temp_dir().join("mainstay-e2e-engine.log"));
        }
        if let Err(error) = machine.purge() {
            eprintln!("purge: {error:#}");
            return std::process::ExitCode::FAILURE;
        }
    }
    conclusion.exit_code()
}

fn guarded(run: impl FnOnce()) -> Result<(), Failed> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(|panic| {
        let words = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Failed::from(words.unwrap_or_else(|| "panicked".into()))
    })
}
