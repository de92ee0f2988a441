//! `mainstay image`.

use super::{Instance, Output, need_root};
use anyhow::{Context as _, Result};
use comfy_table::{Table, presets};
use mainstay_images::Images;
use std::fs::File;
use std::path::{Path, PathBuf};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Take docker or OCI archives (docker save, skopeo copy, buildah push), plain, gzip or zstd; - is standard input
    Import {
        #[command(flatten)]
        instance: Instance,
        /// Archives
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// List images
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        instance: Instance,
        /// Output format
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Remove images by name or id
    #[command(visible_alias = "remove")]
    Rm {
        #[command(flatten)]
        instance: Instance,
        /// Names or ids
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

pub(super) fn run(command: &Command) -> Result<()> {
    need_root("image")?;
    match command {
        Command::Import { instance, files } => {
            let images = open(instance)?;
            files.iter().try_for_each(|file| import(&images, file))
        }
        Command::List { instance, output } => list(&open(instance)?, *output),
        Command::Rm { instance, names } => {
            let images = open(instance)?;
            for name in names {
                for gone in images.remove(name)? {
                    println!("removed {gone}");
                }
            }
            Ok(())
        }
    }
}

fn open(instance: &Instance) -> Result<Images> {
    let data = instance.open()?;
    data.create()?;
    Ok(Images::open(&data.path().join("images"))?)
}

fn import(images: &Images, file: &Path) -> Result<()> {
    let found = if file == Path::new("-") {
        images.import(&mut std::io::stdin().lock(), "standard input")?
    } else {
        let mut source = File::open(file).with_context(|| format!("open {}", file.display()))?;
        images.import(&mut source, &file.display().to_string())?
    };
    for image in found {
        println!("imported {} ({})", if image.names.is_empty() { image.id.clone() } else { image.names.join(", ") }, size(image.size_bytes));
    }
    Ok(())
}

fn list(images: &Images, output: Output) -> Result<()> {
    let all = images.list();
    if output == Output::Json {
        let rows: Vec<_> = all.iter().map(|i| serde_json::json!({"id": i.id, "names": i.names, "digests": i.digests, "sizeBytes": i.size_bytes})).collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    let mut rows: Vec<[String; 3]> = all
        .iter()
        .flat_map(|i| {
            let names = if i.names.is_empty() { vec!["<none>".to_owned()] } else { i.names.clone() };
            names.into_iter().map(|n| [n, i.id.trim_start_matches("sha256:").chars().take(12).collect(), size(i.size_bytes)])
        })
        .collect();
    rows.sort();
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["IMAGE", "ID", "SIZE"]);
    table.add_rows(rows);
    println!("{table}");
    Ok(())
}

fn size(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
