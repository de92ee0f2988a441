//! Starting one run of a container: image and root file system, then everything the runtime wants to know.

use super::events::Events;
use super::reference::PodRef;
use super::sandbox::Sandbox;
use crate::container::env::{self, Environment, Sources, expand};
use crate::container::paths::{Paths, container_id};
use crate::container::spec::{self, Bind, Inputs};
use crate::container::user::{self, User, Wish};
use crate::container::{cgroup, etc, rootfs};
use crate::context::Node;
use crate::volumes::{Mounted, subpath};
use crate::{images, objects};
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use mainstay_images::Image;
use mainstay_supervisor::{Launch, Log};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Upstream's defaults: `containerLogMaxSize`, `containerLogMaxFiles`.
const LOG_MAX_BYTES: u64 = 10 << 20;
const LOG_MAX_FILES: u32 = 5;

/// Why a container does not start, as its `waiting` state says it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    /// `ErrImagePull`, `CreateContainerConfigError` …
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// The image is what is missing: its own waits apply.
    pub(crate) of_image: bool,
    /// The runtime tried and failed: this run counts.
    pub(crate) ran: bool,
}

impl Failure {
    pub(crate) fn image(reason: &'static str, message: String) -> Self {
        Self { reason, message, of_image: true, ran: false }
    }
    fn config(message: impl Into<String>) -> Self {
        Self { reason: "CreateContainerConfigError", message: message.into(), of_image: false, ran: false }
    }
    fn create(message: impl Into<String>) -> Self {
        Self { reason: "CreateContainerError", message: message.into(), of_image: false, ran: false }
    }
}

/// An image and a root made of it.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) image: Image,
    pub(crate) rootfs: PathBuf,
}

/// Gets the image and mounts the root. `stop` ends a pull that nobody waits for any more.
pub(crate) async fn prepare(
    node: &Node,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    paths: &Paths,
    events: &Events,
    stop: &CancellationToken,
) -> Result<Prepared, Failure> {
    let image = tokio::select! {
        image = images::ensure(node, pod, container, events) => image?,
        () = stop.cancelled() => return Err(Failure::create("the pod is being stopped")),
    };
    let (dir, layers, links) = (paths.run_of(&container.name, attempt), image.layers.clone(), node.config.run_dir.join("layers"));
    let rootfs = tokio::task::spawn_blocking(move || rootfs::make(&dir, &layers, &links))
        .await
        .map_err(|e| Failure::create(e.to_string()))?
        .map_err(|e| Failure::create(format!("root file system: {e}")))?;
    Ok(Prepared { image, rootfs })
}

/// Everything a launch needs; owned, so that it runs as a task.
pub(crate) struct Order {
    pub(crate) node: Arc<Node>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) container: Container,
    pub(crate) attempt: u32,
    pub(crate) paths: Paths,
    pub(crate) sandbox: Sandbox,
    pub(crate) volumes: Arc<BTreeMap<String, Mounted>>,
    pub(crate) prepared: Prepared,
}

impl Order {
    /// Starts the container; returns when its first process has been exec'ed.
    pub(crate) async fn launch(self, events: &Events) -> Result<mainstay_supervisor::Container, Failure> {
        let me = PodRef::of(&self.pod);
        let sources = sources(&self.node, &self.pod, &self.container).await.map_err(Failure::config)?;
        let around = self.node.surroundings(&self.sandbox.ip);
        let environment = env::environment(&self.pod, &self.container, &sources, &around, self.node.config.api).map_err(Failure::config)?;
        let id = container_id(&me.uid, &self.container.name, self.attempt);
        let (name, attempt) = (self.container.name.clone(), self.attempt);
        let (node, pod) = (self.node.clone(), self.pod.clone());
        let (tty, stdin, stdin_once) = (self.container.tty, self.container.stdin, self.container.stdin_once);
        let log = self.paths.log(&name, attempt);
        let spec = tokio::task::spawn_blocking(move || self.specify(&environment)).await.map_err(|e| Failure::create(e.to_string()))??;
        events.container(&pod, &name, "Created", "Container created");
        let launch = Launch {
            id,
            spec,
            log: Some(Log { path: log, max_bytes: LOG_MAX_BYTES, max_files: LOG_MAX_FILES }),
            stdin: stdin == Some(true),
            stdin_once: stdin_once == Some(true),
            tty: tty == Some(true),
        };
        let started = node.containers.launch(launch).await.map_err(|e| Failure {
            reason: "RunContainerError",
            message: format!("failed to start container {name:?}: {e}"),
            of_image: false,
            ran: true,
        })?;
        events.container(&pod, &name, "Started", "Container started");
        Ok(started)
    }

