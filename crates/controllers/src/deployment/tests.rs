//! The rules, one sentence each, and a simulation: whatever happens between two writes, never too many pods, never too few, and in the end all new.
//!
//! A deployment: `replicas=4 surge=1 unavailable=1 Recreate paused minReady=5 history=2 deadline=60`; sets: `new=2/2/1 old=3/3/3` (wish/actual/available).

use super::limits::{max_surge, max_unavailable, replicas};
use super::sets::{Member, REVISION, create};
use super::step::{Observed, Step, step};
use crate::owners::name_of;
use crate::random::Random;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use mainstay_client::Resource;
use serde_json::{Value, json};
use std::sync::Arc;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("in range")
}

fn number(text: &str) -> i32 {
    text.parse().expect("a number")
}

fn deployment(line: &str, image: &str) -> Deployment {
    let mut spec = json!({"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}});
    let mut status = json!({});
    let mut metadata = json!({"name": "web", "namespace": "default", "uid": "deployment", "generation": 1, "annotations": {"kubernetes.io/change-cause": image}});
    for word in line.split_whitespace() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("replicas", value) => spec["replicas"] = json!(number(value)),
            ("surge", value) => spec["strategy"]["rollingUpdate"]["maxSurge"] = value.parse::<i32>().map_or(json!(value), |count| json!(count)),
            ("unavailable", value) => spec["strategy"]["rollingUpdate"]["maxUnavailable"] = value.parse::<i32>().map_or(json!(value), |count| json!(count)),
            ("Recreate", _) => spec["strategy"] = json!({"type": "Recreate"}),
            ("paused", _) => spec["paused"] = json!(true),
            ("history", value) => spec["revisionHistoryLimit"] = json!(number(value)),
            ("deadline", value) => spec["progressDeadlineSeconds"] = json!(number(value)),
            ("deleting", _) => metadata["deletionTimestamp"] = json!("2027-01-15T07:59:00Z"),
            ("complete", value) => status = json!({"replicas": number(value), "updatedReplicas": number(value), "availableReplicas": number(value), "readyReplicas": number(value), "observedGeneration": 1}),
            ("since", value) => {
                let at = (now() - SignedDuration::from_secs(i64::from(number(value)))).to_string();
                status["conditions"] = json!([{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "lastUpdateTime": at, "lastTransitionTime": at}]);
            }
            (other, _) => panic!("no such word: {other}"),
        }
    }
    Deployment::from_value(&json!({"metadata": metadata, "spec": spec, "status": status})).expect("a deployment")
}

/// The set of an image: its age and number follow from its place.
fn set(line: &str, image: &str, place: i32, counts: &str) -> ReplicaSet {
    let of = deployment(line, image);
    let counts: Vec<i32> = counts.split('/').map(number).collect();
    let mut value = create(&of, None).set.to_value();
    value["metadata"]["uid"] = json!(format!("uid-{image}"));
    value["metadata"]["name"] = json!(format!("web-{image}"));
    value["metadata"]["creationTimestamp"] = json!((now() - SignedDuration::from_hours(i64::from(10 - place))).to_string());
    let desired = counts.get(3).copied().unwrap_or_else(|| replicas(&of));
    value["metadata"]["annotations"] = json!({REVISION: place.to_string(), "deployment.kubernetes.io/desired-replicas": desired.to_string(),
        "deployment.kubernetes.io/max-replicas": (desired + max_surge(&of)).to_string(), "kubernetes.io/change-cause": image});
    value["spec"]["replicas"] = json!(counts[0]);
    value["status"] = json!({"replicas": counts[1], "readyReplicas": counts[2], "availableReplicas": counts[2], "terminatingReplicas": 0});
    ReplicaSet::from_value(&value).expect("a set")
}

fn observed(line: &str, sets: &str) -> Observed {
    let sets = sets.split_whitespace().enumerate().map(|(place, word)| {
        let (image, counts) = word.split_once('=').expect("name=counts");
        Arc::new(set(line, image, i32::try_from(place).expect("few") + 1, counts))
    });
    Observed { sets: sets.collect(), deployment: Arc::new(deployment(line, "new")), pods: Vec::new(), collision_count: None }
}

fn said(line: &str, sets: &str) -> String {
    let step = step(&observed(line, sets), now());
    let text = step.to_string().trim_end().replace('\n', "; ");
    let made = step.sets.iter().find(|member| member.new).map(|member| member.name().to_owned());
    made.map_or_else(|| text.clone(), |name| text.replace(&name, "web-new"))
}

