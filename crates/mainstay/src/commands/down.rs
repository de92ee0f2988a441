//! `mainstay down`.

use super::{Instance, need_root, purge, serve, up};
use crate::{control, kubeconfig};
use anyhow::{Context as _, Result, bail};
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Instant;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    instance: Instance,
    /// Remove everything: objects, volumes with their data, images, networks, the kubeconfig context
    #[arg(long)]
    purge: bool,
    /// Do not ask before --purge
    #[arg(short, long)]
    yes: bool,
    /// The kubeconfig that `up` wrote to, if it was told one
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Longest time the pods get together, in seconds; each also has its own grace period
    #[arg(long, default_value_t = 120)]
    timeout: u64,
}

pub(super) fn run(args: &Args) -> Result<()> {
    need_root("down")?;
    let data = args.instance.open()?;
    if args.purge && !args.yes {
        confirm(&data.path().display().to_string())?;
    }
    let begun = Instant::now();
    // Pods outlive an engine that was killed; stopping them gracefully needs one.
    let running = control::status(&data).is_ok();
    if !running && data.has_containers() && !args.purge {
        let port = data.last_port().unwrap_or(6443);
        up::start(&data, &serve::Args { instance: args.instance.clone(), port, kubeconfig: None }).context("start the engine to stop its pods")?;
    }
    if running || control::status(&data).is_ok() {
        control::down(&data, args.timeout, |step| println!("  {step}"))?;
        println!("stopped in {:.1} s", begun.elapsed().as_secs_f64());
    } else if !args.purge {
        println!("mainstay is not running");
    }
    if args.purge {
        // First, while it is still known which entries are ours.
        kubeconfig::remove(&kubeconfig::target(args.kubeconfig.as_deref())?, &data)?;
        purge::run(&data)?;
        println!("removed {} and everything that belonged to it", data.path().display());
    } else {
        println!("objects and data are kept in {}; `mainstay up` starts the same pods again", data.path().display());
    }
    Ok(())
}

fn confirm(what: &str) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        bail!("--purge removes {what} with all volumes: add --yes to say that you mean it");
    }
    print!("This removes {what} with every volume and its data. Type yes to go on: ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() != "yes" {
        bail!("nothing was removed");
    }
    Ok(())
}
