//! `cargo xtask tidy`: what the compiler does not check. Each finding names the file and what to do; none is a warning.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines from which a file holds more than one idea.
const LONGEST_FILE: usize = 1000;

/// Words that mean that something was left for later, or that a machine's own paths went in.
const LEFTOVERS: &[&str] = &["todo!(", "unimplemented!(", "dbg!(", "FIXME", "XXX", "/work/", "/root/.cargo"];

/// Who may depend on whom, by crate: the first column never reaches the second (invariant 1: the API is the only door).
const NEVER: &[(&str, &[&str])] = &[
    ("mainstay-controllers", &["mainstay-store", "mainstay-server", "mainstay-node"]),
    ("mainstay-scheduler", &["mainstay-store", "mainstay-server", "mainstay-node"]),
    ("mainstay-node", &["mainstay-store", "mainstay-server"]),
    ("mainstay-proxy", &["mainstay-store", "mainstay-server"]),
    ("mainstay-dns", &["mainstay-store", "mainstay-server"]),
    ("mainstay-client", &["mainstay-store", "mainstay-server"]),
    ("mainstay-server", &["mainstay-node", "mainstay-controllers"]),
    ("mainstay-store", &["mainstay-api", "mainstay-server"]),
];

/// Runs every check and shows all findings before it fails.
pub fn run() -> Result<()> {
    let metadata = metadata()?;
    let mut findings = Vec::new();
    files(&mut findings)?;
    layers(&metadata, &mut findings)?;
    licences(&metadata, &mut findings)?;
    map(&mut findings)?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => println!("tidy: nothing found"),
        n => bail!("{n} findings"),
    }
    Ok(())
}

fn metadata() -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(["metadata", "--format-version", "1", "--locked"]).output().context("run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Sizes and leftovers of all tracked sources.
fn files(findings: &mut Vec<String>) -> Result<()> {
    let output = Command::new("git").args(["ls-files", "*.rs", "*.sh", "*.md", "*.toml", "*.yaml", "*Containerfile", "scripts/*"]).output().context("run git ls-files")?;
    let this = Path::new(file!()).file_name();
    for path in String::from_utf8(output.stdout)?.lines().map(PathBuf::from) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let lines = text.lines().count();
        if lines > LONGEST_FILE && path.extension().is_some_and(|e| e == "rs") {
            findings.push(format!("{}: {lines} lines: split it along its ideas (at most {LONGEST_FILE})", path.display()));
        }
        if path.file_name() == this {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = LEFTOVERS.iter().find(|word| line.contains(**word)) {
                findings.push(format!("{}:{}: {word:?} does not belong in a commit", path.display(), number + 1));
            }
        }
    }
    Ok(())
}

/// The crates' dependencies, tests aside.
fn layers(metadata: &Value, findings: &mut Vec<String>) -> Result<()> {
    let packages = metadata["packages"].as_array().context("cargo metadata has packages")?;
    for (user, forbidden) in NEVER {
        let package = packages.iter().find(|p| p["name"] == *user).with_context(|| format!("{user} is a crate"))?;
        for dependency in package["dependencies"].as_array().into_iter().flatten().filter(|d| d["kind"].is_null()) {
            if let Some(name) = forbidden.iter().find(|name| dependency["name"] == **name) {
                findings.push(format!("{user} depends on {name}: it may see the cluster only through the API"));
            }
        }
    }
    Ok(())
}

/// Every dependency's licence offers a choice that `deny.toml` allows.
fn licences(metadata: &Value, findings: &mut Vec<String>) -> Result<()> {
    let deny = fs::read_to_string("deny.toml").context("run it in the repository's root")?;
    let line = deny.lines().find(|line| line.starts_with("allow = [")).context("deny.toml has a line `allow = [`")?;
    let allowed: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
    for package in metadata["packages"].as_array().into_iter().flatten().filter(|p| !p["source"].is_null()) {
        let licence = package["license"].as_str().unwrap_or("");
        if !permits(licence, &allowed) {
            findings.push(format!("{} {}: licence {licence:?} is not in deny.toml", package["name"].as_str().unwrap_or(""), package["version"].as_str().unwrap_or("")));
        }
    }
    Ok(())
}

/// Whether an SPDX expression can be met: every AND part has an OR choice that is allowed.
fn permits(expression: &str, allowed: &[&str]) -> bool {
    let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
    plain.split(" AND ").all(|part| part.split(" OR ").any(|choice| allowed.contains(&choice.trim())))
}

/// Every crate has its row in the map.
fn map(findings: &mut Vec<String>) -> Result<()> {
    let architecture = fs::read_to_string("ARCHITECTURE.md")?;
    for entry in fs::read_dir("crates")?.flatten() {
        let name = format!("crates/{}", entry.file_name().to_string_lossy());
        if entry.path().join("Cargo.toml").is_file() && !architecture.contains(&format!("`{name}`")) {
            findings.push(format!("{name} is not in ARCHITECTURE.md's map"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::permits;

    #[test]
    fn a_licence_is_met_by_any_choice_of_every_part() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"];
        for (expression, met) in [("MIT", true), ("GPL-3.0", false), ("MIT OR GPL-2.0", true), ("MIT/Apache-2.0", true), ("(MIT OR Apache-2.0) AND Unicode-3.0", true), ("MIT AND GPL-2.0", false), ("", false)] {
            assert_eq!(permits(expression, &allowed), met, "{expression}");
        }
    }
}
