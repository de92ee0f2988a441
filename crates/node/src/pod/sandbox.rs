//! What a pod's containers share: network, IPC and UTS namespaces, `/dev/shm`, the files in `/etc`, the pod's cgroup.

use crate::container::{cgroup, etc, paths::Paths};
use crate::context::Node;
use crate::pod::reference::{PodRef, host_network};
use crate::{mounts, namespaces, records};
use k8s_openapi::api::core::v1::Pod;
use nix::mount::{MsFlags, mount};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A made sandbox.
#[derive(Clone, Debug)]
pub(crate) struct Sandbox {
    pub(crate) ip: String,
    /// `None`: the host's.
    pub(crate) network: Option<PathBuf>,
    pub(crate) ipc: Option<PathBuf>,
    pub(crate) uts: Option<PathBuf>,
}

/// Makes what is missing of the pod's sandbox; all of it there already is no error. The message is that of a FailedCreatePodSandBox event.
pub(crate) async fn make(node: &Arc<Node>, pod: &Arc<Pod>, paths: &Paths) -> Result<Sandbox, String> {
    let uid = PodRef::of(pod).uid;
    let on_host = host_network(pod);
    let local = {
        let (node, pod, paths, uid) = (node.clone(), pod.clone(), paths.clone(), uid.clone());
        tokio::task::spawn_blocking(move || make_local(&node, &pod, &paths, &uid))
    };
    let network = async {
        if on_host { Ok(None) } else { node.network.attach(&uid).await.map(Some) }
    };
    let (local, network) = tokio::join!(local, network);
    let (ipc, uts) = local.map_err(|e| e.to_string())?.map_err(|e| format!("failed to create pod sandbox: {e}"))?;
    let network = network.map_err(|e| format!("failed to setup network for sandbox: {e}"))?;
    let ip = network.as_ref().map_or(node.ip, |n| n.address).to_string();
    let etc_pod = pod.clone();
    let (etc_node, etc_paths, etc_ip) = (node.clone(), paths.clone(), ip.clone());
    tokio::task::spawn_blocking(move || write_etc(&etc_node, &etc_pod, &etc_paths, &etc_ip))
        .await
        .map_err(|e| e.to_string())?
        .map_err(|e| format!("failed to create pod sandbox: files in /etc: {e}"))?;
    Ok(Sandbox { ip, network: network.map(|n| n.netns), ipc, uts })
}

type Pins = (Option<PathBuf>, Option<PathBuf>);

fn make_local(node: &Node, pod: &Pod, paths: &Paths, uid: &str) -> io::Result<Pins> {
    records::write(paths, pod)?;
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(paths.etc(""))?;
    let spec = pod.spec.as_ref();
    let host_ipc = spec.and_then(|s| s.host_ipc) == Some(true);
    if !host_ipc {
        make_shm(&paths.shm())?;
    }
    let (ipc, uts) = (paths.namespace("ipc"), paths.namespace("uts"));
    if !(namespaces::is_pinned(&ipc) && namespaces::is_pinned(&uts)) {
        namespaces::pin(&ipc, &uts, &etc::kernel_hostname(pod, &node.config))?;
    }
    // Last: it waits for `warm_up`, which began when the pod was first seen.
    cgroup::make(&node.config.instance, pod, uid)?;
    // Names of the host's own network belong to the host's own name.
    Ok(((!host_ipc).then_some(ipc), (!host_network(pod)).then_some(uts)))
}

fn make_shm(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    if mounts::below(path)?.is_empty() {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("shm"), path, Some("tmpfs"), flags, Some("mode=1777,size=65536k"))?;
    }
    Ok(())
}

fn write_etc(node: &Node, pod: &Pod, paths: &Paths, ip: &str) -> io::Result<()> {
    let (host, _) = etc::hostname(pod, &node.config);
    let files = [
        ("hosts", etc::hosts(pod, &node.config, ip)),
        ("hostname", format!("{host}\n")),
        ("resolv.conf", etc::resolv_conf(pod, &node.config, &node.resolver)),
    ];
    for (name, text) in files {
        let path = paths.etc(name);
        // In place: running containers have this very file mounted.
        if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        std::fs::write(&path, text)?;
    }
    Ok(())
}

/// Gives back everything but logs and records of containers. Returns when no process of the pod is left.
pub(crate) async fn tear_down(node: &Arc<Node>, pod: &PodRef, paths: &Paths) -> Result<(), String> {
    cgroup::empty(&node.config.instance, &pod.uid).await;
    node.network.detach(&pod.uid).await.map_err(|e| e.to_string())?;
    let (paths, instance, uid) = (paths.clone(), node.config.instance.clone(), pod.uid.clone());
    tokio::task::spawn_blocking(move || remove_local(&paths, &instance, &uid))
        .await
        .map_err(|e| e.to_string())?
        .map_err(|e| format!("failed to remove pod sandbox: {e}"))
}

/// Undoes what `make_local` and volumes did, from names alone.
pub(crate) fn remove_local(paths: &Paths, instance: &str, uid: &str) -> io::Result<()> {
    mounts::unmount_below(&paths.pod_dir())?;
    mounts::unmount_below(&paths.sandbox_dir())?;
    cgroup::remove(instance, uid)?;
    mounts::remove_tree(&paths.sandbox_dir())?;
    mounts::remove_tree(&paths.secret_volumes())?;
    mounts::remove_tree(&paths.pod_dir().join("containers"))?;
    records::remove(paths)
}

/// Removes what outlives the pod's processes: its files and logs, once nobody can ask for them.
pub(crate) fn remove_files(paths: &Paths) -> io::Result<()> {
    mounts::unmount_below(&paths.pod_dir())?;
    mounts::remove_tree(&paths.pod_dir())?;
    mounts::remove_tree(&paths.logs())
}
