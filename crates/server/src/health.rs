//! `/livez`, `/readyz`, `/healthz`, `/version`, `/metrics`.

use crate::handler::{Answer, json, typed};
use crate::route::Query;
use crate::server::Inner;
use http::request::Parts;
use serde_json::json;
use std::sync::atomic::Ordering;

/// What is looked at, by name.
const CHECKS: [&str; 3] = ["ping", "store", "bootstrap"];

/// `None`: not a path of this file.
pub(crate) fn answer(server: &Inner, parts: &Parts) -> Option<Answer> {
    let path = parts.uri.path();
    let (root, check) = match path.trim_start_matches('/').split_once('/') {
        Some((root, check)) => (root, Some(check)),
        None => (path.trim_start_matches('/'), None),
    };
    match (root, check) {
        ("version", None) => Some(Ok(json(200, version(server)))),
        ("metrics", None) => Some(Ok(typed(200, "text/plain; version=0.0.4", server.metrics.render(server.store.revision())))),
        ("livez" | "readyz" | "healthz", None) => Some(Ok(all(server, root, Query::parse(parts.uri.query()).flag("verbose")))),
        ("livez" | "readyz" | "healthz", Some(check)) if CHECKS.contains(&check) => Some(Ok(one(server, root, check))),
        _ => None,
    }
}

/// A server that has not made its system objects yet is alive but not ready.
fn passes(server: &Inner, root: &str, check: &str) -> bool {
    match check {
        "bootstrap" => root == "livez" || server.ready.load(Ordering::Acquire),
        "store" => server.store.revision() > 0,
        _ => true,
    }
}

fn all(server: &Inner, root: &str, verbose: bool) -> http::Response<crate::Body> {
    let mut lines = String::new();
    let mut good = true;
    for check in CHECKS {
        let passed = passes(server, root, check);
        good &= passed;
        lines += &if passed { format!("[+]{check} ok\n") } else { format!("[-]{check} failed: reason withheld\n") };
    }
    lines += &format!("{root} check {}\n", if good { "passed" } else { "failed" });
    let text = if good && !verbose { "ok".to_owned() } else { lines };
    typed(if good { 200 } else { 500 }, "text/plain; charset=utf-8", text)
}

fn one(server: &Inner, root: &str, check: &str) -> http::Response<crate::Body> {
    match passes(server, root, check) {
        true => typed(200, "text/plain; charset=utf-8", "ok"),
        false => typed(500, "text/plain; charset=utf-8", format!("internal server error: {check} is not done")),
    }
}

/// `version.Info`: kubectl compares `major` and `minor` with its own.
fn version(server: &Inner) -> String {
    let git_version = &server.config.git_version;
    let mut numbers = git_version.trim_start_matches('v').split('.');
    json!({
        "major": numbers.next().unwrap_or("1"),
        "minor": numbers.next().unwrap_or("36"),
        "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": git_version,
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other }),
    })
    .to_string()
}
