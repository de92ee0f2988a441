//! The command line.

mod completion;
mod down;
mod image;
mod purge;
mod serve;
mod status;
mod try_example;
mod up;

use crate::data_dir::DataDir;
use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// One machine as a Kubernetes for stateful sets and the databases on them.
///
/// `mainstay up` starts it, `kubectl` drives it, `mainstay down` stops it and keeps everything.
#[derive(Parser)]
#[command(name = "mainstay", version = crate::engine::VERSION, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the engine in the background and make its context current in your kubeconfig
    Up(up::Args),
    /// Stop the pods gracefully, then the engine; keeps objects and data (--purge removes them)
    Down(down::Args),
    /// Show the engine, its node and its pods
    Status(status::Args),
    /// Run the engine in the foreground (for systemd; see dist/mainstay.service)
    Serve(serve::Args),
    /// Run an example of a database or a queue, and say what to do with it
    Try(try_example::Args),
    /// Images on this node
    #[command(subcommand)]
    Image(image::Command),
    /// Print the version
    Version(VersionArgs),
    /// Print a completion script for a shell
    Completion(completion::Args),
}

impl Cli {
    /// Carries the command out.
    pub(crate) fn run(self) -> Result<()> {
        match self.command {
            Command::Up(args) => up::run(&args),
            Command::Down(args) => down::run(&args),
            Command::Status(args) => status::run(&args),
            Command::Serve(args) => serve::run(&args),
            Command::Try(args) => try_example::run(&args),
            Command::Image(command) => image::run(&command),
            Command::Version(args) => version(&args),
            Command::Completion(args) => completion::run(&args),
        }
    }
}

/// Which instance: every command that touches one takes it.
#[derive(Args, Clone)]
struct Instance {
    /// Where objects, volumes and images are kept; each data directory is a cluster of its own
    #[arg(long, value_name = "DIR", default_value = "/var/lib/mainstay")]
    data_dir: PathBuf,
}

impl Instance {
    fn open(&self) -> Result<DataDir> {
        DataDir::at(&self.data_dir)
    }
}

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For machines
    Json,
}

#[derive(Args)]
struct VersionArgs {
    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

fn version(args: &VersionArgs) -> Result<()> {
    match args.output {
        Output::Table => println!("mainstay {} (Kubernetes {})", crate::engine::VERSION, crate::engine::KUBERNETES),
        Output::Json => println!("{}", serde_json::json!({"mainstay": crate::engine::VERSION, "kubernetes": crate::engine::KUBERNETES})),
    }
    Ok(())
}

/// Containers, networks and mounts need root.
fn need_root(command: &str) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "running containers needs root: use `sudo mainstay {command}`");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
