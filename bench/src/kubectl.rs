//! Real kubectl.

use anyhow::{Context as _, Result, ensure};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// `$KUBECTL`, else the one that `scripts/setup` fetched, else what is on PATH.
fn program() -> OsString {
    let fetched = Path::new(".cache/bin/kubectl");
    std::env::var_os("KUBECTL").unwrap_or_else(|| if fetched.is_file() { fetched.into() } else { "kubectl".into() })
}

/// The current context of a kubeconfig, keys included.
pub(crate) fn read_config(file: &Path) -> Result<serde_json::Value> {
    let output = std::process::Command::new(program()).env("KUBECONFIG", file).args(["config", "view", "--raw", "--minify", "-o", "json"]).output().context("run kubectl")?;
    ensure!(output.status.success(), "kubectl config view: {}", String::from_utf8_lossy(&output.stderr).trim());
    serde_json::from_slice(&output.stdout).context("kubectl config view -o json")
}

/// Real kubectl, with one kubeconfig.
#[derive(Clone, Debug)]
pub(crate) struct Kubectl {
    program: OsString,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub(crate) fn new(kubeconfig: &Path) -> Self {
        Self { program: program(), kubeconfig: kubeconfig.to_owned() }
    }

    /// Runs it with text on standard input; must succeed. What it printed, and how long it took from its start to its end.
    pub(crate) async fn run(&self, arguments: &[&str], input: &str) -> Result<(String, Duration)> {
        let begun = Instant::now();
        let mut child = Command::new(&self.program)
            .env("KUBECONFIG", &self.kubeconfig)
            .args(arguments)
            .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("run {}", self.program.to_string_lossy()))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        let output = tokio::time::timeout(Duration::from_secs(120), child.wait_with_output()).await.context("kubectl did not end within 120 s")??;
        let took = begun.elapsed();
        ensure!(output.status.success(), "kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        Ok((String::from_utf8_lossy(&output.stdout).into_owned(), took))
    }

    /// How long kubectl takes to start and end without asking anyone anything.
    pub(crate) async fn start_time(&self) -> Result<Duration> {
        Ok(self.run(&["version", "--client"], "").await?.1)
    }

    /// Its version.
    pub(crate) async fn version(&self) -> Result<String> {
        let words = self.run(&["version", "--client"], "").await?.0;
        Ok(words.lines().next().unwrap_or_default().trim_start_matches("Client Version: ").to_owned())
    }
}
