//! Taking a docker or OCI archive.

use crate::layer::{Hashing, decompress};
use crate::store::Blob;
use crate::{Error, Image, Images, canonical};
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use tar::EntryType;

/// Bytes of a JSON document in an archive.
const DOCUMENT_LIMIT_BYTES: u64 = 8 << 20;
/// Entries of an archive.
const ENTRIES_LIMIT: usize = 10_000;
/// Nested indexes in an OCI layout.
const DEPTH_LIMIT: usize = 4;

/// The entries of an archive, spooled to disk: manifests may come after the layers they name.
struct Spool<'a> {
    images: &'a Images,
    files: HashMap<String, PathBuf>,
    links: HashMap<String, String>,
}

impl Drop for Spool<'_> {
    fn drop(&mut self) {
        for path in self.files.values() {
            self.images.discard(path);
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// A manifest or an index: whichever of the two it is has its field.
#[derive(Deserialize)]
struct OciDocument {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

pub(crate) fn import(images: &Images, archive: &mut dyn Read, name: &str) -> Result<Vec<Image>, Error> {
    let bad = |reason: String| Error::Archive { archive: name.to_owned(), reason };
    let mut spool = Spool { images, files: HashMap::new(), links: HashMap::new() };
    spool.read(archive).map_err(|e| bad(format!("not a docker or OCI archive that can be read: {e}")))?;
    let found = if spool.find("manifest.json").is_some() {
        spool.docker(&bad)?
    } else if spool.find("index.json").is_some() {
        let stem = Path::new(name).file_name().and_then(|n| n.to_str()).unwrap_or("image").split('.').next().unwrap_or("image").to_lowercase();
        spool.oci("index.json", &[], &stem, 0, &bad)?
    } else {
        return Err(bad("it holds neither manifest.json (docker save) nor index.json (OCI layout)".into()));
    };
    if found.is_empty() {
        return Err(bad(format!("it holds no image for linux/{}", architecture())));
    }
    Ok(found)
}

impl Spool<'_> {
    fn read(&mut self, archive: &mut dyn Read) -> io::Result<()> {
        let mut archive = tar::Archive::new(decompress(archive)?);
        for (count, entry) in archive.entries()?.enumerate() {
            if count >= ENTRIES_LIMIT {
                return Err(io::Error::other(format!("more than {ENTRIES_LIMIT} entries")));
            }
            let mut entry = entry?;
            let path = plain(&entry.path()?)?;
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    let target = self.images.temporary();
                    let mut hashing = Hashing::new(&mut entry);
                    io::copy(&mut hashing, &mut File::create(&target)?)?;
                    self.files.insert(path.clone(), target);
                    let digest = hashing.finish();
                    if let Some(hex) = path.strip_prefix("blobs/sha256/")
                        && digest != format!("sha256:{hex}")
                    {
                        return Err(io::Error::other(format!("blob {path} has digest {digest}")));
                    }
                }
                EntryType::Symlink | EntryType::Link => {
                    let link = entry.link_name()?.map(|l| l.into_owned()).unwrap_or_default();
                    let base = if entry.header().entry_type() == EntryType::Link { Path::new("") } else { Path::new(&path).parent().unwrap_or(Path::new("")) };
                    let target = plain(&base.join(link))?;
                    self.links.insert(path, target);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn find(&self, path: &str) -> Option<&PathBuf> {
        let path = self.links.get(path).map_or(path, String::as_str);
        self.files.get(path)
    }

    fn document(&self, path: &str) -> Result<Vec<u8>, String> {
        let file = self.find(path).ok_or_else(|| format!("{path} is missing"))?;
        let mut bytes = Vec::new();
        File::open(file).and_then(|f| f.take(DOCUMENT_LIMIT_BYTES).read_to_end(&mut bytes)).map_err(|e| format!("{path}: {e}"))?;
        Ok(bytes)
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        serde_json::from_slice(&self.document(path)?).map_err(|e| format!("{path}: {e}"))
    }

    fn docker(&self, bad: &dyn Fn(String) -> Error) -> Result<Vec<Image>, Error> {
        let mut found = Vec::new();
        for image in self.parse::<Vec<DockerImage>>("manifest.json").map_err(bad)? {
            let names = image.repo_tags.unwrap_or_default().iter().map(|t| canonical(t)).collect::<Result<Vec<_>, _>>()?;
            found.push(self.take(&image.config, &image.layers, &names, None, bad)?);
        }
        Ok(found)
    }

    fn oci(&self, path: &str, inherited: &[String], stem: &str, depth: usize, bad: &dyn Fn(String) -> Error) -> Result<Vec<Image>, Error> {
        if depth > DEPTH_LIMIT {
            return Err(bad(format!("more than {DEPTH_LIMIT} nested indexes")));
        }
        let document: OciDocument = self.parse(path).map_err(bad)?;
        if let Some(config) = document.config {
            let layers: Vec<String> = document.layers.iter().map(|l| blob(&l.digest)).collect();
            let digest = path.strip_prefix("blobs/sha256/").and_then(|hex| inherited.first().map(|n| format!("{}@sha256:{hex}", n.rsplit_once(':').map_or(n.as_str(), |(r, _)| r))));
            return Ok(vec![self.take(&blob(&config.digest), &layers, inherited, digest, bad)?]);
        }
        let mut found = Vec::new();
        for descriptor in document.manifests.unwrap_or_default() {
            // An archive may name platforms that it does not carry.
            let here = descriptor.platform.as_ref().is_none_or(|p| p.os == "linux" && p.architecture == architecture());
            if here && self.find(&blob(&descriptor.digest)).is_some() {
                let names = match annotated(&descriptor, stem) {
                    Some(name) => vec![canonical(&name)?],
                    None => inherited.to_vec(),
                };
                found.extend(self.oci(&blob(&descriptor.digest), &names, stem, depth + 1, bad)?);
            }
        }
        Ok(found)
    }

    fn take(&self, config: &str, layers: &[String], names: &[String], digest: Option<String>, bad: &dyn Fn(String) -> Error) -> Result<Image, Error> {
        let bytes = self.document(config).map_err(bad)?;
        let parsed: oci_spec::image::ImageConfiguration = serde_json::from_slice(&bytes).map_err(|e| bad(format!("{config}: {e}")))?;
        let diff_ids = parsed.rootfs().diff_ids();
        if diff_ids.len() != layers.len() {
            return Err(bad(format!("{} layers, but the configuration names {}", layers.len(), diff_ids.len())));
        }
        for (layer, diff_id) in layers.iter().zip(diff_ids) {
            let path = self.find(layer).ok_or_else(|| bad(format!("layer {layer} is missing")))?;
            self.images.add_layer(&Blob { path: path.clone() }, diff_id)?;
        }
        self.images.add_image(&bytes, names, digest)
    }
}

fn blob(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// The name in a descriptor's annotations: containerd's is whole, the specification's may be only a tag.
fn annotated(descriptor: &Descriptor, stem: &str) -> Option<String> {
    if let Some(name) = descriptor.annotations.get("io.containerd.image.name") {
        return Some(name.clone());
    }
    let reference = descriptor.annotations.get("org.opencontainers.image.ref.name")?;
    Some(if reference.contains(['/', ':']) { reference.clone() } else { format!("{stem}:{reference}") })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A relative path without `.` and `..`, as a key.
fn plain(path: &Path) -> io::Result<String> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir => {
                if !clean.pop() {
                    return Err(io::Error::other(format!("path {} leaves the archive", path.display())));
                }
            }
            Component::Prefix(_) => {}
        }
    }
    clean.into_os_string().into_string().map_err(|_| io::Error::other("a name in the archive is not UTF-8"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use sha2::{Digest as _, Sha256};

    fn sha(bytes: &[u8]) -> String {
        crate::layer::hex(&Sha256::digest(bytes))
    }

    fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, data) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append_data(&mut header, path, *data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn config(layer: &[u8]) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({
            "architecture": architecture(), "os": "linux", "config": {"Cmd": ["/hello"], "StopSignal": "SIGINT"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha(layer))]}
        }))
        .unwrap()
    }

    fn docker(layer: &[u8], tag: &str) -> Vec<u8> {
        let manifest = serde_json::to_vec(&serde_json::json!([{"Config": "c.json", "RepoTags": [tag], "Layers": ["l/layer.tar"]}])).unwrap();
        tar_of(&[("l/layer.tar", layer), ("c.json", &config(layer)), ("manifest.json", &manifest)])
    }

    fn oci(layer: &[u8]) -> Vec<u8> {
        let config = config(layer);
        let digest = |b: &[u8]| format!("sha256:{}", sha(b));
        let manifest = serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "config": {"digest": digest(&config)}, "layers": [{"digest": digest(layer)}]})).unwrap();
        let index = serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": [
            {"digest": format!("sha256:{}", "0".repeat(64)), "platform": {"os": "linux", "architecture": "absent"}},
            {"digest": digest(&manifest), "annotations": {"org.opencontainers.image.ref.name": "1.0"}}]}))
        .unwrap();
        let path = |b: &[u8]| format!("blobs/sha256/{}", sha(b));
        tar_of(&[("index.json", &index), (&path(&manifest), &manifest), (&path(&config), &config), (&path(layer), layer)])
    }

    /// Needs root, as unpacking a layer does.
    #[test]
    fn docker_and_oci_archives_of_one_image_share_its_layer() {
        let dir = tempfile::tempdir().unwrap();
        let images = Images::open(dir.path()).unwrap();
        let layer = tar_of(&[("hello", b"hi")]);
        let first = images.import(&mut &docker(&layer, "hello:1.0")[..], "hello.tar").unwrap();
        assert_eq!(first[0].names, ["docker.io/library/hello:1.0"]);
        assert_eq!(fs::read(first[0].layers[0].join("hello")).unwrap(), b"hi");
        let second = images.import(&mut &zstd::encode_all(&oci(&layer)[..], 1).unwrap()[..], "other.tar.zst").unwrap();
        assert_eq!(second[0].id, first[0].id);
        assert_eq!(images.find("other:1.0").unwrap().layers, first[0].layers);
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0, "nothing temporary stays");
        // Another process sees it too.
        assert_eq!(Images::open(dir.path()).unwrap().find(&first[0].id[..19]).unwrap().size_bytes, 2);
    }

    #[test]
    fn removing_the_last_name_removes_the_layers() {
        let dir = tempfile::tempdir().unwrap();
        let images = Images::open(dir.path()).unwrap();
        let layer = tar_of(&[("hello", b"hi")]);
        for tag in ["a:1", "b:1"] {
            images.import(&mut &docker(&layer, tag)[..], "x").unwrap();
        }
        assert_eq!(images.remove("a:1").unwrap(), ["docker.io/library/a:1"]);
        let image = images.find("b:1").unwrap();
        assert!(image.layers[0].exists());
        images.remove("b:1").unwrap();
        assert!(!image.layers[0].exists());
        assert!(matches!(images.remove("b:1"), Err(Error::NotFound(_))));
    }

    #[test]
    fn a_broken_archive_changes_nothing_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let images = Images::open(dir.path()).unwrap();
        let layer = tar_of(&[("hello", b"hi")]);
        let mut flipped = oci(&layer);
        let at = flipped.windows(2).rposition(|w| w == b"hi").unwrap();
        flipped[at] = b'H';
        let cut = docker(&layer, "x:1");
        for (bytes, words) in [
            (&b"no archive"[..], "not a docker or OCI archive"),
            (&tar_of(&[("a", b"b")])[..], "neither manifest.json"),
            (&flipped[..], "has digest"),
            (&cut[..700], "not a docker or OCI archive"),
        ] {
            let error = images.import(&mut &bytes[..], "bad.tar").unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(images.list().is_empty());
        assert_eq!(fs::read_dir(dir.path().join("layers")).unwrap().count(), 0);
    }
}
