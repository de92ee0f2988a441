//! What `down --purge` removes: each part undoes its own.

use crate::data_dir::DataDir;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;

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
    // Only if no other instance lives there.
    if fs::read_dir(crate::data_dir::RUN).is_ok_and(|mut left| left.all(|e| e.is_ok_and(|e| e.file_name() == "ranges.lock"))) {
        let _ = fs::remove_file(Path::new(crate::data_dir::RUN).join("ranges.lock"));
        let _ = fs::remove_dir(crate::data_dir::RUN);
    }
    Ok(())
}
