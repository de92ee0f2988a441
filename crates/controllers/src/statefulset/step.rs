//! Observed → Step: the algorithm, in upstream's order.
//!
//! Upstream: `updateStatefulSet` and what it calls (pkg/controller/statefulset/stateful_set_control.go, 1.36, MaxUnavailableStatefulSet off).
//! Pure: no clock, no randomness, no request. Safe to stop between any two writes: the next step begins from what is there.

use super::identity::{claim_name, claim_templates, correction, identity_matches, name_of, new_claim, new_pod, ordinal, pod_name, replicas, start, storage_matches, uid_of};
use super::observe::Observed;
use super::retention::{Verdict, belongs_to_earlier_pod, owners};
use super::revision::{self, Update};
use super::status::{available, available_at, complete_rolling_update, count, min_ready_seconds, phase, revision_of, running_and_ready, terminating};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most writes at a time under Parallel. Upstream: `MaxBatchSize`.
const BATCH_LIMIT: usize = 500;

/// New owners of a claim that is there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Owners {
    /// The claim.
    pub(crate) claim: Arc<PersistentVolumeClaim>,
    /// All of its owners from now on.
    pub(crate) owners: Vec<OwnerReference>,
}

/// One thing to do.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    /// The set's template is a new revision.
    CreateRevision(Box<ControllerRevision>),
    /// The set's template is an older revision: a roll back.
    Renumber(Arc<ControllerRevision>, i64),
    /// The missing claims first, then the pod, then the owners of claims that were there.
    CreatePod { pod: Box<Pod>, claims: Vec<PersistentVolumeClaim>, owners: Vec<Owners> },
    /// Claims that a pending pod waits for.
    CreateClaims { pod: Arc<Pod>, claims: Vec<PersistentVolumeClaim> },
    /// A pod that cannot be made now.
    Refuse { pod: String, error: String },
    /// Labels, and volumes, of a pod that was adopted.
    CorrectPod { pod: Arc<Pod>, ordinal: i32 },
    /// Gracefully.
    DeletePod(Arc<Pod>),
    /// Retention policy.
    SetOwners(Owners),
    /// A claim that another controller manages.
    ForeignClaim(String),
}

/// What to do: batches one after the other, the writes of one together; then the status, then revisions that nothing needs any more.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Stop after the first batch with a failure.
    pub(crate) batches: Vec<Vec<Write>>,
    /// Written also after a failure.
    pub(crate) status: StatefulSetStatus,
    /// To be deleted.
    pub(crate) cleanup: Vec<Arc<ControllerRevision>>,
    /// When to look again even if nothing changes.
    pub(crate) wake_at: Option<Timestamp>,
    /// What the set waits for, in words.
    pub(crate) waits: Option<String>,
}

/// An ordinal in range, and its pod if there is one.
struct Slot {
    index: i32,
    ordinal: i32,
    pod: Option<Arc<Pod>>,
}

struct Walk<'a> {
    observed: &'a Observed,
    now: Timestamp,
    current: Arc<str>,
    update: Arc<str>,
    /// Decoded when first needed.
    current_template: Option<PodTemplateSpec>,
    batches: Vec<Vec<Write>>,
    waits: Option<String>,
}

