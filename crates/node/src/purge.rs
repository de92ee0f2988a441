//! Removing everything of an instance, from what the kernel and the disk show alone.

use crate::container::cgroup;
use crate::{Config, Error, mounts};
use mainstay_supervisor::Containers;
use std::io;

/// See [`crate::purge`].
pub(crate) async fn purge(config: &Config) -> Result<(), Error> {
    let at = |doing: &'static str| move |source: io::Error| Error::Start { doing, source };
    let dir = config.run_dir.join("containers");
    if dir.is_dir() {
        let containers = Containers::open(&dir).map_err(|e| at("find the containers")(io::Error::other(e)))?;
        let found = containers.adopt().await.map_err(|e| at("find the containers")(io::Error::other(e)))?;
        for container in found {
            let ended = async {
                container.kill_all().await?;
                container.wait().await;
                container.remove().await
            };
            ended.await.map_err(|e| at("end a container")(io::Error::other(e)))?;
        }
    }
    let config = config.clone();
    tokio::task::spawn_blocking(move || {
        mounts::unmount_below(&config.run_dir).map_err(at("unmount what is below the run directory"))?;
        for name in ["pods", "logs"] {
            let dir = config.data_dir.join(name);
            mounts::unmount_below(&dir).and_then(|()| mounts::remove_tree(&dir)).map_err(at("remove pods' files"))?;
        }
        cgroup::remove_instance(&config.instance).map_err(at("remove cgroups"))?;
        mounts::remove_tree(&config.data_dir.join("volumes")).map_err(at("remove volumes"))?;
        for name in ["containers", "pods", "secrets", "layers"] {
            mounts::remove_tree(&config.run_dir.join(name)).map_err(at("remove the run directory"))?;
        }
        match std::fs::remove_file(config.run_dir.join("node.sock")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at("remove the node's socket")(e)),
            _ => Ok(()),
        }
    })
    .await
    .map_err(|e| at("remove files")(io::Error::other(e)))?
}