    /// The part that touches the disk. Blocking.
    fn specify(&self, environment: &Environment) -> Result<oci_spec::runtime::Spec, Failure> {
        let root = &self.prepared.rootfs;
        let user = self.user(root)?;
        let me = PodRef::of(&self.pod);
        if let Some(dir) = self.paths.log(&self.container.name, self.attempt).parent() {
            std::fs::create_dir_all(dir).map_err(|e| Failure::create(format!("{}: {e}", dir.display())))?;
            crate::logs::prune(dir, self.attempt);
        }
        let cwd = self.container.working_dir.clone().filter(|d| !d.is_empty());
        let cwd = cwd.or_else(|| self.prepared.image.config.config().as_ref().and_then(|c| c.working_dir().clone()));
        if let Some(cwd) = cwd.filter(|d| !d.is_empty() && d != "/") {
            rootfs::make_working_directory(root, &cwd, user.uid, user.gid).map_err(|e| Failure::create(format!("working directory {cwd:?}: {e}")))?;
        }
        let signal = spec::stop_signal(&self.container, &self.prepared.image.config);
        spec::keep_stop_signal(&self.paths.stop_signal(&self.container.name), signal).map_err(|e| Failure::create(format!("stop signal: {e}")))?;
        let binds = self.binds(environment)?;
        let hostname = etc::kernel_hostname(&self.pod, &self.node.config);
        spec::spec(&Inputs {
            pod: &self.pod,
            container: &self.container,
            image: &self.prepared.image.config,
            environment,
            user: &user,
            hostname: &hostname,
            rootfs: root,
            cgroup: &cgroup::container_path(&self.node.config.instance, &me.uid, &self.container.name, self.attempt),
            network: self.sandbox.network.as_deref(),
            ipc: self.sandbox.ipc.as_deref(),
            uts: self.sandbox.uts.as_deref(),
            pid: None,
            shm: &self.paths.shm(),
            binds: &binds,
            machine: self.node.machine,
            profiles: &self.node.config.data_dir.join("seccomp"),
        })
        .map_err(|message| if message == "no command specified" { Failure::create(message) } else { Failure::config(message) })
    }

