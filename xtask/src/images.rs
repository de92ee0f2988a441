//! `cargo xtask images`: the images of `images/*/Containerfile`, built from Debian packages where no registry is reachable.
//!
//! The files are ordinary Containerfiles (`docker build images/nginx` builds them too). This builder needs root, `mmdebstrap` and a Debian
//! mirror, nothing else: each stage is an overlay, `RUN` is a chroot, and the result is an archive for `mainstay image import`.

mod archive;
mod build;
mod containerfile;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
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
    for name in &names {
        let dir = Path::new("images").join(name);
        ensure!(dir.join("Containerfile").is_file(), "images/{name}/Containerfile does not exist; there are: {}", all()?.join(", "));
        let (archive, stamp) = (out.join(format!("{name}.tar")), out.join(format!("{name}.key")));
        let key = key(&dir)?;
        if !args.force && archive.is_file() && fs::read_to_string(&stamp).is_ok_and(|k| k == key) {
            println!("{name:<12} up to date");
            continue;
        }
        ensure!(nix::unistd::geteuid().is_root(), "building images needs root: run it with sudo");
        let start = Instant::now();
        let tags = build::image(&dir, &out, &archive).with_context(|| format!("build images/{name}"))?;
        fs::write(&stamp, key)?;
        let size = fs::metadata(&archive)?.len() / 1_000_000;
        println!("{name:<12} {} ({size} MB, {:.0} s)", tags.join(" "), start.elapsed().as_secs_f64());
    }
    Ok(())
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
