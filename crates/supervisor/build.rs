//! Makes the supervisor program (static, small, for itself) that the library embeds.
//!
//! It is a cargo build of its own, in a target directory of its own (the outer cargo holds the lock of ours), with the workspace's
//! lock file. `MAINSTAY_SUPERVISOR=<file>` embeds a program that was made before.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=MAINSTAY_SUPERVISOR");
    for watched in ["build.rs", "Cargo.toml", "src", "../../Cargo.lock"] {
        println!("cargo::rerun-if-changed={watched}");
    }
    // Inside the nested build, and for whoever wants the formats alone, there is nothing to embed.
    if std::env::var_os("CARGO_FEATURE_PROGRAM").is_some() || std::env::var_os("CARGO_FEATURE_NODE").is_none() {
        return;
    }
    let out = PathBuf::from(variable("OUT_DIR"));
    let program = match std::env::var_os("MAINSTAY_SUPERVISOR") {
        Some(made) => PathBuf::from(made),
        None => build(&out),
    };
    let embedded = out.join("supervisor");
    if let Err(error) = std::fs::copy(&program, &embedded) {
        fail(&format!("copy {} to {}: {error}", program.display(), embedded.display()));
    }
}

fn build(out: &Path) -> PathBuf {
    let target = variable("TARGET");
    // OUT_DIR is <target directory>/[<triple>/]<profile>/build/<package>/out. One nested directory serves all profiles.
    let profile_dir = out.ancestors().nth(3).unwrap_or(out);
    let parent = profile_dir.parent().unwrap_or(profile_dir);
    let parent = if parent.ends_with(&target) { parent.parent().unwrap_or(parent) } else { parent };
    let nested = parent.join("supervisor");
    // Linking it takes half a minute: done again only when what goes into it changed, not whenever another crate's dependency did.
    let made = nested.join("made").join(format!("{:016x}", digest_of_inputs()));
    if made.is_file() {
        return made;
    }

    // Not position-independent: half a megabyte of relocations would be private memory of every supervisor (and rust-lld's static PIE with
    // Debian 12's C library jumps to address 0 before main).
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned(), "-Crelocation-model=static".to_owned()];
    // libelf (which libbpf wants) needs more archives on some distributions (zstd); pkg-config knows which.
    flags.extend(static_libraries("libelf").into_iter().map(|flag| format!("-Clink-arg={flag}")));

    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .args(["build", "--quiet", "--profile", "supervisor", "--no-default-features", "--features", "program"])
        .args(["--package", "mainstay-supervisor", "--bin", "mainstay-supervisor", "--target", &target])
        .arg("--manifest-path")
        .arg(Path::new(&variable("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&nested)
        .arg("--locked");
    // What the outer build says of itself must not steer the nested one.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let ours = text.starts_with("CARGO_FEATURE_") || text.starts_with("CARGO_CFG_") || text.starts_with("CARGO_PKG_");
        let outer = ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "CARGO_TARGET_DIR", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER", "CARGO_MAKEFLAGS", "MAKEFLAGS"];
        if ours || outer.contains(&&*text) {
            cargo.env_remove(&name);
        }
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    cargo.env("LIBSECCOMP_LINK_TYPE", "static");
    cargo.env("LIBSECCOMP_LIB_PATH", library_directory("libseccomp"));
    match cargo.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("the supervisor program does not build ({status}); it needs libseccomp-dev, libelf-dev, zlib1g-dev, pkg-config and a C compiler")),
        Err(error) => fail(&format!("run cargo for the supervisor program: {error}")),
    }
    let built = nested.join(target).join("supervisor").join("mainstay-supervisor");
    let kept = std::fs::create_dir_all(nested.join("made"))
        .and_then(|()| std::fs::copy(&built, made.with_extension("new")))
        .and_then(|_| std::fs::rename(made.with_extension("new"), &made));
    if let Err(error) = kept {
        fail(&format!("keep {}: {error}", made.display()));
    }
    made
}

/// A digest of the sources and of the locked versions of every package that can be part of the program.
fn digest_of_inputs() -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    let mut files = vec![PathBuf::from("build.rs"), PathBuf::from("Cargo.toml")];
    files_under(Path::new("src"), &mut files);
    files.sort();
    for file in files {
        (file.to_string_lossy(), std::fs::read(&file).unwrap_or_default()).hash(&mut hasher);
    }
    locked_dependencies(&std::fs::read_to_string("../../Cargo.lock").unwrap_or_default()).hash(&mut hasher);
    hasher.finish()
}

fn files_under(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_under(&path, files);
        } else if !path.starts_with("src/node") {
            files.push(path);
        }
    }
}

/// The lock file's entries for everything that libcontainer and the small libraries beside it reach.
fn locked_dependencies(lock: &str) -> Vec<&str> {
    let blocks: Vec<&str> = lock.split("[[package]]").collect();
    let named = |name: &str| {
        let line = format!("\nname = \"{name}\"\n");
        blocks.iter().copied().filter(move |block| block.starts_with(&line)).collect::<Vec<_>>()
    };
    let mut reached = Vec::new();
    let mut open: Vec<String> = ["libcontainer", "libseccomp", "nix", "libc", "oci-spec", "serde", "serde_json", "thiserror", "tracing"].map(str::to_owned).to_vec();
    while let Some(name) = open.pop() {
        for block in named(&name) {
            if reached.contains(&block) {
                continue;
            }
            reached.push(block);
            let dependencies = block.split_once("dependencies = [").map(|(_, list)| list).unwrap_or_default();
            open.extend(dependencies.lines().filter_map(|line| line.trim().strip_prefix('"')?.split([' ', '"']).next().map(str::to_owned)));
        }
    }
    reached.sort_unstable();
    reached
}

fn library_directory(library: &str) -> String {
    let found = pkg_config(&["--variable=libdir", library]);
    found.unwrap_or_else(|| fail(&format!("pkg-config does not know {library}: install {library}-dev and pkg-config")))
}

fn static_libraries(library: &str) -> Vec<String> {
    let flags = pkg_config(&["--static", "--libs-only-l", library]).unwrap_or_default();
    flags.split_whitespace().filter(|flag| *flag != "-lelf" && *flag != "-lz").map(str::to_owned).collect()
}

fn pkg_config(arguments: &[&str]) -> Option<String> {
    let output = Command::new("pkg-config").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| fail(&format!("{name} is not set")))
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    std::process::exit(1)
}