#[test]
fn a_rolling_update_grows_the_new_set_then_shrinks_the_old_one() {
    for (line, sets, expected) in [
        ("replicas=3", "", "create web-new with 3 at 1"),
        ("replicas=3", "new=3/3/3", ""),
        ("replicas=4", "old=4/4/4", "create web-new with 1 at 2; scale web-old from 4 to 3"),
        ("replicas=4 unavailable=0", "old=4/4/4", "create web-new with 1 at 2"),
        ("replicas=4 unavailable=0", "old=4/4/4 new=1/1/0", ""),
        ("replicas=4 unavailable=0", "old=4/4/4 new=1/1/1", "scale web-old from 4 to 3"),
        ("replicas=4 unavailable=0", "old=3/3/3 new=1/1/1", "scale web-new from 1 to 2"),
        ("replicas=4 surge=0 unavailable=1", "old=4/4/4", "create web-new with 0 at 2; scale web-old from 4 to 3"),
        ("replicas=4 surge=0 unavailable=1", "old=3/3/3 new=0/0/0", "scale web-new from 0 to 1"),
        ("replicas=10", "old=10/10/10", "create web-new with 3 at 2; scale web-old from 10 to 8"),
        // Old pods that are not available are of no use to anybody.
        ("replicas=4 unavailable=1", "old=4/4/2 new=1/1/0", "scale web-old from 4 to 3"),
        ("replicas=2", "old=0/0/0 new=3/3/3", "scale web-new from 3 to 2"),
    ] {
        assert_eq!(said(line, sets), expected, "{line}: {sets}");
    }
}

#[test]
fn recreate_waits_until_the_last_old_pod_has_gone() {
    for (sets, expected) in [
        ("old=3/3/3", "scale web-old from 3 to 0"),
        ("old=0/1/0", ""),
        ("old=0/0/0", "create web-new with 3 at 2"),
        ("old=0/0/0 new=3/1/1", ""),
        ("new=1/1/1/3", "scale web-new from 1 to 3"),
    ] {
        assert_eq!(said("replicas=3 Recreate", sets), expected, "{sets}");
    }
    let mut waiting = observed("replicas=3 Recreate", "old=0/0/0");
    let pod = json!({"metadata": {"name": "p", "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-old", "uid": "uid-old", "controller": true}]}, "status": {"phase": "Running"}});
    waiting.pods = vec![Arc::new(k8s_openapi::api::core::v1::Pod::from_value(&pod).expect("a pod"))];
    assert_eq!(step(&waiting, now()).to_string(), "");
}

#[test]
fn a_new_wish_in_the_middle_of_a_rollout_keeps_the_proportions() {
    for (line, sets, expected) in [
        ("replicas=5", "new=3/3/3/3", "scale web-new from 3 to 5"),
        ("replicas=15 surge=3 unavailable=2", "old=8/8/8/10 new=5/5/0/10", "scale web-old from 8 to 11; scale web-new from 5 to 7"),
        ("replicas=5 surge=0 unavailable=2", "old=8/8/8/10 new=2/2/0/10", "scale web-old from 8 to 4; scale web-new from 2 to 1"),
        ("replicas=0", "old=8/8/8/10 new=5/5/0/10", "scale web-old from 8 to 0; scale web-new from 5 to 0"),
    ] {
        assert_eq!(said(line, sets), expected, "{line}: {sets}");
    }
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    assert_eq!(said("replicas=4 paused", "old=4/4/4"), "");
    assert_eq!(said("replicas=6 paused", "old=4/4/4/4"), "scale web-old from 4 to 6");
    assert_eq!(said("replicas=4 deleting", "old=4/4/4"), "");
}

#[test]
fn a_template_that_comes_back_gets_the_highest_number() {
    let step = step(&observed("replicas=1", "new=0/0/0 old=1/1/1"), now());
    let member = step.sets.iter().find(|member| member.name() == "web-new").expect("changed");
    assert_eq!((member.revision(), member.annotations["deployment.kubernetes.io/revision-history"].as_str(), step.revision.as_deref()), (3, "1", Some("3")));
    assert_eq!(member.annotations["kubernetes.io/change-cause"], "new");
}

#[test]
fn old_sets_beyond_the_limit_go_once_the_rollout_is_complete() {
    assert_eq!(said("replicas=1 history=1 complete=1", "a=0/0/0 b=0/0/0 new=1/1/1"), "delete web-a");
    assert_eq!(said("replicas=1 history=1", "a=0/0/0 b=0/0/0 new=1/1/1"), "");
    assert_eq!(said("replicas=1 history=0 complete=1", "a=0/1/0 b=0/0/0 new=1/1/1"), "delete web-b");
}

fn conditions(step: &Step) -> Vec<String> {
    let all = step.status.conditions.clone().unwrap_or_default();
    all.iter().map(|one| format!("{} {} {} {}", one.type_, one.status, one.reason.as_deref().unwrap_or_default(), one.message.as_deref().unwrap_or_default())).collect()
}

