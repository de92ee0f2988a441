//! Mainstay: one binary that makes one machine a Kubernetes for stateful sets.
//!
//! | file | what |
//! |---|---|
//! | `commands/` | one file a command: parse, call, print |
//! | `engine.rs` | the parts, wired: what `serve` runs |
//! | `data_dir.rs` | the data directory: lock, format, ranges |
//! | `pki.rs` | keys and certificates, made and renewed |
//! | `kubeconfig.rs` | the context `mainstay` in the user's file |
//! | `examples.rs`, `watch_pods.rs` | the embedded examples, and how far their pods are, for `try` |
//! | `control.rs` | how `down` and `status` speak with a running engine |
//! | `memory.rs` | what an idle engine gives back |
//! | `notify.rs` | how an engine says how far its start is (systemd's protocol) |

mod commands;
mod control;
mod data_dir;
mod engine;
mod examples;
mod kubeconfig;
mod memory;
mod notify;
mod pki;
mod port;
mod watch_pods;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = commands::Cli::parse();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, with its causes; what to do is in the words.
            eprintln!("mainstay: {error:#}");
            ExitCode::FAILURE
        }
    }
}
