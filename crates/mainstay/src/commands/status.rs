//! `mainstay status`.

use super::{Instance, Output};
use crate::control;
use anyhow::Result;
use comfy_table::{Table, presets};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    instance: Instance,
    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let data = args.instance.open()?;
    let status = match control::status(&data) {
        Ok(status) => status,
        Err(reason) => {
            if args.output == Output::Json {
                println!("{}", serde_json::json!({"running": false, "dataDir": data.path(), "containersRunning": data.has_containers()}));
            }
            let pods = if data.has_containers() { "; its pods run on" } else { "" };
            anyhow::bail!("the engine of {} is not running{pods}: `mainstay up` starts it ({reason})", data.path().display());
        }
    };
    if args.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&status)?);
        return Ok(());
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for (name, value) in [
        ("engine", format!("running, pid {}, mainstay {}", status.pid, status.version)),
        ("API", status.url.clone()),
        ("data", format!("{} (store {:.1} MB)", status.data_dir.display(), status.store_bytes as f64 / 1e6)),
        ("node", format!("{} ({})", status.node, if status.node_ready { "Ready" } else { "NotReady" })),
        ("pods", format!("{} ({} running, {} ready)", status.pods, status.pods_running, status.pods_ready)),
        ("memory", format!("{:.1} MiB engine", status.memory_bytes as f64 / 1_048_576.0)),
        ("up for", format!("{} s", status.uptime_seconds)),
    ] {
        table.add_row(vec![name.to_owned(), value]);
    }
    for warning in &status.warnings {
        table.add_row(vec!["warning".to_owned(), warning.clone()]);
    }
    println!("{table}");
    Ok(())
}
