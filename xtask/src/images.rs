//! `cargo xtask images`: the images of `images/*/Containerfile`, built from Debian packages where no registry is reachable.
//!
//! The files are ordinary Containerfiles (`docker build images/nginx` builds them too). This builder needs root, `mmdebstrap` and a Debian
//! mirror, nothing else: each stage is an overlay, `RUN` is a chroot, and the result is an archive for `mainstay image import`.

mod archive;
mod build;
mod containerfile;

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Arguments of `cargo xtask images`.
#[derive(clap::Args)]
pub struct Args {
    /// Images to build (folders of images/); all if none is named
    names: Vec<String>,
    /// Where the archives go
    #[arg(long, default_value = ".cache/images")]
    out: PathBuf,
    /// Build again what is there already
    #[arg(long)]
    force: bool,
}

/// Builds what is not there yet, or was made from other files.
pub fn run(args: &Args) -> Result<()> {
    let names = if args.names.is_empty() { all()? } else { args.names.clone() };
    fs::create_dir_all(&args.out)?;
    let out = args.out.canonicalize()?;
    let mut missing = Vec::new();
    for name in names {
        let dir = Path::new("images").join(&name);
        ensure!(dir.join("Containerfile").is_file(), "images/{name}/Containerfile does not exist; there are: {}", all()?.join(", "));
        let image = Image { key: key(&dir)?, archive: out.join(format!("{name}.tar")), stamp: out.join(format!("{name}.key")), name, dir };
        if !args.force && image.archive.is_file() && fs::read_to_string(&image.stamp).is_ok_and(|k| k == image.key) {
            println!("{:<12} up to date", image.name);
        } else {
            missing.push(image);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    ensure!(nix::unistd::geteuid().is_root(), "building images needs root: run it with sudo");
    build::base(&out)?;
    // Two at a time: one waits for the network while the other packs.
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            while let Some(image) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                image.build(&out)?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a builder panicked")))
    })
}

/// An image to build.
struct Image {
    name: String,
    dir: PathBuf,
    key: String,
    archive: PathBuf,
    stamp: PathBuf,
}

impl Image {
    fn build(&self, out: &Path) -> Result<()> {
        let start = Instant::now();
        let tags = build::image(&self.dir, out, &self.archive).with_context(|| format!("build images/{}", self.name))?;
        fs::write(&self.stamp, &self.key)?;
        let size = fs::metadata(&self.archive)?.len() / 1_000_000;
        println!("{:<12} {} ({size} MB, {:.0} s)", self.name, tags.join(" "), start.elapsed().as_secs_f64());
        Ok(())
    }
}

fn all() -> Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir("images").context("run it in the repository's root")?.flatten().filter(|e| e.path().join("Containerfile").is_file()).filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// What an image is made from: its files, and this builder's format.
fn key(dir: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(b"images 1\0");
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?.flatten().map(|e| e.path()).filter(|p| p.is_file()).collect();
    files.sort();
    for file in files {
        hash.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update(fs::read(&file)?);
    }
    Ok(archive::hex(&hash.finalize()))
}
