//! Developer commands. `cargo xtask --help` lists them.

mod bench;
mod images;
mod tables;
mod tidy;
mod vm;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Mainstay's developer commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure the release build: the figures, each beside its target, a real Kubernetes and this machine's floor
    Bench(bench::Args),
    /// Build the images the examples use, from Debian packages, into .cache/images
    Images(images::Args),
    /// Check what the compiler does not: sizes, layering, licences, leftovers, the map in ARCHITECTURE.md
    Tidy,
    /// Try the program in a QEMU guest with systemd and cgroup v2
    Vm(vm::Args),
    /// Write the table of field facts from checkouts of k8s.io/api and k8s.io/apimachinery
    Tables {
        /// A checkout of k8s.io/api
        api: PathBuf,
        /// A checkout of k8s.io/apimachinery, of the same version
        apimachinery: PathBuf,
        /// Where to write
        #[arg(long, default_value = "crates/schema/src/facts.tsv")]
        output: PathBuf,
    },
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Bench(args) => bench::run(&args),
        Command::Images(args) => images::run(&args),
        Command::Tidy => tidy::run(),
        Command::Vm(args) => vm::run(&args),
        Command::Tables { api, apimachinery, output } => tables::run(&api, &apimachinery, &output),
    }
}
