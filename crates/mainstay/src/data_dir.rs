//! The data directory, and the run directory that belongs to it.
//!
//! `<data>/`: `lock` (held by the engine), `format`, `network.json`, `port`, `pki/`, `store/`, `images/`, `volumes/`, `pods/`, `logs/`, `engine.log`.
//! `/run/mainstay/<instance>/`: records of kernel resources and sockets; gone at reboot, as what they describe is.

use anyhow::{Context as _, Result, bail, ensure};
use mainstay_network::Ranges;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Above all run directories.
pub(crate) const RUN: &str = "/run/mainstay";

/// What this version writes. A newer one is refused, an older one is brought up to date here.
const FORMAT: u32 = 1;

/// A data directory that may not exist yet.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    instance: String,
}

/// A data directory that this process owns.
pub(crate) struct Locked {
    dir: DataDir,
    _lock: Flock<File>,
}

impl DataDir {
    pub(crate) fn at(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).context("--data-dir")?;
        let path = path.canonicalize().unwrap_or(path);
        ensure!(path.parent().is_some(), "--data-dir / would be removed by `down --purge`: choose a directory of its own");
        let instance = instance(&path);
        Ok(Self { path, instance })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Six characters at most that keep two instances' cgroups, interfaces and tables apart.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        Path::new(RUN).join(&self.instance)
    }

    /// Makes both directories, for root only.
    pub(crate) fn create(&self) -> Result<()> {
        for dir in [self.path.clone(), self.run_dir()] {
            fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
            fs::set_permissions(&dir, Permissions::from_mode(0o700)).with_context(|| format!("chmod {}", dir.display()))?;
        }
        Ok(())
    }

    /// Takes the directory for this process, after checking that it is one this version can use.
    pub(crate) fn lock(self) -> Result<Locked> {
        self.create()?;
        let path = self.path.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).with_context(|| format!("open {}", path.display()))?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => bail!("{} is in use by a running engine; `mainstay status` shows it", self.path.display()),
            Err((_, e)) => return Err(e).with_context(|| format!("lock {}", path.display())),
        };
        self.check_format()?;
        Ok(Locked { dir: self, _lock: lock })
    }

    fn check_format(&self) -> Result<()> {
        let path = self.path.join("format");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let found: u32 = text.trim().parse().with_context(|| format!("{} is damaged: it should hold a number; restore it from a backup, or use another --data-dir", path.display()))?;
                ensure!(found <= FORMAT, "{} was written by a newer mainstay (format {found}, this one knows {FORMAT}): use that version, or another --data-dir", self.path.display());
                Ok(())
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                ensure!(!self.path.join("store").exists(), "{} is damaged: it holds a store but no file `format`; restore it from a backup, or use another --data-dir", self.path.display());
                write_durably(&path, format!("{FORMAT}\n").as_bytes(), 0o600)
            }
            Err(e) => Err(e).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Whether containers of this instance are there, with or without an engine.
    pub(crate) fn has_containers(&self) -> bool {
        fs::read_dir(self.run_dir().join("containers")).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// The port of the last start.
    pub(crate) fn last_port(&self) -> Option<u16> {
        fs::read_to_string(self.path.join("port")).ok()?.trim().parse().ok()
    }
}

impl Locked {
    pub(crate) fn dir(&self) -> &DataDir {
        &self.dir
    }

    /// The ranges of this installation: chosen once, kept for good.
    pub(crate) async fn ranges(&self) -> Result<Ranges> {
        let path = self.dir.path.join("network.json");
        if let Ok(bytes) = fs::read(&path) {
            return serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged: restore it from a backup", path.display()));
        }
        let ranges = mainstay_network::choose_ranges().await?;
        write_durably(&path, &serde_json::to_vec(&ranges)?, 0o600)?;
        Ok(ranges)
    }

    pub(crate) fn remember_port(&self, port: u16) -> Result<()> {
        if self.dir.last_port() == Some(port) {
            return Ok(());
        }
        write_durably(&self.dir.path.join("port"), port.to_string().as_bytes(), 0o600)
    }
}

/// One instance at a time chooses ranges and takes them: two that start together must not choose the same.
pub(crate) async fn choosing_ranges() -> Result<Flock<File>> {
    let path = Path::new(RUN).join("ranges.lock");
    let lock = move || {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).with_context(|| format!("open {}", path.display()))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| anyhow::Error::from(e)).with_context(|| format!("lock {}", path.display()))
    };
    tokio::task::spawn_blocking(lock).await?
}

/// Replaces a file: after a crash it is the old one or the new one, whole.
pub(crate) fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let next = path.with_extension("next");
    let put = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&next)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&next, path)?;
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    put().with_context(|| format!("write {}", path.display()))
}

/// FNV-1a of the path in base 32: stable across versions, since names of kernel resources are made of it.
fn instance(path: &Path) -> String {
    let hash = path.as_os_str().as_encoded_bytes().iter().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    (0..5).map(|i| char::from(DIGITS[(hash >> (5 * i)) as usize & 31])).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn scratch() -> (tempfile::TempDir, DataDir) {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::at(&dir.path().join("data")).unwrap();
        (dir, data)
    }

    #[test]
    fn two_directories_are_two_instances_with_short_names() {
        let (a, b) = (instance(Path::new("/var/lib/mainstay")), instance(Path::new("/var/lib/mainstay2")));
        assert_ne!(a, b);
        assert!(a.len() <= 6 && a.bytes().all(|c| c.is_ascii_alphanumeric()), "{a}");
    }

    #[test]
    fn a_directory_is_locked_for_one_and_kept_private() {
        let (_keep, data) = scratch();
        let held = data.clone().lock().unwrap();
        assert!(data.clone().lock().err().unwrap().to_string().contains("in use by a running engine"));
        assert_eq!(fs::metadata(data.path()).unwrap().permissions().mode() & 0o777, 0o700);
        drop(held);
        data.clone().lock().unwrap();
        let _ = fs::remove_dir_all(data.run_dir());
    }

    #[test]
    fn newer_and_damaged_directories_are_refused_and_left_as_they_are() {
        for (content, words) in [("2\n", "newer mainstay"), ("x", "damaged")] {
            let (_keep, data) = scratch();
            data.create().unwrap();
            fs::write(data.path().join("format"), content).unwrap();
            assert!(format!("{:#}", data.clone().lock().err().unwrap()).contains(words));
            assert_eq!(fs::read_to_string(data.path().join("format")).unwrap(), content);
            let _ = fs::remove_dir_all(data.run_dir());
        }
    }
}