#[test]
fn conditions_say_how_far_a_rollout_is() {
    let of = |line: &str, sets: &str| conditions(&step(&observed(line, sets), now()));
    let none = "Available False MinimumReplicasUnavailable Deployment does not have minimum availability.";
    let some = "Available True MinimumReplicasAvailable Deployment has minimum availability.";
    let created = of("replicas=1", "");
    assert!(created[0].starts_with("Progressing True NewReplicaSetCreated Created new replica set \"web-"), "{created:?}");
    assert_eq!(created[1], none);
    assert_eq!(of("replicas=1", "new=1/1/0")[1], "Progressing True ReplicaSetUpdated ReplicaSet \"web-new\" is progressing.");
    assert_eq!(of("replicas=1", "new=1/1/1"), [some, "Progressing True NewReplicaSetAvailable ReplicaSet \"web-new\" has successfully progressed."]);
    assert_eq!(of("replicas=1 deadline=60 since=61", "new=1/0/0"), [none, "Progressing False ProgressDeadlineExceeded ReplicaSet \"web-new\" has timed out progressing."]);
    assert_eq!(of("replicas=1 paused", "new=1/1/1"), ["Progressing Unknown DeploymentPaused Deployment is paused", some]);
    let waiting = step(&observed("replicas=1 deadline=60 since=10", "new=1/0/0"), now());
    assert_eq!(waiting.wake_at.map(|at| at.duration_since(now()).as_secs()), Some(51));
}

/// Deployment, sets and pods' counts; pods come and go a few at a time.
struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    random: Random,
    now: Timestamp,
    made: i64,
}

impl World {
    fn apply(&mut self, member: &Member) -> Result<(), ()> {
        if self.random.chance(15) {
            return Err(());
        }
        let mut set = (*member.set).clone();
        set.metadata.annotations = Some(member.annotations.clone());
        set.spec.as_mut().expect("a spec").replicas = Some(member.replicas);
        match self.sets.iter_mut().find(|known| known.metadata.name == set.metadata.name) {
            Some(known) => *known = set,
            None => {
                self.made += 1;
                let mut value = set.to_value();
                value["metadata"]["uid"] = json!(format!("uid-{}", self.made));
                value["metadata"]["creationTimestamp"] = json!((self.now + SignedDuration::from_secs(self.made)).to_string());
                self.sets.push(ReplicaSet::from_value(&value).expect("a set"));
            }
        }
        Ok(())
    }

    fn control(&mut self) -> bool {
        let observed = Observed { deployment: Arc::new(self.deployment.clone()), sets: self.sets.iter().cloned().map(Arc::new).collect(), pods: Vec::new(), collision_count: None };
        let decided = step(&observed, self.now);
        for member in &decided.sets {
            if self.apply(member).is_err() {
                return false;
            }
        }
        let total: i32 = self.sets.iter().map(|set| set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)).sum();
        assert!(total <= replicas(&self.deployment) + max_surge(&self.deployment), "{total} pods asked for");
        self.deployment.status = Some(decided.status);
        self.sets.retain(|set| !decided.cleanup.iter().any(|gone| gone.metadata.name == set.metadata.name));
        decided.sets.is_empty()
    }

    /// Every set's pods move towards what it asks for.
    fn live(&mut self) {
        self.now += SignedDuration::from_secs(1);
        for set in &mut self.sets {
            let wish = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
            let status = set.status.get_or_insert_default();
            // Pods that are asked to go are taken at once, unavailable ones first.
            status.replicas = if status.replicas > wish { wish } else { status.replicas + i32::from(status.replicas < wish && self.random.chance(60)) };
            let available = status.available_replicas.unwrap_or(0).min(status.replicas);
            let more = i32::from(available < status.replicas && self.random.chance(50));
            status.available_replicas = Some(available + more);
            status.ready_replicas = status.available_replicas;
            status.observed_generation = set.metadata.generation;
        }
    }

    fn available(&self) -> i32 {
        self.sets.iter().filter_map(|set| set.status.as_ref()?.available_replicas).sum()
    }
}

#[test]
fn a_rollout_converges_within_its_limits_wherever_the_controller_is_stopped() {
    for seed in 0..20 {
        for strategy in ["surge=1 unavailable=0", "surge=0 unavailable=1", "surge=50% unavailable=50%", "Recreate"] {
            let mut world = World { deployment: deployment(&format!("replicas=4 history=2 {strategy}"), "one"), sets: Vec::new(), random: Random::new(seed), now: now(), made: 0 };
            for image in ["one", "two", "three", "one", "four"] {
                let value: Value = deployment(&format!("replicas=4 history=2 {strategy}"), image).to_value();
                world.deployment.spec = Deployment::from_value(&value).expect("a deployment").spec;
                let settled = world.available() == 4;
                for _ in 0..60 {
                    world.control();
                    world.live();
                    let least = replicas(&world.deployment) - max_unavailable(&world.deployment);
                    assert!(!settled || strategy == "Recreate" || world.available() >= least, "seed {seed} {strategy}: only {} available", world.available());
                }
                let newest = super::sets::newest(&world.deployment, &world.sets.iter().cloned().map(Arc::new).map(Member::new).collect::<Vec<_>>()).expect("a set");
                let sizes: Vec<i32> = world.sets.iter().map(|set| set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)).collect();
                assert_eq!((sizes[newest], sizes.iter().sum::<i32>()), (4, 4), "seed {seed} {strategy}");
                assert!(world.control() || world.control() || world.control(), "seed {seed}: still busy");
            }
            let names: Vec<&str> = world.sets.iter().map(|set| name_of(&set.metadata)).collect();
            assert!(names.len() <= 3, "seed {seed}: {names:?}");
        }
    }
}