/// What to do for a set, given what there is.
pub(crate) fn step(observed: &Observed, now: Timestamp) -> Step {
    let set = &*observed.set;
    let update = revision::update(set, &observed.revisions, observed.collision_count);
    let update_name: Arc<str> = update.name().into();
    let stored = set.status.as_ref().and_then(|status| status.current_revision.as_deref());
    let current = observed.revisions.iter().map(|revision| name_of(&revision.metadata)).find(|name| Some(*name) == stored);
    let current_name: Arc<str> = current.map_or_else(|| update_name.clone(), Arc::from);
    let mut walk = Walk { observed, now, current: current_name.clone(), update: update_name.clone(), current_template: None, batches: Vec::new(), waits: None };
    match update {
        Update::Newest(_) => {}
        Update::Renumber(revision, number) => walk.batches.push(vec![Write::Renumber(revision, number)]),
        Update::Create(revision) => walk.batches.push(vec![Write::CreateRevision(revision)]),
    }
    let mut status = count(set, observed.pods.iter().map(|pod| &**pod), &current_name, &update_name, observed.collision_count, now);
    if set.metadata.deletion_timestamp.is_none() && walk.all() == Some(DeletedForUpdate) {
        status.current_replicas = status.current_replicas.map(|count| (count - 1).max(0));
    }
    complete_rolling_update(set, &mut status);
    let min_ready = min_ready_seconds(set);
    let wake_at = observed.pods.iter().filter_map(|pod| available_at(pod, min_ready)).filter(|at| *at > now).min();
    let mut live: BTreeSet<&str> = observed.pods.iter().map(|pod| revision_of(pod)).collect();
    live.extend([&*current_name, &*update_name]);
    let cleanup = revision::beyond_limit(set, &observed.revisions, &live);
    Step { batches: walk.batches, status, cleanup, wake_at, waits: walk.waits }
}

#[derive(PartialEq)]
struct DeletedForUpdate;

