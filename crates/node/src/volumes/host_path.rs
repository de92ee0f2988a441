//! `hostPath`: a path of the node, checked against the type the pod expects.

use super::Mounted;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub(crate) async fn mount(path: &str, expected: &str) -> Result<Mounted, String> {
    let (path, expected) = (PathBuf::from(path), expected.to_owned());
    tokio::task::spawn_blocking(move || check(&path, &expected).map(|()| Mounted { path, read_only: false }))
        .await
        .map_err(|e| format!("hostPath: {e}"))?
}

/// Upstream: `hostPathTypeChecker` (pkg/volume/hostpath/host_path.go).
fn check(path: &Path, expected: &str) -> Result<(), String> {
    let shown = path.display();
    let failed = |what: &str| Err(format!("hostPath type check failed: {shown} is not {what}"));
    let io = |e: io::Error| format!("hostPath {shown}: {e}");
    let found = std::fs::metadata(path);
    match expected {
        "" => match found {
            // As docker did it, and every runtime since: a missing source is made as a directory.
            Err(e) if e.kind() == io::ErrorKind::NotFound => std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(io),
            other => other.map(drop).map_err(io),
        },
        "DirectoryOrCreate" => match found {
            Ok(m) if m.is_dir() => Ok(()),
            Ok(_) => failed("a directory"),
            Err(_) => std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(io),
        },
        "FileOrCreate" => match found {
            Ok(m) if m.is_file() => Ok(()),
            Ok(_) => failed("a file"),
            Err(_) => std::fs::OpenOptions::new().create_new(true).write(true).mode(0o644).open(path).map(drop).map_err(io),
        },
        "Directory" if found.as_ref().is_ok_and(|m| m.is_dir()) => Ok(()),
        "Directory" => failed("a directory"),
        "File" if found.as_ref().is_ok_and(|m| m.is_file()) => Ok(()),
        "File" => failed("a file"),
        "Socket" if found.as_ref().is_ok_and(|m| m.file_type().is_socket()) => Ok(()),
        "Socket" => failed("a socket file"),
        "CharDevice" if found.as_ref().is_ok_and(|m| m.file_type().is_char_device()) => Ok(()),
        "CharDevice" => failed("a character device"),
        "BlockDevice" if found.as_ref().is_ok_and(|m| m.file_type().is_block_device()) => Ok(()),
        "BlockDevice" => failed("a block device"),
        other => Err(format!("{other} is an invalid volume type")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_accepts_only_its_own() {
        for (path, expected, want) in [
            ("/dev", "Directory", Ok(())),
            ("/dev/null", "CharDevice", Ok(())),
            ("/dev/null", "Directory", Err("hostPath type check failed: /dev/null is not a directory".to_owned())),
            ("/nonexistent-mainstay", "File", Err("hostPath type check failed: /nonexistent-mainstay is not a file".to_owned())),
            ("/dev", "Pipe", Err("Pipe is an invalid volume type".to_owned())),
        ] {
            assert_eq!(check(Path::new(path), expected), want, "{path} {expected}");
        }
    }
}