    fn user(&self, root: &Path) -> Result<User, Failure> {
        let of_pod = self.pod.spec.as_ref().and_then(|s| s.security_context.clone()).unwrap_or_default();
        let own = self.container.security_context.clone().unwrap_or_default();
        let number = |v: Option<i64>| v.and_then(|v| u32::try_from(v).ok());
        let wish = Wish {
            run_as_user: number(own.run_as_user.or(of_pod.run_as_user)),
            run_as_group: number(own.run_as_group.or(of_pod.run_as_group)),
            run_as_non_root: own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true),
            supplemental_groups: of_pod.supplemental_groups.iter().flatten().filter_map(|g| u32::try_from(*g).ok()).collect(),
            fs_group: number(of_pod.fs_group),
            strict_groups: of_pod.supplemental_groups_policy.as_deref() == Some("Strict"),
        };
        let image_user = self.prepared.image.config.config().as_ref().and_then(|c| c.user().clone()).unwrap_or_default();
        let (passwd, group) = (user::read_in_root(root, "etc/passwd"), user::read_in_root(root, "etc/group"));
        user::resolve(&image_user, &wish, &passwd, &group).map_err(Failure::config)
    }

    fn binds(&self, environment: &Environment) -> Result<Vec<Bind>, Failure> {
        let mut binds = Vec::new();
        let mounts: Vec<&VolumeMount> = self.container.volume_mounts.iter().flatten().collect();
        for (at, mount) in mounts.iter().enumerate() {
            binds.push(self.bind(at, mount, environment)?);
        }
        let taken: BTreeSet<&str> = mounts.iter().map(|m| m.mount_path.trim_end_matches('/')).collect();
        let read_only_root = self.container.security_context.as_ref().and_then(|s| s.read_only_root_filesystem) == Some(true);
        for (file, destination) in [("hosts", "/etc/hosts"), ("hostname", "/etc/hostname"), ("resolv.conf", "/etc/resolv.conf")] {
            if !taken.contains(destination) {
                let read_only = read_only_root && file != "hosts";
                binds.push(Bind { source: self.paths.etc(file), destination: destination.into(), read_only, propagation: "rprivate" });
            }
        }
        let message_path = self.container.termination_message_path.clone().unwrap_or_else(|| "/dev/termination-log".into());
        if !message_path.is_empty() && !taken.contains(message_path.as_str()) {
            let source = self.paths.termination_message(&self.container.name, self.attempt);
            // Anyone inside may write it, whatever user it runs as.
            let made = std::fs::write(&source, b"").and_then(|()| std::fs::set_permissions(&source, std::os::unix::fs::PermissionsExt::from_mode(0o666)));
            made.map_err(|e| Failure::create(format!("{}: {e}", source.display())))?;
            binds.push(Bind { source, destination: message_path, read_only: false, propagation: "rprivate" });
        }
        Ok(binds)
    }

    fn bind(&self, at: usize, mount: &VolumeMount, environment: &Environment) -> Result<Bind, Failure> {
        let volume = self.volumes.get(&mount.name).ok_or_else(|| Failure::config(format!("volume {:?} is not mounted", mount.name)))?;
        let expr = mount.sub_path_expr.as_deref().filter(|e| !e.is_empty());
        let below = match expr {
            Some(expr) => expand(expr, &|name| environment.get(name).map(str::to_owned)),
            None => mount.sub_path.clone().unwrap_or_default(),
        };
        if expr.is_some() && below.contains("$(") {
            return Err(Failure::config(format!("missing value for {below:?}")));
        }
        let source = if below.is_empty() {
            volume.path.clone()
        } else {
            let target = self.paths.subpath(&self.container.name, at);
            subpath::bind(&volume.path, &below, &target)
                .map_err(|e| Failure::config(format!("failed to prepare subPath for volumeMount {:?} of container {:?}: {e}", mount.name, self.container.name)))?;
            target
        };
        let propagation = match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => "rslave",
            Some("Bidirectional") => "rshared",
            _ => "rprivate",
        };
        let destination = if mount.mount_path.starts_with('/') { mount.mount_path.clone() } else { format!("/{}", mount.mount_path) };
        Ok(Bind { source, destination, read_only: volume.read_only || mount.read_only == Some(true), propagation })
    }
}

/// What the container's environment refers to.
async fn sources(node: &Node, pod: &Pod, container: &Container) -> Result<Sources, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (mut maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for from in container.env_from.iter().flatten() {
        maps.extend(from.config_map_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(from.secret_ref.as_ref().map(|r| r.name.clone()));
    }
    for from in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
        maps.extend(from.config_map_key_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(from.secret_key_ref.as_ref().map(|r| r.name.clone()));
    }
    let mut sources = Sources::default();
    for name in maps {
        if let Some(found) = objects::config_map(&node.cluster, namespace, &name).await? {
            sources.config_maps.insert(name, found);
        }
    }
    for name in secrets {
        if let Some(found) = objects::secret(&node.cluster, namespace, &name).await? {
            sources.secrets.insert(name, found);
        }
    }
    if pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true) {
        sources.services = node.cluster.services().list_in(namespace);
    }
    Ok(sources)
}
