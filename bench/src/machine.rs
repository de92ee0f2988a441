//! An engine with a data directory, a port and a kubeconfig of its own, gone with everything of it when dropped.

use crate::api::Api;
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// One instance of the program that is measured.
pub(crate) struct Machine {
    program: PathBuf,
    base: PathBuf,
    pub port: u16,
    /// The engine's process, once it is up.
    pub pid: u32,
}

impl Machine {
    /// Names its parts; starts nothing.
    pub(crate) fn new(program: &Path, name: &str, port: u16) -> Result<Self> {
        let base = std::env::temp_dir().join(format!("mainstay-bench-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&base).with_context(|| format!("create {}", base.display()))?;
        Ok(Self { program: program.to_owned(), base, port, pid: 0 })
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.base.join("data")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.base.join("kubeconfig")
    }

    /// A directory for what pods and this program exchange.
    pub(crate) fn shared_dir(&self) -> PathBuf {
        self.base.join("shared")
    }

    /// The command of `mainstay up`.
    pub(crate) fn up_command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("up").arg("--data-dir").arg(self.data_dir()).args(["--port", &self.port.to_string()]).arg("--kubeconfig").arg(self.kubeconfig());
        command
    }

    /// Imports images of the examples; the engine may run or not.
    pub(crate) fn import(&self, images: &[&str]) -> Result<()> {
        for image in images {
            let archive = Path::new(".cache/images").join(format!("{image}.tar"));
            ensure!(archive.is_file(), "{} is missing: run `cargo xtask images`", archive.display());
            check(Command::new(&self.program).args(["image", "import"]).arg(&archive).arg("--data-dir").arg(self.data_dir()))?;
        }
        Ok(())
    }

    /// Starts it and returns when it is ready.
    pub(crate) fn up(&mut self) -> Result<()> {
        check(&mut self.up_command())?;
        self.find_pid()
    }

    /// Looks up the engine's process.
    pub(crate) fn find_pid(&mut self) -> Result<()> {
        let words = check(Command::new(&self.program).args(["status", "-o", "json", "--data-dir"]).arg(self.data_dir()))?;
        let status: serde_json::Value = serde_json::from_slice(&words.stdout).context("mainstay status -o json")?;
        self.pid = status["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).context("mainstay status says no pid")?;
        Ok(())
    }

    /// A client with the certificate of its kubeconfig.
    pub(crate) fn api(&self) -> Result<Api> {
        Api::from_kubeconfig(&self.kubeconfig(), self.port)
    }

    /// Ends it and removes all of it.
    pub(crate) fn purge(&self) -> Result<()> {
        check(Command::new(&self.program).args(["down", "--purge", "--yes", "--timeout", "20", "--data-dir"]).arg(self.data_dir()).arg("--kubeconfig").arg(self.kubeconfig()))?;
        std::fs::remove_dir_all(&self.base).with_context(|| format!("remove {}", self.base.display()))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.base.exists()
            && let Err(error) = self.purge()
        {
            eprintln!("bench: {error:#}");
        }
    }
}

fn check(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {:?}", command.get_program()))?;
    let what = || command.get_args().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
    ensure!(output.status.success(), "mainstay {}: {}{}", what(), String::from_utf8_lossy(&output.stderr).trim(), String::from_utf8_lossy(&output.stdout).trim());
    Ok(output)
}
