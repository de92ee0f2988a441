//! Embeds `examples/`: a table of example, file name and text, which `src/examples.rs` includes. Nothing is interpreted here.

use std::path::Path;
use std::{env, fs};

fn main() -> std::io::Result<()> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../../examples").canonicalize()?;
    println!("cargo::rerun-if-changed={}", root.display());
    let mut rows = Vec::new();
    for example in fs::read_dir(&root)?.flatten().filter(|entry| entry.path().join("README.md").is_file()) {
        println!("cargo::rerun-if-changed={}", example.path().display());
        for file in fs::read_dir(example.path())?.flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if name.ends_with(".md") || name.ends_with(".yaml") {
                rows.push(format!("    ({:?}, {name:?}, include_str!({:?})),\n", example.file_name().to_string_lossy(), file.path()));
            }
        }
    }
    rows.sort();
    fs::write(Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("examples.rs"), format!("&[\n{}]\n", rows.concat()))
}
