//! `cargo xtask bench`: the program in `bench/`, on the release build.

use anyhow::{Context as _, Result, ensure};
use std::path::PathBuf;
use std::process::Command;

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Passed on; `cargo xtask bench -- --help` shows them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds both in release and measures.
pub fn run(args: &Args) -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let own = args.rest.iter().any(|argument| argument == "--mainstay" || argument.starts_with("--mainstay="));
    let mut packages = vec!["mainstay-bench"];
    if !own {
        packages.push("mainstay");
    }
    let mut build = Command::new(&cargo);
    build.args(["build", "--release"]);
    packages.iter().for_each(|package| {
        build.args(["--package", package]);
    });
    ensure!(build.status().context("run cargo build")?.success(), "the release build failed");
    let mut bench = Command::new(target.join("release/mainstay-bench"));
    if !own {
        bench.arg("--mainstay").arg(target.join("release/mainstay"));
    }
    let status = bench.args(&args.rest).status().context("run mainstay-bench")?;
    ensure!(status.success(), "mainstay-bench ended with {status}");
    Ok(())
}
