//! `mainstay serve`: the engine in the foreground.

use super::{Instance, need_root};
use crate::{engine, notify};
use anyhow::{Context as _, Result};

// Flattened into `up`, whose group has this name already.
#[derive(clap::Args, Clone)]
#[group(skip)]
pub(super) struct Args {
    #[command(flatten)]
    pub instance: Instance,
    /// Port of the API server on 127.0.0.1
    #[arg(long, default_value_t = 6443, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Write the context here instead of ~/.kube/config (of the user behind sudo), and keep its certificate from expiring
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<std::path::PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let result = serve(args);
    if let Err(error) = &result {
        // `mainstay up` prints it; systemd shows it in `systemctl status`.
        notify::failed(&format!("{error:#}"));
    }
    result
}

fn serve(args: &Args) -> Result<()> {
    need_root("serve")?;
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("MAINSTAY_LOG").unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let data = args.instance.open()?.lock()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4)))
        .max_blocking_threads(64)
        .thread_name("mainstay")
        .enable_all()
        .build()
        .context("start the runtime")?;
    let outcome = runtime.block_on(engine::run(data, engine::Options { port: args.port, kubeconfig: args.kubeconfig.clone() }));
    // Blocking work (a slow disk, a name look-up) must not hold up the exit of an engine that has stored everything.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    outcome
}
