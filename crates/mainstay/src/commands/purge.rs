//! What `down --purge` removes: each part undoes its own.

use crate::data_dir::DataDir;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;
use std::time::Duration;

pub(super) fn run(data: &DataDir) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let locked = if data.path().exists() { Some(data.clone().lock().context("the engine still holds its data directory")?) } else { None };
    runtime.block_on(async {
        mainstay_node::purge(&crate::engine::node_config(data, String::new())).await.context("remove the pods")?;
        mainstay_network::Network::purge(&data.run_dir(), data.instance()).await.context("remove the network")
    })?;
    for dir in [data.run_dir(), data.path().to_owned()] {
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).with_context(|| format!("remove {}", dir.display())),
            _ => {}
        }
    }
    drop(locked);
    sweep();
    // Only if no other instance lives there.
    if fs::read_dir(crate::data_dir::RUN).is_ok_and(|mut left| left.all(|e| e.is_ok_and(|e| e.file_name() == "ranges.lock"))) {
        let _ = fs::remove_file(Path::new(crate::data_dir::RUN).join("ranges.lock"));
        let _ = fs::remove_dir(crate::data_dir::RUN);
    }
    Ok(())
}

/// Run directories in which nothing is: those of instances whose data directory went before anything was started. A younger one may belong to a start
/// that has only just begun.
fn sweep() {
    const YOUNG: Duration = Duration::from_secs(60);
    for entry in fs::read_dir(crate::data_dir::RUN).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > YOUNG) {
            // Fails where something is inside, which is then someone's.
            let _ = fs::remove_dir(entry.path());
        }
    }
}
