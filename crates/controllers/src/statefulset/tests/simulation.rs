//! Eventually the pods are what the set says, and then stay: whatever pods do, and wherever the controller is stopped.

use super::super::identity::{name_of, ordinal, pod_name};
use super::super::observe::Observed;
use super::super::revision;
use super::super::status::{available, phase, revision_of, terminating};
use super::super::step::{Write, step};
use super::lines::{now, set};
use crate::random::Random;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use std::sync::Arc;

struct World {
    set: StatefulSet,
    pods: BTreeMap<String, Pod>,
    claims: BTreeMap<String, PersistentVolumeClaim>,
    revisions: Vec<ControllerRevision>,
    random: Random,
    now: Timestamp,
    uids: u64,
    /// Pods fail, and the controller is stopped, only while this is so.
    stormy: bool,
}

impl World {
    fn new(line: &str, seed: u64) -> Self {
        let random = Random::new(seed);
        let (pods, claims) = (BTreeMap::new(), BTreeMap::new());
        Self { set: set(line, "one"), pods, claims, revisions: Vec::new(), random, now: now(), uids: 0, stormy: true }
    }

    fn observed(&self) -> Observed {
        let mut revisions: Vec<_> = self.revisions.iter().cloned().map(Arc::new).collect();
        revision::sort(&mut revisions);
        Observed {
            set: Arc::new(self.set.clone()),
            revisions,
            pods: self.pods.values().cloned().map(Arc::new).collect(),
            claims: self.claims.iter().map(|(name, claim)| (name.clone(), Arc::new(claim.clone()))).collect(),
            collision_count: 0,
        }
    }

    fn uid(&mut self) -> Option<String> {
        self.uids += 1;
        Some(format!("uid-{}", self.uids))
    }

    /// One write of the controller. `Err`: it was stopped before this one.
    fn apply(&mut self, write: &Write) -> Result<(), ()> {
        if self.stormy && self.random.chance(15) {
            return Err(());
        }
        match write {
            Write::CreateRevision(revision) => self.revisions.push((**revision).clone()),
            Write::Renumber(revision, number) => {
                let found = self.revisions.iter_mut().find(|one| one.metadata.name == revision.metadata.name).ok_or(())?;
                found.revision = *number;
            }
            Write::CreatePod { pod, claims, .. } => {
                self.check_order(pod);
                for claim in claims {
                    self.claims.entry(name_of(&claim.metadata).to_owned()).or_insert_with(|| claim.clone());
                    if self.stormy && self.random.chance(10) {
                        return Err(());
                    }
                }
                let mut pod = (**pod).clone();
                pod.metadata.uid = self.uid();
                pod.status = Some(PodStatus { phase: Some("Pending".into()), ..PodStatus::default() });
                let old = self.pods.insert(name_of(&pod.metadata).to_owned(), pod);
                assert!(old.is_none(), "two pods of one name");
            }
            Write::CreateClaims { claims, .. } => {
                for claim in claims {
                    self.claims.entry(name_of(&claim.metadata).to_owned()).or_insert_with(|| claim.clone());
                }
            }
            Write::DeletePod(pod) => {
                let at = Time(self.now);
                if let Some(pod) = self.pods.get_mut(name_of(&pod.metadata)) {
                    pod.metadata.deletion_timestamp.get_or_insert(at);
                }
            }
            Write::SetOwners(owners) => {
                let claim = self.claims.get_mut(name_of(&owners.claim.metadata)).ok_or(())?;
                claim.metadata.owner_references = Some(owners.owners.clone());
            }
            Write::Refuse { .. } | Write::CorrectPod { .. } | Write::ForeignClaim(_) => {}
        }
        Ok(())
    }

    fn ordered(&self) -> bool {
        self.set.spec.as_ref().and_then(|spec| spec.pod_management_policy.as_deref()) != Some("Parallel")
    }

    /// OrderedReady: every pod before the one that is created is available and stays.
    fn check_order(&self, new: &Pod) {
        if !self.ordered() {
            return;
        }
        let created = ordinal(&self.set, new).expect("an ordinal");
        for before in 0..created {
            let pod = self.pods.get(&pod_name(&self.set, before)).unwrap_or_else(|| panic!("{} before {before}", name_of(&new.metadata)));
            assert!(available(pod, 0, self.now) && !terminating(pod), "{} while {} is not available", name_of(&new.metadata), name_of(&pod.metadata));
        }
    }

