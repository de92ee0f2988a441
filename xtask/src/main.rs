//! Developer commands.

mod tables;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

#[derive(Parser)]
#[command(name = "xtask", about = "Developer commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
        Command::Tables { api, apimachinery, output } => tables::run(&api, &apimachinery, &output),
    }
}