impl Walk<'_> {
    /// Replicas, then claims of condemned pods, then condemned pods, then the rolling update; each only once the one before has nothing to wait for.
    fn all(&mut self) -> Option<DeletedForUpdate> {
        let (slots, condemned) = self.partition();
        let first_unavailable = self.first_unavailable(&slots, &condemned);
        if self.monotonic() {
            if self.replicas_in_order(&slots) {
                return None;
            }
            for pod in &condemned {
                let writes = self.claim_owners(Some(pod), true);
                self.one_by_one(writes);
            }
            for pod in &condemned {
                let (write, stop) = self.condemned(pod, first_unavailable.as_deref());
                self.one_by_one(write);
                if stop {
                    return None;
                }
            }
        } else {
            let writes = slots.iter().map(|slot| self.replica(slot, false).0).collect();
            if self.slowly(writes) {
                return None;
            }
            let writes = condemned.iter().map(|pod| self.claim_owners(Some(pod), true)).collect();
            self.slowly(writes);
            let writes = condemned.iter().map(|pod| self.condemned(pod, first_unavailable.as_deref()).0.into_iter().collect()).collect();
            self.slowly(writes);
        }
        self.rolling_update(&slots)
    }

    fn monotonic(&self) -> bool {
        self.observed.set.spec.as_ref().and_then(|spec| spec.pod_management_policy.as_deref()) != Some("Parallel")
    }

    fn min_ready(&self) -> i32 {
        min_ready_seconds(&self.observed.set)
    }

    fn unavailable(&self, pod: Option<&Arc<Pod>>) -> bool {
        pod.is_none_or(|pod| terminating(pod) || !available(pod, self.min_ready(), self.now))
    }

    /// The ordinals in range, ascending, and the pods out of range, highest first.
    fn partition(&self) -> (Vec<Slot>, Vec<Arc<Pod>>) {
        let set = &*self.observed.set;
        let first = start(set);
        let mut slots: Vec<Slot> = (0..replicas(set).max(0)).map(|index| Slot { index, ordinal: first.saturating_add(index), pod: None }).collect();
        let mut condemned = Vec::new();
        for pod in &self.observed.pods {
            let Some(ordinal) = ordinal(set, pod) else { continue };
            let slot = ordinal.checked_sub(first).and_then(|index| usize::try_from(index).ok()).and_then(|index| slots.get_mut(index));
            match slot {
                Some(slot) => slot.pod = Some(pod.clone()),
                None => condemned.push((ordinal, pod.clone())),
            }
        }
        condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        (slots, condemned.into_iter().map(|(_, pod)| pod).collect())
    }

    /// The pod that scale down may take although it is not healthy. A missing replica counts, so that none is: `Some` of an empty name.
    fn first_unavailable(&self, slots: &[Slot], condemned: &[Arc<Pod>]) -> Option<String> {
        let replica = slots.iter().find(|slot| self.unavailable(slot.pod.as_ref())).map(|slot| pod_name(&self.observed.set, slot.ordinal));
        let rest = || condemned.iter().rev().find(|pod| self.unavailable(Some(pod))).map(|pod| name_of(&pod.metadata).to_owned());
        replica.or_else(rest)
    }

    fn one_by_one(&mut self, writes: impl IntoIterator<Item = Write>) {
        self.batches.extend(writes.into_iter().map(|write| vec![write]));
    }

    /// Batches of 1, 2, 4, …: the first failure of a broken template costs one request, not five hundred. Whether one of them is bound to fail.
    fn slowly(&mut self, groups: Vec<Vec<Write>>) -> bool {
        let mut size = 1;
        let mut rest = groups.into_iter().filter(|group| !group.is_empty()).peekable();
        while rest.peek().is_some() {
            let batch: Vec<Write> = rest.by_ref().take(size).flatten().collect();
            let fails = batch.iter().any(|write| matches!(write, Write::Refuse { .. }));
            self.batches.push(batch);
            if fails {
                return true;
            }
            size = (size * 2).min(BATCH_LIMIT);
        }
        false
    }

    fn wait(&mut self, pod: &Pod, words: &str) {
        self.waits.get_or_insert_with(|| format!("{} {words}", name_of(&pod.metadata)));
    }

    fn replicas_in_order(&mut self, slots: &[Slot]) -> bool {
        for slot in slots {
            let (writes, stop) = self.replica(slot, true);
            self.one_by_one(writes);
            if stop {
                return true;
            }
        }
        false
    }

    /// Upstream: `processReplica`. What to do for one ordinal, and whether those after it must wait.
    fn replica(&mut self, slot: &Slot, monotonic: bool) -> (Vec<Write>, bool) {
        let Some(pod) = &slot.pod else { return (self.create(slot), monotonic) };
        if matches!(phase(pod), "Failed" | "Succeeded") {
            self.wait(pod, "has ended and is to be replaced");
            let delete = (!terminating(pod)).then(|| Write::DeletePod(pod.clone()));
            return (delete.into_iter().collect(), true);
        }
        let mut writes = Vec::new();
        if phase(pod) == "Pending" {
            let claims = self.missing_claims(slot.ordinal);
            if !claims.is_empty() {
                writes.push(Write::CreateClaims { pod: pod.clone(), claims });
            }
        }
        if monotonic {
            let words = if terminating(pod) {
                Some("is terminating")
            } else if !running_and_ready(pod) {
                Some("is not ready")
            } else {
                (!available(pod, self.min_ready(), self.now)).then_some("is not yet available")
            };
            if let Some(words) = words {
                self.wait(pod, words);
                return (writes, true);
            }
        }
        if !identity_matches(pod) || !storage_matches(&self.observed.set, pod, slot.ordinal) {
            writes.push(Write::CorrectPod { pod: pod.clone(), ordinal: slot.ordinal });
        }
        writes.extend(self.claim_owners(Some(pod), false));
        (writes, false)
    }

    fn create(&mut self, slot: &Slot) -> Vec<Write> {
        let observed = self.observed;
        let set = &*observed.set;
        let name = pod_name(set, slot.ordinal);
        let claims = || claim_templates(set).iter().filter_map(|template| observed.claims.get(&claim_name(set, template, slot.ordinal)));
        if claims().any(|claim| belongs_to_earlier_pod(set, &name, claim)) {
            self.waits.get_or_insert_with(|| format!("{name} waits until the claims of the one before are collected"));
            return Vec::new();
        }
        if let Some(claim) = claims().find(|claim| claim.metadata.deletion_timestamp.is_some()) {
            let error = format!("pvc {} is being deleted", name_of(&claim.metadata));
            return vec![Write::Refuse { pod: name, error }];
        }
        let (template, revision) = if self.current != self.update && revision::takes_current(set, slot.index) {
            (self.current_template(), self.current.clone())
        } else {
            (None, self.update.clone())
        };
        let empty = PodTemplateSpec::default();
        let template = template.as_ref().or(set.spec.as_ref().map(|spec| &spec.template)).unwrap_or(&empty);
        let pod = Box::new(new_pod(set, template, &revision, slot.ordinal));
        let owners = claims().filter_map(|claim| match owners(set, None, false, claim) {
            Verdict::Set(owners) | Verdict::Foreign(Some(owners)) => Some(Owners { claim: claim.clone(), owners }),
            _ => None,
        });
        vec![Write::CreatePod { pod, owners: owners.collect(), claims: self.missing_claims(slot.ordinal) }]
    }

    fn current_template(&mut self) -> Option<PodTemplateSpec> {
        if self.current_template.is_none() {
            let current = self.observed.revisions.iter().find(|revision| name_of(&revision.metadata) == &*self.current);
            self.current_template = current.and_then(|current| revision::template(current));
        }
        self.current_template.clone()
    }

    /// The claims of an ordinal that are not there, with the owner that the policy wants from the start.
    fn missing_claims(&self, ordinal: i32) -> Vec<PersistentVolumeClaim> {
        let set = &*self.observed.set;
        let missing = claim_templates(set).iter().filter(|template| !self.observed.claims.contains_key(&claim_name(set, template, ordinal)));
        missing
            .map(|template| {
                let mut claim = new_claim(set, template, ordinal);
                if let Verdict::Set(owners) = owners(set, None, false, &claim) {
                    claim.metadata.owner_references = Some(owners);
                }
                claim
            })
            .collect()
    }

    /// What the retention policy wants changed for one pod.
    fn claim_owners(&self, pod: Option<&Arc<Pod>>, condemned: bool) -> Vec<Write> {
        let set = &*self.observed.set;
        let Some(ordinal) = pod.and_then(|pod| ordinal(set, pod)) else { return Vec::new() };
        let claims = claim_templates(set).iter().filter_map(|template| self.observed.claims.get(&claim_name(set, template, ordinal)));
        let mut writes = Vec::new();
        for claim in claims {
            match owners(set, pod.map(|pod| &**pod), condemned, claim) {
                Verdict::Leave => {}
                Verdict::Set(owners) => writes.push(Write::SetOwners(Owners { claim: claim.clone(), owners })),
                Verdict::Foreign(owners) => {
                    // Said once, when our references go, and not with every step.
                    if let Some(owners) = owners {
                        writes.push(Write::ForeignClaim(name_of(&claim.metadata).to_owned()));
                        writes.push(Write::SetOwners(Owners { claim: claim.clone(), owners }));
                    }
                }
            }
        }
        writes
    }

    /// Upstream: `processCondemned`. What to do with a pod out of range, and whether those below it must wait.
    fn condemned(&mut self, pod: &Arc<Pod>, first_unavailable: Option<&str>) -> (Option<Write>, bool) {
        if terminating(pod) {
            if self.monotonic() {
                self.wait(pod, "is terminating");
            }
            return (None, self.monotonic());
        }
        // Upstream waits here also for a pod that has ended, which will never be ready again: two such pods hold scale down up for ever. To
        // delete what does not run takes nothing from anyone.
        let ended = matches!(phase(pod), "Failed" | "Succeeded");
        let spared = self.monotonic() && !ended && first_unavailable != Some(name_of(&pod.metadata));
        if spared && (!running_and_ready(pod) || !available(pod, self.min_ready(), self.now)) {
            self.waits.get_or_insert_with(|| format!("{} is not ready", first_unavailable.unwrap_or_default()));
            return (None, true);
        }
        (Some(Write::DeletePod(pod.clone())), true)
    }

    /// From the highest ordinal down to the partition: the first pod of another revision goes, unless one above it is not available yet.
    fn rolling_update(&mut self, slots: &[Slot]) -> Option<DeletedForUpdate> {
        let strategy = self.observed.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
            return None;
        }
        let partition = strategy.and_then(|strategy| strategy.rolling_update.as_ref()).and_then(|rolling| rolling.partition).unwrap_or(0);
        for slot in slots.iter().rev().take_while(|slot| slot.index >= partition) {
            // A pod that this step has only just asked for is not there to be deleted.
            let pod = slot.pod.as_ref()?;
            if revision_of(pod) != &*self.update && !terminating(pod) {
                // A pod that has ended is already being deleted above.
                if !matches!(phase(pod), "Failed" | "Succeeded") {
                    self.batches.push(vec![Write::DeletePod(pod.clone())]);
                }
                return Some(DeletedForUpdate);
            }
            if self.unavailable(Some(pod)) {
                self.wait(pod, "is not yet available");
                return None;
            }
        }
        None
    }
}

