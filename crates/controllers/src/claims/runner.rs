//! Reads the caches, asks the steps, carries out.

use super::claim::{self, reference};
use super::directory::Place;
use super::fields::*;
use super::write::Write;
use super::{PROVISIONER, STANDARD, volume};
use crate::Config;
use crate::queue::Queue;
use crate::runner::{Group, Name, feed, work};
use k8s_openapi::api::core::v1::{Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mainstay_client::{Cache, Cluster, Delta, Error, Recorder, Resource};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Claims and volumes worked on at a time.
const WORKERS: usize = 8;
/// Events remembered so that one is not repeated at every look.
const TOLD_LIMIT: usize = 4_096;
/// How long a write of one's own may take to show in the cache before the next look no longer waits for it.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Claim(Name),
    Volume(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(name) => write!(f, "persistentvolumeclaim {name}"),
            Self::Volume(name) => write!(f, "persistentvolume {name}"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Api(#[from] Error),
    #[error("volume {volume}: {doing} its directory")]
    Directory { volume: String, doing: &'static str, source: std::io::Error },
    #[error("volume {volume}: it is claimed by another")]
    Taken { volume: String },
    /// The caches said what the server does not confirm.
    #[error("the view of {0} is old")]
    Stale(String),
}

struct Controller {
    cluster: Cluster,
    recorder: Recorder,
    place: Place,
    queue: Arc<Queue<Key>>,
    claims: Cache<PersistentVolumeClaim>,
    volumes: Cache<PersistentVolume>,
    classes: Cache<StorageClass>,
    nodes: Cache<Node>,
    pods: Cache<Pod>,
    /// The last event told of each uid.
    told: Mutex<HashMap<String, String>>,
}

/// The claims that a pod names.
fn claims_of(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref()).map(|source| source.claim_name.as_str())
}

fn seconds(result: Result<(), Failure>) -> Result<Option<Duration>, Failure> {
    result.map(|()| None)
}

/// Runs until the future is dropped.
pub(crate) async fn run(cluster: Cluster, config: Config) {
    let cluster = cluster.named("persistentvolume-controller");
    let queue: Arc<Queue<Key>> = Arc::new(Queue::new());
    let controller = Arc::new(Controller {
        recorder: cluster.recorder(),
        place: Place { volumes_dir: config.volumes_dir, node: config.node },
        queue: queue.clone(),
        claims: cluster.persistent_volume_claims(),
        volumes: cluster.persistent_volumes(),
        classes: cluster.storage_classes(),
        nodes: cluster.nodes(),
        pods: cluster.pods(),
        told: Mutex::default(),
        cluster,
    });
    tokio::join!(controller.claims.synced(), controller.volumes.synced(), controller.classes.synced(), controller.nodes.synced(), controller.pods.synced());
    controller.ensure_standard_class().await;
    controller.sweep();
    let mut group = Group::default();
    controller.listen(&mut group);
    group.spawn(work("claims", WORKERS, queue, move |key: Key| {
        let controller = controller.clone();
        async move {
            match &key {
                Key::Claim(name) => seconds(controller.sync_claim(name).await),
                Key::Volume(name) => seconds(controller.sync_volume(name).await),
            }
        }
    }));
    group.wait().await;
}

impl Controller {
    /// The class that a new cluster begins with; one that was changed is left as it is.
    async fn ensure_standard_class(&self) {
        let class = StorageClass {
            allow_volume_expansion: Some(true),
            metadata: ObjectMeta {
                annotations: Some([(DEFAULT_CLASS[0].to_owned(), "true".to_owned())].into()),
                name: Some(STANDARD.to_owned()),
                ..ObjectMeta::default()
            },
            provisioner: PROVISIONER.to_owned(),
            reclaim_policy: Some("Delete".to_owned()),
            volume_binding_mode: Some("WaitForFirstConsumer".to_owned()),
            ..StorageClass::default()
        };
        if self.classes.get("", STANDARD).is_none()
            && let Err(error) = self.cluster.create(&class).await
            && !error.is_already_exists()
        {
            tracing::error!(%error, "the class {STANDARD} is missing");
        }
    }

    fn listen(self: &Arc<Self>, group: &mut Group) {
        group.spawn(feed(self.claims.clone(), self.queue.clone(), |change: &Delta<PersistentVolumeClaim>, add: &mut dyn FnMut(Key)| {
            for claim in [&change.old, &change.new].into_iter().flatten() {
                if !volume_name(claim).is_empty() {
                    add(Key::Volume(volume_name(claim).to_owned()));
                }
                add(Key::Claim(Name::of(&**claim)));
            }
        }));
        let here = self.clone();
        group.spawn(feed(self.volumes.clone(), self.queue.clone(), move |change: &Delta<PersistentVolume>, add: &mut dyn FnMut(Key)| {
            let Some(volume) = change.newest() else { return };
            add(Key::Volume(name(&volume.metadata).to_owned()));
            match claim_ref(volume) {
                Some(reference) => add(Key::Claim(Name::new(reference.namespace.as_deref().unwrap_or_default(), reference.name.as_deref().unwrap_or_default()))),
                // It may suit a claim that waits.
                None if volume_phase(volume) == "Available" => here.waiting_claims(add),
                None => {}
            }
        }));
        let here = self.clone();
        group.spawn(feed(self.classes.clone(), self.queue.clone(), move |_: &Delta<StorageClass>, add: &mut dyn FnMut(Key)| here.waiting_claims(add)));
        group.spawn(feed(self.pods.clone(), self.queue.clone(), |change: &Delta<Pod>, add: &mut dyn FnMut(Key)| {
            // Coming, being put on a node, going: nothing else of a pod matters to its claims.
            let on_node = |pod: &Option<Arc<Pod>>| pod.as_ref().map(|pod| pod.node_name().is_some());
            if on_node(&change.old) != on_node(&change.new)
                && let Some(pod) = change.newest()
            {
                claims_of(pod).for_each(|claim| add(Key::Claim(Name::new(namespace(&pod.metadata), claim))));
            }
        }));
    }

    fn waiting_claims(&self, add: &mut dyn FnMut(Key)) {
        self.claims.list().iter().filter(|claim| annotation(&claim.metadata, BIND_COMPLETED).is_none()).for_each(|claim| add(Key::Claim(Name::of(&**claim))));
    }

    async fn sync_claim(&self, wanted: &Name) -> Result<(), Failure> {
        let Some(claim) = self.claims.get(&wanted.namespace, &wanted.name) else { return Ok(()) };
        let writes = {
            let volumes = self.volumes.list();
            let classes = self.classes.list();
            let class = claim_class(&claim).and_then(|class| self.classes.get("", class));
            let default_class = classes.iter().filter(|class| is_default(class)).max_by_key(|class| class.metadata.creation_timestamp.as_ref().map(|time| time.0));
            let node = annotation(&claim.metadata, SELECTED_NODE).and_then(|node| self.nodes.get("", node));
            let pods = self.pods.list_in(&wanted.namespace);
            let users = pods.iter().filter(|pod| claims_of(pod).any(|named| named == wanted.name));
            claim::step(&claim::Observed {
                claim: &claim,
                volumes: &volumes,
                class: class.as_deref(),
                default_class: default_class.map(|class| name(&class.metadata)),
                node: node.as_deref(),
                pods: users.map(|pod| (name(&pod.metadata), pod.node_name().is_some())).collect(),
                place: &self.place,
            })
        };
        self.carry_out(writes, &Subject::Claim(&claim)).await
    }

    async fn sync_volume(&self, wanted: &str) -> Result<(), Failure> {
        let Some(volume) = self.volumes.get("", wanted) else { return Ok(()) };
        let writes = {
            let claim = claim_ref(&volume).and_then(|reference| self.claims.get(reference.namespace.as_deref().unwrap_or_default(), reference.name.as_deref().unwrap_or_default()));
            volume::step(&volume::Observed { volume: &volume, claim: claim.as_deref(), place: &self.place })
        };
        // A claim that the cache does not know yet must not cost it its volume.
        let releases = writes.iter().any(|write| matches!(write, Write::RemoveVolume | Write::VolumePhase { phase: "Released", .. }));
        if releases && self.claim_lives(&volume).await? {
            return Err(Failure::Stale(format!("the claim of volume {wanted}")));
        }
        self.carry_out(writes, &Subject::Volume(&volume)).await
    }

    async fn claim_lives(&self, volume: &PersistentVolume) -> Result<bool, Error> {
        let Some(reference) = claim_ref(volume) else { return Ok(false) };
        let (namespace, name) = (reference.namespace.as_deref().unwrap_or_default(), reference.name.as_deref().unwrap_or_default());
        match self.cluster.get::<PersistentVolumeClaim>(namespace, name).await {
            Ok(claim) => Ok(claim.metadata.uid == reference.uid && [super::fields::name(&volume.metadata), ""].contains(&volume_name(&claim))),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// In order; the first failure ends it, and the next look begins from what is there then.
    async fn carry_out(&self, writes: Vec<Write>, subject: &Subject<'_>) -> Result<(), Failure> {
        let mut seen = (None, None);
        for write in writes {
            match self.write(write, subject).await? {
                Written::Claim(revision) => seen.0 = revision,
                Written::Volume(revision) => seen.1 = revision,
                Written::Nothing => {}
            }
        }
        // The next look must not undo or repeat what this one did.
        let claims = async { if let Some(revision) = &seen.0 { self.claims.reached(revision).await } };
        let volumes = async { if let Some(revision) = &seen.1 { self.volumes.reached(revision).await } };
        let _ = tokio::time::timeout(SEEN_WITHIN, async { tokio::join!(claims, volumes) }).await;
        Ok(())
    }

    async fn write(&self, write: Write, subject: &Subject<'_>) -> Result<Written, Failure> {
        match write {
            Write::Event { severity, reason, message } => {
                self.tell(&subject.reference(), severity, reason, message);
                Ok(Written::Nothing)
            }
            Write::Class(class) => self.patch_claim(subject, None, json!({"spec": {"storageClassName": class}})).await,
            Write::Provisioner(name) => self.patch_claim(subject, None, json!({"metadata": {"annotations": provisioner(&name)}})).await,
            Write::MakeVolume(volume) => self.make(*volume, subject).await,
            Write::Claim { volume } => self.claim_volume(&volume, subject).await,
            Write::Bind { volume, by_controller, provisioner: by } => {
                let mut annotations = by.map_or_else(|| json!({}), |by| provisioner(&by));
                annotations[BIND_COMPLETED] = json!("yes");
                if by_controller {
                    annotations[BOUND_BY_CONTROLLER] = json!("yes");
                }
                self.patch_claim(subject, None, json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": volume}})).await
            }
            Write::ClaimStatus { phase, capacity, access_modes } => {
                if phase == "Lost" {
                    self.confirm_lost(subject).await?;
                }
                let capacity = capacity.map_or(Value::Null, |size| json!({"storage": size}));
                let access_modes = if access_modes.is_empty() { Value::Null } else { json!(access_modes) };
                self.patch_claim(subject, Some("status"), json!({"status": {"phase": phase, "capacity": capacity, "accessModes": access_modes}})).await
            }
            Write::Resize { volume, capacity } => self.patch_volume(&volume, None, &json!({"spec": {"capacity": {"storage": capacity}}})).await,
            Write::VolumePhase { volume, phase } => self.patch_volume(&volume, Some("status"), &json!({"status": {"phase": phase}})).await,
            Write::Unclaim { wholly } => {
                let uid = json!({"uid": null, "resourceVersion": null});
                let reference = if wholly { Value::Null } else { uid };
                let annotations = if wholly { json!({BOUND_BY_CONTROLLER: null}) } else { json!({}) };
                self.patch_volume(subject.name(), None, &json!({"metadata": {"annotations": annotations}, "spec": {"claimRef": reference}})).await
            }
            Write::RemoveVolume => self.remove(subject).await,
            Write::Protect => self.protect(subject).await,
            Write::Unprotect => self.unprotect(subject).await,
        }
    }

    /// The same event about the same object is told once, until another is.
    fn tell(&self, about: &ObjectReference, severity: mainstay_client::Severity, reason: &str, message: String) {
        let mut told = self.told.lock();
        if told.len() >= TOLD_LIMIT {
            told.clear();
        }
        let before = told.insert(about.uid.clone().unwrap_or_default(), message.clone());
        if before.as_deref() != Some(&*message) {
            drop(told);
            self.recorder.record(about.clone(), severity, reason, message);
        }
    }

    /// Names the uid, so that a claim of the same name that came meanwhile is not meant.
    async fn patch_claim(&self, subject: &Subject<'_>, subresource: Option<&str>, mut patch: Value) -> Result<Written, Failure> {
        let Subject::Claim(claim) = subject else { return Ok(Written::Nothing) };
        patch["metadata"]["uid"] = json!(claim.metadata.uid);
        let patched: Result<PersistentVolumeClaim, Error> = self.cluster.merge_patch(namespace(&claim.metadata), name(&claim.metadata), subresource, &patch).await;
        match patched {
            Ok(claim) => Ok(Written::Claim(claim.metadata.resource_version)),
            Err(error) if error.is_not_found() => Ok(Written::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    async fn patch_volume(&self, volume: &str, subresource: Option<&str>, patch: &Value) -> Result<Written, Failure> {
        let patched: PersistentVolume = self.cluster.merge_patch("", volume, subresource, patch).await?;
        Ok(Written::Volume(patched.metadata.resource_version))
    }

    /// The directory is on disk before the object exists, and both before the claim is bound.
    async fn make(&self, volume: PersistentVolume, subject: &Subject<'_>) -> Result<Written, Failure> {
        let Subject::Claim(claim) = subject else { return Ok(Written::Nothing) };
        let named = name(&volume.metadata).to_owned();
        let (place, owner, target) = (self.place.clone(), (*claim).clone(), named.clone());
        let made = tokio::task::spawn_blocking(move || place.make(&target, &owner)).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        if let Err(source) = made {
            let message = format!("failed to provision volume with StorageClass \"{}\": {source}", claim_class(claim).unwrap_or_default());
            self.tell(&subject.reference(), mainstay_client::Severity::Warning, "ProvisioningFailed", message);
            return Err(Failure::Directory { volume: named, doing: "make", source });
        }
        match self.cluster.create(&volume).await {
            Ok(volume) => Ok(Written::Volume(volume.metadata.resource_version)),
            // An earlier attempt came this far.
            Err(error) if error.is_already_exists() => Ok(Written::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Fails when another claim was faster.
    async fn claim_volume(&self, volume: &str, subject: &Subject<'_>) -> Result<Written, Failure> {
        let Subject::Claim(claim) = subject else { return Ok(Written::Nothing) };
        let mut found: PersistentVolume = self.cluster.get("", volume).await?;
        match claim_ref(&found) {
            Some(taken) if !refers_to(taken, claim) => return Err(Failure::Taken { volume: volume.to_owned() }),
            // Reserved by hand: it stays so when its claim goes.
            Some(_) => {}
            None => drop(found.metadata.annotations.get_or_insert_default().insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned())),
        }
        found.spec.get_or_insert_default().claim_ref = Some(reference(claim));
        let updated = self.cluster.update(&found).await?;
        Ok(Written::Volume(updated.metadata.resource_version))
    }

    /// `Lost` is for ever: the server is asked before it is said.
    async fn confirm_lost(&self, subject: &Subject<'_>) -> Result<(), Failure> {
        let Subject::Claim(claim) = subject else { return Ok(()) };
        if volume_name(claim).is_empty() {
            return Ok(());
        }
        match self.cluster.get::<PersistentVolume>("", volume_name(claim)).await {
            Ok(volume) if claim_ref(&volume).is_none_or(|reference| reference.uid == claim.metadata.uid) => Err(Failure::Stale(format!("volume {}", volume_name(claim)))),
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The directory first: an object that is left is tried again, a directory that is left is not known to anyone.
    async fn remove(&self, subject: &Subject<'_>) -> Result<Written, Failure> {
        let Subject::Volume(volume) = subject else { return Ok(Written::Nothing) };
        let named = name(&volume.metadata).to_owned();
        let (place, target) = (self.place.clone(), named.clone());
        let doomed = tokio::task::spawn_blocking(move || place.doom(&target)).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        if let Err(source) = doomed {
            self.tell(&subject.reference(), mainstay_client::Severity::Warning, "VolumeFailedDelete", source.to_string());
            self.patch_volume(&named, Some("status"), &json!({"status": {"phase": "Failed", "message": source.to_string()}})).await?;
            return Err(Failure::Directory { volume: named, doing: "remove", source });
        }
        self.sweep();
        if volume.metadata.deletion_timestamp.is_none() {
            let options = json!({"preconditions": {"uid": volume.metadata.uid}});
            gone_is_fine(self.cluster.delete::<PersistentVolume>("", &named, &options).await)?;
        }
        self.unprotect(subject).await
    }

    /// Frees the space in the background.
    fn sweep(&self) {
        let place = self.place.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = place.sweep() {
                tracing::warn!(%error, "volumes that were deleted still take space");
            }
        });
    }

    async fn protect(&self, subject: &Subject<'_>) -> Result<Written, Failure> {
        let (metadata, finalizer) = subject.protection();
        let mut finalizers = finalizers_without(metadata, finalizer);
        finalizers.push(finalizer.to_owned());
        self.set_finalizers(subject, finalizers).await
    }

    async fn unprotect(&self, subject: &Subject<'_>) -> Result<Written, Failure> {
        let (metadata, finalizer) = subject.protection();
        if let Subject::Claim(claim) = subject
            && self.is_used(claim).await?
        {
            return Err(Failure::Stale(format!("the pods of {}", namespace(&claim.metadata))));
        }
        self.set_finalizers(subject, finalizers_without(metadata, finalizer)).await
    }

    /// Whether a pod on a node names the claim, by the server's word: the cache may not know the newest one.
    async fn is_used(&self, claim: &PersistentVolumeClaim) -> Result<bool, Error> {
        let path = format!("/api/v1/namespaces/{}/pods", mainstay_client::encode_segment(namespace(&claim.metadata)));
        let pods = self.cluster.request(http::Method::GET, &path, None).await?;
        let uses = |pod: &Value| {
            let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
            pod["spec"]["nodeName"].is_string() && volumes.into_iter().any(|volume| volume["persistentVolumeClaim"]["claimName"] == name(&claim.metadata))
        };
        Ok(pods["items"].as_array().into_iter().flatten().any(uses))
    }

    async fn set_finalizers(&self, subject: &Subject<'_>, finalizers: Vec<String>) -> Result<Written, Failure> {
        let metadata = subject.metadata();
        let current = match subject {
            // Deleting it has just given it a new revision.
            Subject::Volume(volume) if volume.metadata.deletion_timestamp.is_none() && !finalizers.iter().any(|name| name == VOLUME_PROTECTION) => Value::Null,
            _ => json!(metadata.resource_version),
        };
        let mut patch = json!({"metadata": {"finalizers": finalizers, "uid": metadata.uid}});
        if !current.is_null() {
            patch["metadata"]["resourceVersion"] = current;
        }
        let written = match subject {
            Subject::Claim(claim) => {
                let patched: Result<PersistentVolumeClaim, Error> = self.cluster.merge_patch(namespace(metadata), name(&claim.metadata), None, &patch).await;
                patched.map(|claim| Written::Claim(claim.metadata.resource_version))
            }
            Subject::Volume(_) => {
                let patched: Result<PersistentVolume, Error> = self.cluster.merge_patch("", name(metadata), None, &patch).await;
                patched.map(|volume| Written::Volume(volume.metadata.resource_version))
            }
        };
        match written {
            Err(error) if error.is_not_found() => Ok(Written::Nothing),
            other => Ok(other?),
        }
    }
}

fn provisioner(name: &str) -> Value {
    json!({STORAGE_PROVISIONER: name, BETA_STORAGE_PROVISIONER: name})
}

fn gone_is_fine(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Where a write shows, at which revision.
enum Written {
    Claim(Option<String>),
    Volume(Option<String>),
    Nothing,
}

/// What a step was about.
enum Subject<'a> {
    Claim(&'a PersistentVolumeClaim),
    Volume(&'a PersistentVolume),
}

impl Subject<'_> {
    fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Claim(claim) => &claim.metadata,
            Self::Volume(volume) => &volume.metadata,
        }
    }

    fn name(&self) -> &str {
        name(self.metadata())
    }

    fn protection(&self) -> (&ObjectMeta, &'static str) {
        match self {
            Self::Claim(claim) => (&claim.metadata, CLAIM_PROTECTION),
            Self::Volume(volume) => (&volume.metadata, VOLUME_PROTECTION),
        }
    }

    fn reference(&self) -> ObjectReference {
        match self {
            Self::Claim(claim) => mainstay_client::reference(*claim),
            Self::Volume(volume) => mainstay_client::reference(*volume),
        }
    }
}