    fn control(&mut self) -> bool {
        let step = step(&self.observed(), self.now);
        let idle = step.batches.is_empty() && step.cleanup.is_empty();
        for batch in &step.batches {
            let outcomes: Vec<_> = batch.iter().map(|write| self.apply(write)).collect();
            if outcomes.iter().any(Result::is_err) {
                return false;
            }
        }
        self.set.status = Some(step.status);
        self.revisions.retain(|revision| !step.cleanup.iter().any(|gone| gone.metadata.name == revision.metadata.name));
        idle
    }

    /// What nodes and people do to pods.
    fn live(&mut self) {
        self.now += SignedDuration::from_secs(1);
        let names: Vec<String> = self.pods.keys().cloned().collect();
        for name in names {
            let (move_on, fail, unready) = (self.random.chance(60), self.stormy && self.random.chance(4), self.stormy && self.random.chance(6));
            let at = self.now;
            let Some(pod) = self.pods.get_mut(&name) else { continue };
            if terminating(pod) {
                if move_on {
                    self.pods.remove(&name);
                }
                continue;
            }
            let status = pod.status.get_or_insert_default();
            let ready = |yes: bool| Some(vec![PodCondition { type_: "Ready".into(), status: if yes { "True" } else { "False" }.into(), last_transition_time: Some(Time(at)), ..PodCondition::default() }]);
            match status.phase.as_deref() {
                Some("Pending") if move_on => status.phase = Some("Running".into()),
                Some("Running") if fail => status.phase = Some("Failed".into()),
                Some("Running") if unready => status.conditions = ready(false),
                Some("Running") if move_on && !status.conditions.iter().flatten().any(|one| one.status == "True") => status.conditions = ready(true),
                _ => {}
            }
        }
        if self.stormy && self.random.chance(3) {
            let at = Time(self.now);
            if let Some(pod) = self.pods.values_mut().next() {
                pod.metadata.deletion_timestamp.get_or_insert(at);
            }
        }
    }

    fn change(&mut self, image: &str) {
        let replicas = i32::try_from(self.random.below(6)).expect("small");
        let spec = self.set.spec.as_mut().expect("a spec");
        spec.replicas = Some(replicas);
        spec.template.spec.as_mut().expect("a spec").containers[0].image = Some(image.to_owned());
        self.set.metadata.generation = self.set.metadata.generation.map(|generation| generation + 1);
    }

    fn check_end(&self, seed: u64) {
        let want: Vec<String> = (0..super::super::identity::replicas(&self.set)).map(|ordinal| pod_name(&self.set, ordinal)).collect();
        let have: Vec<&String> = self.pods.keys().collect();
        assert_eq!(have, want.iter().collect::<Vec<_>>(), "seed {seed}");
        let status = self.set.status.as_ref().expect("a status");
        let update = status.update_revision.as_deref().expect("a revision");
        for pod in self.pods.values() {
            assert_eq!((phase(pod), revision_of(pod)), ("Running", update), "seed {seed}: {}", name_of(&pod.metadata));
        }
        assert_eq!(status.current_revision, status.update_revision, "seed {seed}");
        assert_eq!(status.observed_generation, self.set.metadata.generation, "seed {seed}");
        assert!(want.iter().all(|name| self.claims.contains_key(&format!("www-{name}"))), "seed {seed}");
    }
}

#[test]
fn a_set_converges_and_stays_wherever_the_controller_is_stopped() {
    for seed in 0..120 {
        for policy in ["OrderedReady", "Parallel"] {
            let mut world = World::new(&format!("web replicas=3 claims=www history=2 {policy}"), seed);
            for image in ["one", "two", "three", "one"] {
                world.change(image);
                for _ in 0..25 {
                    world.control();
                    world.live();
                }
            }
            world.stormy = false;
            for pod in world.pods.values_mut().filter(|pod| phase(pod) == "Running") {
                pod.status.get_or_insert_default().conditions = None;
            }
            let mut quiet = 0;
            for _ in 0..400 {
                let idle = world.control();
                world.live();
                quiet = if idle { quiet + 1 } else { 0 };
            }
            assert!(quiet > 50, "seed {seed}: still busy");
            world.check_end(seed);
            assert!(world.revisions.len() <= 4, "seed {seed}: {} revisions", world.revisions.len());
        }
    }
}
