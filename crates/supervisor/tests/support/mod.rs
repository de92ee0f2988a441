//! A root file system of one busybox, and containers made from it. Needs root and the package busybox-static.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use mainstay_supervisor::{Container, Containers, Exec, Launch, Log, defaults};
use oci_spec::runtime::*;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A directory with a root file system, a place for logs, and one for the containers.
pub struct Host {
    pub dir: tempfile::TempDir,
    pub containers: Containers,
    name: String,
    _memory: tempfile::TempDir,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Host {
    pub fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests make containers: run them as root");
        let dir = tempfile::Builder::new().prefix("supervisor-test-").tempdir().unwrap();
        let root = dir.path().join("root");
        for inside in ["bin", "proc", "sys", "dev", "tmp", "etc", "root", "home/app"] {
            std::fs::create_dir_all(root.join(inside)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("these tests need /bin/busybox: apt install busybox-static");
        for applet in ["sh", "cat", "echo", "sleep", "true", "false", "id", "ls", "grep", "stty", "tty", "head", "dd", "tail", "hostname", "kill", "pwd", "mknod", "mount", "yes", "readlink", "awk", "test", "touch", "tr", "unshare", "chroot", "env", "seq", "wc", "ps"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n").unwrap();
        std::fs::write(root.join("bin/not-executable"), "x").unwrap();
        std::fs::write(root.join("bin/garbage"), "\u{1}\u{2}").unwrap();
        std::fs::set_permissions(root.join("bin/garbage"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let name = format!("mainstay-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        mainstay_supervisor::pin_namespaces(&mkdir(dir.path().join("ns")), "the-pod").unwrap();
        // In memory, as /run is: a disk's journal would be most of a launch.
        let memory = tempfile::Builder::new().prefix("supervisor-test-").tempdir_in("/dev/shm").unwrap();
        std::os::unix::fs::symlink(memory.path(), dir.path().join("containers")).unwrap();
        let containers = Containers::open(&dir.path().join("containers")).unwrap();
        Self { dir, containers, name, _memory: memory }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub fn log_path(&self, id: &str) -> PathBuf {
        self.dir.path().join(format!("{id}.log"))
    }

    /// The log's lines without their timestamps.
    pub fn log(&self, id: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.log_path(id)).unwrap_or_default();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    /// A launch of `sh -c script`.
    pub fn script(&self, id: &str, script: &str) -> Launch {
        self.command(id, &["sh", "-c", script])
    }

    pub fn command(&self, id: &str, command: &[&str]) -> Launch {
        Launch {
            id: id.to_owned(),
            spec: self.spec(id, command),
            log: Some(Log { path: self.log_path(id), max_bytes: 10 << 20, max_files: 5 }),
            stdin: false,
            stdin_once: false,
            tty: false,
        }
    }

    pub fn spec(&self, id: &str, command: &[&str]) -> Spec {
        let capabilities = defaults::default_capabilities();
        let sets = LinuxCapabilitiesBuilder::default()
            .bounding(capabilities.clone())
            .effective(capabilities.clone())
            .permitted(capabilities.clone())
            .inheritable(Capabilities::new())
            .ambient(Capabilities::new())
            .build()
            .unwrap();
        let process = ProcessBuilder::default()
            .args(command.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
            .env(vec!["PATH=/bin:/sbin".to_owned(), "GREETING=hello".to_owned()])
            .cwd("/")
            .user(UserBuilder::default().uid(0u32).gid(0u32).build().unwrap())
            .capabilities(sets)
            .rlimits(vec![])
            .build()
            .unwrap();
        let ns = self.dir.path().join("ns");
        let linux = LinuxBuilder::default()
            .namespaces(defaults::namespaces(None, &ns.join("ipc"), &ns.join("uts")).unwrap())
            .masked_paths(defaults::default_masked_paths())
            .readonly_paths(defaults::default_readonly_paths())
            .resources(LinuxResourcesBuilder::default().devices(defaults::default_device_rules().unwrap()).build().unwrap())
            .cgroups_path(PathBuf::from(format!("/{}/{id}", self.name)))
            .seccomp(defaults::default_seccomp(&capabilities).unwrap())
            .build()
            .unwrap();
        SpecBuilder::default()
            .version("1.2.0")
            .root(RootBuilder::default().path(self.root()).readonly(false).build().unwrap())
            .mounts(defaults::default_mounts().unwrap())
            .process(process)
            .linux(linux)
            .build()
            .unwrap()
    }

    pub async fn launch(&self, launch: Launch) -> Container {
        self.containers.launch(launch).await.unwrap_or_else(|error| panic!("launch: {error}"))
    }

    /// Runs a script to its end; its exit code and log.
    pub async fn run(&self, id: &str, script: &str) -> (i32, Vec<String>) {
        let container = self.launch(self.script(id, script)).await;
        let exit = within("the container's end", container.wait()).await;
        container.remove().await.unwrap();
        (exit.code, self.log(id))
    }

    pub fn cgroup_dirs(&self) -> Vec<PathBuf> {
        let mut dirs: Vec<_> = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path().join(&self.name)).collect();
        dirs.push(Path::new("/sys/fs/cgroup").join(&self.name));
        dirs.retain(|dir| dir.is_dir());
        dirs
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let cgroup = mainstay_supervisor::cgroup::Cgroup::at(Path::new(&self.name)).unwrap();
        // A failed test leaves containers behind.
        for entry in std::fs::read_dir(self.dir.path().join("containers")).into_iter().flatten().flatten() {
            let supervisor = mainstay_supervisor::protocol::read_record::<mainstay_supervisor::process::Process>(&entry.path(), "supervisor.json");
            if let Ok(Some(supervisor)) = supervisor {
                let _ = supervisor.signal(9);
            }
        }
        while cgroup.pids().is_ok_and(|pids| !pids.is_empty()) {
            let _ = cgroup.kill();
            std::thread::yield_now();
        }
        let _ = cgroup.remove();
        let _ = mainstay_supervisor::unpin_namespaces(&self.dir.path().join("ns"));
    }
}

pub fn mkdir(path: PathBuf) -> PathBuf {
    std::fs::create_dir_all(&path).unwrap();
    path
}

pub fn exec(command: &[&str]) -> Exec {
    Exec { command: command.iter().map(|word| (*word).to_owned()).collect(), tty: false, stdin: false }
}

/// What a command in a container printed, and its exit code.
pub async fn output(container: &Container, command: &[&str]) -> (i32, String) {
    use tokio::io::AsyncReadExt;
    let mut execution = container.exec(exec(command)).await.unwrap_or_else(|error| panic!("exec {command:?}: {error}"));
    let (mut out, mut err) = (String::new(), String::new());
    let (mut stdout, mut stderr) = (execution.streams.stdout.take().unwrap(), execution.streams.stderr.take().unwrap());
    within("an exec's output", async { tokio::try_join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err)).unwrap() }).await;
    let exit = within("an exec's end", execution.wait()).await.unwrap();
    (exit.code, out + &err)
}

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap_or_else(|_| panic!("waited 20 s for {what}"))
}

/// Waits for a condition, looking often.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
