//! A volume on this machine: `<volumes>/<name>/data`, and beside it `volume.json`, which says whose it is.
//!
//! The node refuses a directory without it, or with another's: an unmounted disk or a wrong path must not become an empty database.

use super::PROVISIONER;
use super::fields::{PROVISIONED_BY, annotation, name, namespace, uid};
use mainstay_client::k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const IDENTITY: &str = "volume.json";
const DATA: &str = "data";
/// Directories on their way out.
const DOOMED: &str = ".deleting-";

/// Where volumes are made here.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// `<data-dir>/volumes`.
    pub(super) volumes_dir: PathBuf,
    /// This node.
    pub(super) node: String,
}

/// Whose a directory is.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Identity {
    volume: String,
    /// `namespace/name`.
    claim: String,
    #[serde(rename = "claimUID")]
    claim_uid: String,
}

impl Place {
    /// Where a volume's data is.
    pub(super) fn data(&self, volume: &str) -> PathBuf {
        self.volumes_dir.join(volume).join(DATA)
    }

    /// Whether a volume is one of ours, in its own place: nothing else is ever removed.
    pub(super) fn holds(&self, volume: &PersistentVolume) -> bool {
        let named = name(&volume.metadata);
        let path = volume.spec.as_ref().and_then(|spec| spec.local.as_ref()).map(|local| Path::new(&local.path));
        let plain = named.starts_with("pvc-") && !named.contains(['/', '\0']);
        plain && annotation(&volume.metadata, PROVISIONED_BY) == Some(PROVISIONER) && path == Some(&*self.data(named))
    }

    /// Makes a volume's directory, on disk when this returns. A second call for the same claim changes nothing; for another claim it fails.
    pub(super) fn make(&self, volume: &str, claim: &PersistentVolumeClaim) -> io::Result<()> {
        let metadata = &claim.metadata;
        let identity = Identity { volume: volume.to_owned(), claim: format!("{}/{}", namespace(metadata), name(metadata)), claim_uid: uid(metadata).to_owned() };
        let dir = self.volumes_dir.join(volume);
        match read(&dir)? {
            Some(found) if found == identity => return Ok(()),
            Some(found) => return Err(io::Error::other(format!("{} belongs to claim {} ({})", dir.display(), found.claim, found.claim_uid))),
            None => {}
        }
        fs::create_dir_all(dir.join(DATA))?;
        // Any user of an image may write, whatever its number; the data directory above is closed to other users of this machine.
        fs::set_permissions(dir.join(DATA), fs::Permissions::from_mode(0o777))?;
        let unfinished = dir.join(".volume.json");
        let mut file = File::create(&unfinished)?;
        file.write_all(&serde_json::to_vec(&identity)?)?;
        file.sync_all()?;
        fs::rename(unfinished, dir.join(IDENTITY))?;
        File::open(&dir)?.sync_all()?;
        File::open(&self.volumes_dir)?.sync_all()
    }

    /// Takes a volume's directory out of the way and returns where it went, for [`Place::sweep`]; fails if it is another's.
    pub(super) fn doom(&self, volume: &str) -> io::Result<()> {
        let dir = self.volumes_dir.join(volume);
        match read(&dir) {
            Ok(Some(found)) if found.volume != volume => return Err(io::Error::other(format!("{} belongs to volume {}", dir.display(), found.volume))),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        match fs::rename(&dir, self.volumes_dir.join(format!("{DOOMED}{volume}"))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Removes what was taken out of the way, also by an earlier run.
    pub(super) fn sweep(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.volumes_dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(DOOMED) {
                match fs::remove_dir_all(entry.path()) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// A directory's identity; `None` when there is none.
fn read(dir: &Path) -> io::Result<Option<Identity>> {
    match fs::read(dir.join(IDENTITY)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| io::Error::other(format!("{}: {error}", dir.join(IDENTITY).display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(uid: &str) -> PersistentVolumeClaim {
        serde_json::from_value(json!({"metadata": {"name": "data-db-0", "namespace": "default", "uid": uid}})).expect("a claim")
    }

    #[test]
    fn a_directory_is_made_once_belongs_to_one_claim_and_goes_in_two_steps() {
        let root = std::env::temp_dir().join(format!("mainstay-claims-{}", std::process::id()));
        let place = Place { volumes_dir: root.join("volumes"), node: "n".into() };
        place.make("pvc-1", &claim("1")).expect("made");
        fs::write(place.data("pvc-1").join("file"), "x").expect("written");
        place.make("pvc-1", &claim("1")).expect("made again");
        assert!(place.data("pvc-1").join("file").exists());
        assert_eq!(fs::metadata(place.data("pvc-1")).expect("there").permissions().mode() & 0o7777, 0o777);
        let identity: serde_json::Value = serde_json::from_slice(&fs::read(root.join("volumes/pvc-1/volume.json")).expect("there")).expect("JSON");
        assert_eq!(identity, json!({"volume": "pvc-1", "claim": "default/data-db-0", "claimUID": "1"}));
        assert!(place.make("pvc-1", &claim("2")).expect_err("another's").to_string().contains("belongs to claim default/data-db-0 (1)"));
        place.doom("pvc-1").expect("out of the way");
        place.doom("pvc-1").expect("and nothing to do the second time");
        assert!(root.join("volumes/.deleting-pvc-1/data/file").exists());
        place.sweep().expect("removed");
        assert_eq!(fs::read_dir(root.join("volumes")).expect("there").count(), 0);
        fs::remove_dir_all(&root).expect("removed");
    }

    #[test]
    fn only_a_volume_of_ours_in_its_own_place_is_held() {
        let place = Place { volumes_dir: "/v".into(), node: "n".into() };
        let volume = |name: &str, path: &str, by: &str| {
            serde_json::from_value(json!({"metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": by}}, "spec": {"local": {"path": path}}})).expect("a volume")
        };
        assert!(place.holds(&volume("pvc-1", "/v/pvc-1/data", PROVISIONER)));
        assert!(!place.holds(&volume("pvc-1", "/v/pvc-2/data", PROVISIONER)));
        assert!(!place.holds(&volume("pvc-1", "/v/pvc-1/data", "x")));
        assert!(!place.holds(&volume("other", "/v/other/data", PROVISIONER)));
    }
}
