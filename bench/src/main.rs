//! `cargo xtask bench`: the figures this project promises, measured on an engine of its own.
//!
//! | file | what |
//! |---|---|
//! | `rows.rs`, `rows/` | what is measured: one function a row of the table |
//! | `lab.rs` | what every row is given: engine, kubectl, floors, number of runs |
//! | `machine.rs` | an engine with a data directory and a port of its own, removed when dropped |
//! | `api.rs`, `watch.rs` | a lean HTTPS client with the kubeconfig's certificate; watches whose events carry the time of their arrival |
//! | `floors.rs` | what this machine can do at best: the denominator of every figure |
//! | `figure.rs`, `report.rs` | samples, targets, and how they are shown |
//!
//! All times are taken on one clock (`Instant`) in this process: when a request is sent, and when the bytes of an event arrive.

mod api;
mod dns;
mod figure;
mod floors;
mod kubectl;
mod lab;
mod machine;
mod manifests;
mod process;
mod report;
mod rows;
mod watch;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use lab::Lab;
use std::path::PathBuf;

#[derive(Parser)]
#[command(name = "mainstay-bench", about = "Measure Mainstay beside its targets, a real Kubernetes, and this machine's floors")]
struct Cli {
    /// The program to measure
    #[arg(long, default_value = "target/release/mainstay")]
    mainstay: PathBuf,
    /// Only these rows (see --list)
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    only: Vec<String>,
    /// Three runs of everything: to see that the bench works
    #[arg(long)]
    quick: bool,
    /// Write the figures with all samples as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Show the medians of an earlier --json beside
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Write docs/figures.md
    #[arg(long)]
    write: bool,
    /// First of the ports the engines listen on
    #[arg(long, default_value_t = 16444)]
    port: u16,
    /// Show the names of the rows
    #[arg(long)]
    list: bool,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if cli.list {
        for row in rows::ALL {
            println!("{:<18} {}", row.name, row.about);
        }
        return Ok(());
    }
    for name in &cli.only {
        ensure!(rows::ALL.iter().any(|row| row.name == name), "there is no row {name:?}; --list shows the names");
    }
    ensure!(nix::unistd::geteuid().is_root(), "running containers needs root: run it with sudo");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            outcome = measure(&cli) => outcome,
            // Leaving by this path drops the engines, which removes them.
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        }
    })
}

async fn measure(cli: &Cli) -> Result<()> {
    let mainstay = cli.mainstay.canonicalize().with_context(|| format!("{} is not built: cargo build --release", cli.mainstay.display()))?;
    let earlier = cli.compare.as_deref().map(report::earlier).transpose()?;
    let chosen: Vec<_> = rows::ALL.iter().filter(|row| cli.only.is_empty() || cli.only.iter().any(|name| name == row.name)).collect();
    let mut lab = Lab::open(mainstay, cli.port, cli.quick).await?;
    let mut results = Vec::new();
    for row in chosen {
        eprintln!("{}: {}", row.name, row.about);
        let measured = rows::run(row, &mut lab).await;
        match &measured {
            Ok(figures) => figures.iter().for_each(|figure| eprintln!("  {}: {}", figure.what, figure.shown())),
            Err(error) => eprintln!("  failed: {error:#}"),
        }
        results.push(report::Measured { row: row.name, about: row.about, figures: measured });
    }
    let machine = lab.machine_words();
    drop(lab);
    println!("{}", report::terminal(&results, earlier.as_ref()));
    println!("{machine}");
    if let Some(file) = &cli.json {
        std::fs::write(file, report::json(&machine, &results)).with_context(|| format!("write {}", file.display()))?;
    }
    if cli.write {
        std::fs::create_dir_all("docs")?;
        std::fs::write("docs/figures.md", report::markdown(&machine, &results)).context("write docs/figures.md")?;
    }
    let failed: Vec<_> = results.iter().filter(|r| r.figures.is_err()).map(|r| r.row).collect();
    ensure!(failed.is_empty(), "rows that could not be measured: {}", failed.join(", "));
    Ok(())
}