impl Write {
    /// The pod it is about, for events and errors.
    pub(crate) fn pod(&self) -> Option<&str> {
        match self {
            Self::CreatePod { pod, .. } => pod.metadata.name.as_deref(),
            Self::CreateClaims { pod, .. } | Self::CorrectPod { pod, .. } | Self::DeletePod(pod) => pod.metadata.name.as_deref(),
            Self::Refuse { pod, .. } => Some(pod),
            _ => None,
        }
    }
}

impl std::fmt::Display for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pod = self.pod().unwrap_or_default();
        let names = |claims: &[PersistentVolumeClaim]| claims.iter().map(|claim| name_of(&claim.metadata).to_owned()).collect::<Vec<_>>().join(" ");
        match self {
            Self::CreateRevision(revision) => write!(f, "create revision {}", name_of(&revision.metadata)),
            Self::Renumber(revision, number) => write!(f, "renumber {} to {number}", name_of(&revision.metadata)),
            Self::CreatePod { pod: new, claims, owners } => {
                write!(f, "create {pod} at {}", revision_of(new))?;
                if !claims.is_empty() {
                    write!(f, " with {}", names(claims))?;
                }
                owners.iter().try_for_each(|owners| write!(f, ", {owners}"))
            }
            Self::CreateClaims { claims, .. } => write!(f, "create {} for {pod}", names(claims)),
            Self::Refuse { error, .. } => write!(f, "cannot create {pod}: {error}"),
            Self::CorrectPod { .. } => write!(f, "correct {pod}"),
            Self::DeletePod(_) => write!(f, "delete {pod}"),
            Self::SetOwners(owners) => write!(f, "{owners}"),
            Self::ForeignClaim(claim) => write!(f, "warn: {claim} is managed by another controller"),
        }
    }
}

impl std::fmt::Display for Owners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kinds: Vec<&str> = self.owners.iter().map(|owner| owner.kind.as_str()).collect();
        let owners = if kinds.is_empty() { "nobody".to_owned() } else { kinds.join(" and ") };
        write!(f, "{} is owned by {owners}", name_of(&self.claim.metadata))
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for batch in &self.batches {
            let together: Vec<String> = batch.iter().map(ToString::to_string).collect();
            writeln!(f, "{}", together.join("; "))?;
        }
        for revision in &self.cleanup {
            writeln!(f, "delete revision {}", name_of(&revision.metadata))?;
        }
        if let Some(waits) = &self.waits {
            writeln!(f, "wait: {waits}")?;
        }
        Ok(())
    }
}

/// The delete options of a pod: exactly this one, gracefully.
pub(crate) fn delete_options(pod: &Pod) -> serde_json::Value {
    serde_json::json!({ "preconditions": { "uid": uid_of(&pod.metadata) } })
}

/// What to merge into a pod, see [`correction`].
pub(crate) fn corrected(observed: &Observed, pod: &Pod, ordinal: i32) -> serde_json::Value {
    correction(&observed.set, pod, ordinal)
}
