//! One engine, with a data directory, a port and a kubeconfig of its own, removed when the tests are over.

use crate::{Kubectl, repository};
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A running `mainstay`. Needs root.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The program under test: `$MAINSTAY`, else the debug build.
    pub program: PathBuf,
    /// `--data-dir`.
    pub data_dir: PathBuf,
    /// `--port`.
    pub port: u16,
    /// `--kubeconfig`.
    pub kubeconfig: PathBuf,
}

impl Machine {
    /// Names the parts; starts nothing. `$MAINSTAY_E2E_PORT` moves all ports, so that two runs fit on one host.
    pub fn new(name: &str, port: u16) -> Self {
        const FIRST: u16 = 16443;
        let moved = std::env::var("MAINSTAY_E2E_PORT").map_or(FIRST, |first| first.parse().expect("MAINSTAY_E2E_PORT is a port"));
        let port = moved + (port - FIRST);
        let base = std::env::temp_dir().join(format!("mainstay-e2e-{name}-{}", std::process::id()));
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
        let program = std::env::var_os("MAINSTAY").map_or_else(|| target.join("debug/mainstay"), PathBuf::from);
        Self { program, data_dir: base.join("data"), kubeconfig: base.join("kubeconfig"), port }
    }

    /// `mainstay up`, with the images of the examples imported.
    pub fn start(name: &str, port: u16) -> Result<Self> {
        Self::start_with(name, port, &["busybox", "curl", "nginx", "postgres"])
    }

    /// `mainstay up`, with these images.
    pub fn start_with(name: &str, port: u16, images: &[&str]) -> Result<Self> {
        let machine = Self::new(name, port);
        std::fs::create_dir_all(machine.kubeconfig.parent().context("kubeconfig has a directory")?)?;
        machine.import(images)?;
        machine.up()?;
        Ok(machine)
    }

    /// Imports archives of `.cache/images`.
    pub fn import(&self, names: &[&str]) -> Result<()> {
        for name in names {
            let archive = repository().join(".cache/images").join(format!("{name}.tar"));
            ensure!(archive.is_file(), "{} is missing: run `cargo xtask images`", archive.display());
            self.run(&["image", "import", &archive.to_string_lossy(), "--data-dir", &self.data()])?;
        }
        Ok(())
    }

    /// `mainstay up`.
    pub fn up(&self) -> Result<String> {
        self.run(&["up", "--data-dir", &self.data(), "--port", &self.port.to_string(), "--kubeconfig", &self.kubeconfig.to_string_lossy()])
    }

    /// `mainstay down`, with more arguments.
    pub fn down(&self, more: &[&str]) -> Result<String> {
        let data = self.data();
        let kubeconfig = self.kubeconfig.to_string_lossy();
        self.run(&[&["down", "--data-dir", &data, "--kubeconfig", &kubeconfig], more].concat())
    }

    /// `mainstay down --purge`, and then what the test itself made: nothing is left.
    pub fn purge(&self) -> Result<()> {
        self.down(&["--purge", "--yes", "--timeout", "20"])?;
        let base = self.kubeconfig.parent().context("kubeconfig has a directory")?;
        std::fs::remove_dir_all(base).with_context(|| format!("remove {}", base.display()))
    }

    /// `mainstay status -o json`.
    pub fn status(&self) -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.run(&["status", "-o", "json", "--data-dir", &self.data()])?)?)
    }

    /// `kill -9` of the engine; returns when it is gone.
    pub fn kill(&self) -> Result<()> {
        let pid = self.status()?["pid"].as_u64().context("status has a pid")?;
        ensure!(Command::new("kill").args(["-9", &pid.to_string()]).status()?.success(), "kill {pid}");
        while Path::new(&format!("/proc/{pid}")).exists() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Ok(())
    }

    /// Any command; its output, or an error with everything it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let output = self.try_run(args)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "mainstay {}: {}\n{text}{}", args.join(" "), output.status, String::from_utf8_lossy(&output.stderr));
        Ok(text)
    }

    /// Any command, however it ends.
    pub fn try_run(&self, args: &[&str]) -> Result<Output> {
        Command::new(&self.program).args(args).output().with_context(|| format!("run {} (build it first)", self.program.display()))
    }

    /// kubectl with this machine's administrator.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.kubeconfig, "default")
    }

    /// kubectl in a fresh namespace of that name.
    pub fn namespace(&self, name: &str) -> Kubectl {
        self.kubectl().ok(&["create", "namespace", name]);
        Kubectl::new(&self.kubeconfig, name)
    }

    fn data(&self) -> String {
        self.data_dir.to_string_lossy().into_owned()
    }
}
