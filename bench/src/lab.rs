//! What every row is given.

use crate::api::{Api, Connection};
use crate::floors::Floors;
use crate::kubectl::Kubectl;
use crate::machine::Machine;
use crate::{floors, manifests};
use anyhow::Result;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest a pod is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One engine for most rows, and what surrounds it.
pub(crate) struct Lab {
    pub mainstay: PathBuf,
    pub quick: bool,
    pub machine: Machine,
    pub api: Api,
    pub kubectl: Kubectl,
    pub floors: Floors,
    kubectl_version: String,
    load_before: String,
}

impl Lab {
    pub(crate) async fn open(mainstay: PathBuf, port: u16, quick: bool) -> Result<Self> {
        let load_before = load();
        let mut machine = Machine::new(&mainstay, "main", port)?;
        machine.import(&["busybox"])?;
        machine.up()?;
        std::fs::create_dir_all(machine.shared_dir())?;
        let api = machine.api()?;
        let kubectl = Kubectl::new(&machine.kubeconfig());
        eprintln!("floors of this machine");
        let floors = floors::measure(&machine.data_dir(), &mainstay, &kubectl, quick).await?;
        eprintln!("{}", floors.words());
        let kubectl_version = kubectl.version().await?;
        Ok(Self { mainstay, quick, machine, api, kubectl, floors, kubectl_version, load_before })
    }

    /// How often: as often as asked, or three times.
    pub(crate) fn runs(&self, full: usize) -> usize {
        if self.quick { full.min(3) } else { full }
    }

    /// An engine beside the one of most rows.
    pub(crate) fn other_machine(&self, name: &str) -> Result<Machine> {
        Machine::new(&self.mainstay, name, self.machine.port + 1)
    }

    /// A namespace with the headless service of the sets, and a connection.
    pub(crate) async fn namespace(&self, name: &str) -> Result<(Connection, String)> {
        let mut connection = self.api.connect().await?;
        connection.create("/api/v1/namespaces", &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await?;
        // Pods are refused until the namespace has its default account.
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        for _ in 0..2000 {
            if connection.get(&account).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        connection.create(&format!("/api/v1/namespaces/{name}/services"), &manifests::headless_service()).await?;
        Ok((connection, format!("/api/v1/namespaces/{name}/pods")))
    }

    /// The profile, as cargo's directories tell it.
    fn build(&self) -> &'static str {
        match self.mainstay.parent().and_then(Path::file_name).and_then(|dir| dir.to_str()) {
            Some("release") => "the release build",
            Some("debug") => "the development build (little optimised; not what is shipped)",
            _ => "a build of unknown profile",
        }
    }

    /// What was measured where.
    pub(crate) fn machine_words(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let busy = self.load_before.parse::<f64>().unwrap_or_default();
        let others = if busy > 0.3 { format!("; other work was running (load average {busy} at the start)") } else { String::new() };
        format!(
            "Medians of {} on a {cores}-core machine, kernel {}, data on {}, kubectl {}{}{others}.",
            self.build(),
            kernel.trim(),
            file_system(&self.machine.data_dir()),
            self.kubectl_version,
            if self.quick { ", --quick" } else { "" }
        )
    }
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

/// The type of the file system that a path is on.
fn file_system(path: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    fields.filter(|(at, _)| path.starts_with(at)).max_by_key(|(at, _)| at.len()).map_or_else(String::new, |(_, kind)| kind.to_owned())
}
