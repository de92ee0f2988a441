//! Claims and volumes in short words, and what their steps say.

use super::directory::Place;
use super::write::Write;
use super::{claim, volume};
use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};
use std::sync::Arc;

fn place() -> Place {
    Place { volumes_dir: "/v".into(), node: "here".into() }
}

/// `key=value` words of a line; a word alone is true.
fn words(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split_whitespace().map(|word| word.split_once('=').unwrap_or((word, "true")))
}

/// `data uid=1 class=standard size=1Gi modes=RWO volume=pv-a selected=here bound phase=Bound capacity=1Gi deleting unprotected`
fn parse_claim(line: &str) -> PersistentVolumeClaim {
    let mut claim = json!({
        "metadata": {"namespace": "default", "uid": "1", "finalizers": ["kubernetes.io/pvc-protection"], "annotations": {}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Pending"},
    });
    for (key, value) in words(line) {
        match key {
            "uid" => claim["metadata"]["uid"] = json!(value),
            "class" => claim["spec"]["storageClassName"] = json!(value.trim_matches('-')),
            "size" => claim["spec"]["resources"]["requests"]["storage"] = json!(value),
            "modes" => claim["spec"]["accessModes"] = json!([value]),
            "volume" => claim["spec"]["volumeName"] = json!(value),
            "selected" => claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] = json!(value),
            "bound" => claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = json!("yes"),
            "phase" => claim["status"]["phase"] = json!(value),
            "capacity" => {
                claim["status"]["capacity"] = json!({"storage": value});
                claim["status"]["accessModes"] = claim["spec"]["accessModes"].clone();
            }
            "mode" => claim["spec"]["volumeMode"] = json!(value),
            "app" => claim["spec"]["selector"] = json!({"matchLabels": {"app": value}}),
            "from" => claim["spec"]["dataSource"] = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": value}),
            "deleting" => claim["metadata"]["deletionTimestamp"] = json!("2026-01-31T12:00:00Z"),
            "unprotected" => claim["metadata"]["finalizers"] = json!([]),
            name => claim["metadata"]["name"] = json!(name),
        }
    }
    serde_json::from_value(claim).expect("a claim")
}

/// `pv-a size=1Gi class=slow phase=Available claim=data uid=1 policy=Retain ours`
fn parse_volume(line: &str) -> PersistentVolume {
    let mut volume = json!({
        "metadata": {"finalizers": ["kubernetes.io/pv-protection"], "annotations": {}, "labels": {}},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Retain"}, "status": {"phase": "Available"},
    });
    for (key, value) in words(line) {
        match key {
            "size" => volume["spec"]["capacity"]["storage"] = json!(value),
            "class" => volume["spec"]["storageClassName"] = json!(value),
            "phase" => volume["status"]["phase"] = json!(value),
            "claim" => volume["spec"]["claimRef"] = json!({"namespace": "default", "name": value}),
            "uid" => volume["spec"]["claimRef"]["uid"] = json!(value),
            "policy" => volume["spec"]["persistentVolumeReclaimPolicy"] = json!(value),
            "app" => volume["metadata"]["labels"]["app"] = json!(value),
            "found" => volume["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"] = json!("yes"),
            "by" => volume["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"] = json!(value),
            "deleting" => volume["metadata"]["deletionTimestamp"] = json!("2026-01-31T12:00:00Z"),
            "unprotected" => volume["metadata"]["finalizers"] = json!([]),
            name => {
                volume["metadata"]["name"] = json!(name);
                volume["spec"]["local"] = json!({"path": format!("/v/{name}/data")});
            }
        }
    }
    serde_json::from_value(volume).expect("a volume")
}

fn class(name: &str, provisioner: &str, waits: bool) -> Value {
    let mode = if waits { "WaitForFirstConsumer" } else { "Immediate" };
    json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode, "reclaimPolicy": "Delete", "allowVolumeExpansion": name != "fixed"})
}

fn say(writes: &[Write]) -> String {
    writes.iter().map(|write| format!("{write}\n")).collect()
}

/// `pods`: `name` of one without a node, `name@` of one on a node.
fn check_claim(line: &str, volumes: &str, pods: &str, expected: Expect) {
    let claim = parse_claim(line);
    let volumes: Vec<Arc<PersistentVolume>> = volumes.lines().filter(|line| !line.trim().is_empty()).map(|line| Arc::new(parse_volume(line))).collect();
    let classes: Vec<StorageClass> = [
        class("standard", "mainstay.dev/local", true),
        class("fixed", "mainstay.dev/local", false),
        class("now", "mainstay.dev/local", false),
        class("fast-ssd", "kubernetes.io/gce-pd", false),
        class("by-hand", "kubernetes.io/no-provisioner", false),
    ]
    .into_iter()
    .map(|class| serde_json::from_value(class).expect("a class"))
    .collect();
    let wanted = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    let observed = claim::Observed {
        claim: &claim,
        volumes: &volumes,
        class: classes.iter().find(|class| class.metadata.name.as_deref() == wanted),
        default_class: Some("standard"),
        node: None,
        pods: pods.split_whitespace().map(|pod| (pod.trim_end_matches('@'), pod.ends_with('@'))).collect(),
        place: &place(),
    };
    expected.assert_eq(&say(&claim::step(&observed)));
}

fn check_volume(line: &str, claim: &str, expected: Expect) {
    let claim = (!claim.is_empty()).then(|| parse_claim(claim));
    let observed = volume::Observed { volume: &parse_volume(line), claim: claim.as_ref(), place: &place() };
    expected.assert_eq(&say(&volume::step(&observed)));
}

#[test]
fn a_claim_of_the_standard_class_waits_for_its_pods_node_and_then_gets_a_volume() {
    check_claim("data class=standard", "", "", expect![[r#"
        Normal WaitForFirstConsumer: waiting for first consumer to be created before binding
    "#]]);
    check_claim("data class=standard", "", "db-0", expect![[r#"
        Normal WaitForPodScheduled: waiting for pod db-0 to be scheduled
    "#]]);
    check_claim("data class=standard selected=here", "", "db-0", expect![[r#"
        make pvc-1
        pvc-1 Bound
        bind pvc-1
        Bound 1Gi
        Normal ProvisioningSucceeded: Successfully provisioned volume pvc-1
    "#]]);
    check_claim("data class=standard selected=elsewhere", "", "db-0", expect![[r#""#]]);
    check_claim("data class=now", "", "", expect![[r#"
        make pvc-1
        pvc-1 Bound
        bind pvc-1
        Bound 1Gi
        Normal ProvisioningSucceeded: Successfully provisioned volume pvc-1
    "#]]);
    check_claim("data", "", "", expect![[r#"
        class standard
    "#]]);
}

#[test]
fn after_a_crash_a_claim_goes_on_with_the_volume_that_was_made_for_it() {
    check_claim("data class=standard selected=here", "pvc-1 class=standard claim=data uid=1 phase=Pending", "", expect![[r#"
        pvc-1 Bound
        bind pvc-1
        Bound 1Gi
    "#]]);
    check_claim("data class=standard", "pvc-1 class=standard claim=data uid=1 phase=Bound", "", expect![[r#"
        bind pvc-1
        Bound 1Gi
    "#]]);
    check_claim("data class=standard volume=pvc-1 bound", "pvc-1 class=standard claim=data uid=1 phase=Bound", "", expect![[r#"
        Bound 1Gi
    "#]]);
    check_claim("data class=standard volume=pvc-1 bound phase=Bound capacity=1Gi", "pvc-1 class=standard claim=data uid=1 phase=Bound", "", expect![[r#""#]]);
}

#[test]
fn a_directory_is_not_made_where_it_would_be_silently_empty_or_wrong() {
    check_claim("data class=now from=nightly", "", "", expect![[r#"
        Warning ProvisioningFailed: failed to provision volume with StorageClass "now": mainstay.dev/local cannot fill a volume from VolumeSnapshot nightly
    "#]]);
    check_claim("data class=now mode=Block", "", "", expect![[r#"
        Warning ProvisioningFailed: failed to provision volume with StorageClass "now": mainstay.dev/local does not support block volume provisioning
    "#]]);
    check_claim("data class=now app=web", "", "", expect![[r#"
        Warning ProvisioningFailed: failed to provision volume with StorageClass "now": claim.Spec.Selector is not supported by mainstay.dev/local
    "#]]);
}

#[test]
fn who_does_not_make_volumes_here_is_named() {
    check_claim("data class=ssd", "", "", expect![[r#"
        Warning ProvisioningFailed: storageclass.storage.k8s.io "ssd" not found
    "#]]);
    check_claim("data class=fast-ssd", "", "", expect![[r#"
        expect pd.csi.storage.gke.io
        Normal ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'pd.csi.storage.gke.io' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.
    "#]]);
    check_claim("data class=by-hand", "", "", expect![[r#"
        Warning ProvisioningFailed: no volume plugin matched name: kubernetes.io/no-provisioner
    "#]]);
    check_claim("data class=-", "", "", expect![[r#"
        Normal FailedBinding: no persistent volumes available for this claim and no storage class is set
    "#]]);
}

#[test]
fn the_smallest_free_volume_that_suits_is_taken_and_a_reserved_one_before_it() {
    let volumes = "pv-big size=10Gi\npv-small size=1Gi\npv-tiny size=1Mi\npv-taken size=1Gi claim=other uid=9\npv-new phase=Pending\npv-other class=slow";
    check_claim("data class=- ", volumes, "", expect![[r#"
        claim pv-small
        pv-small Bound
        bind pv-small
        Bound 1Gi
    "#]]);
    check_claim("data class=- size=2Gi", volumes, "", expect![[r#"
        claim pv-big
        pv-big Bound
        bind pv-big
        Bound 10Gi
    "#]]);
    check_claim("data class=- ", &format!("{volumes}\npv-reserved size=20Gi claim=data"), "", expect![[r#"
        claim pv-reserved
        pv-reserved Bound
        bind pv-reserved
        Bound 20Gi
    "#]]);
    check_claim("data class=- app=web", "pv-a\npv-b app=web", "", expect![[r#"
        claim pv-b
        pv-b Bound
        bind pv-b
        Bound 1Gi
    "#]]);
    check_claim("data class=- modes=ReadWriteMany", volumes, "", expect![[r#"
        Normal FailedBinding: no persistent volumes available for this claim and no storage class is set
    "#]]);
}

#[test]
fn a_volume_asked_for_by_name_is_taken_only_when_it_suits_and_is_free() {
    check_claim("data class=- volume=pv-a", "pv-a", "", expect![[r#"
        claim pv-a
        pv-a Bound
        bind pv-a as asked
        Bound 1Gi
    "#]]);
    check_claim("data class=- volume=pv-a size=2Gi", "pv-a", "", expect![[r#"
        Warning VolumeMismatch: Cannot bind to requested volume "pv-a": requested PV is too small
    "#]]);
    check_claim("data class=- volume=pv-a", "pv-a class=slow", "", expect![[r#"
        Warning VolumeMismatch: Cannot bind to requested volume "pv-a": storageClassName does not match
    "#]]);
    check_claim("data class=- volume=pv-a", "pv-a claim=other uid=9", "", expect![[r#"
        Normal FailedBinding: volume "pv-a" already bound to a different claim.
    "#]]);
    check_claim("data class=- volume=pv-{0,1,2}", "pv-a", "", expect![[r#""#]]);
}

#[test]
fn a_bound_claim_that_has_lost_its_volume_is_lost() {
    check_claim("data class=- volume=pv-a bound phase=Bound", "", "", expect![[r#"
        Lost
        Warning ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!
    "#]]);
    check_claim("data class=- volume=pv-a bound phase=Lost", "", "", expect![[r#""#]]);
    check_claim("data class=- volume=pv-a bound phase=Bound", "pv-a claim=data uid=2 phase=Bound", "", expect![[r#"
        Lost
        Warning ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly
    "#]]);
}

#[test]
fn a_bound_claim_grows_where_its_class_allows() {
    let volume = "pvc-1 class=standard claim=data uid=1 phase=Bound by=mainstay.dev/local";
    check_claim("data class=standard size=2Gi volume=pvc-1 bound phase=Bound capacity=1Gi", volume, "", expect![[r#"
        resize pvc-1 2Gi
        Bound 2Gi
        Normal VolumeResizeSuccessful: Resize volume succeeded
    "#]]);
    check_claim("data class=fixed size=2Gi volume=pvc-1 bound phase=Bound capacity=1Gi", volume, "", expect![[r#""#]]);
}

#[test]
fn a_claim_in_use_stays_until_its_pods_are_gone() {
    let volume = "pvc-1 class=standard claim=data uid=1 phase=Bound";
    let claim = "data class=standard volume=pvc-1 bound phase=Bound capacity=1Gi";
    check_claim(&format!("{claim} deleting"), volume, "db-0@", expect![[r#""#]]);
    check_claim(&format!("{claim} deleting"), volume, "db-0", expect![[r#"
        unprotect
    "#]]);
    check_claim(&format!("{claim} deleting unprotected"), volume, "", expect![[r#""#]]);
    check_claim(&format!("{claim} unprotected"), volume, "", expect![[r#"
        protect
    "#]]);
    check_claim("data class=now deleting", "", "", expect![[r#"
        unprotect
    "#]]);
}

#[test]
fn a_volume_is_available_until_it_is_claimed_and_bound_while_its_claim_says_so() {
    check_volume("pv-a phase=Pending", "", expect![[r#"
        pv-a Available
    "#]]);
    check_volume("pv-a phase=Available", "", expect![[r#""#]]);
    check_volume("pv-a claim=data phase=Pending", "", expect![[r#"
        pv-a Available
    "#]]);
    check_volume("pv-a claim=data uid=1 phase=Available", "data volume=pv-a", expect![[r#"
        pv-a Bound
    "#]]);
    check_volume("pv-a claim=data uid=1 phase=Available", "data", expect![[r#""#]]);
    check_volume("pv-a claim=data uid=1 phase=Bound unprotected", "data volume=pv-a", expect![[r#"
        protect
    "#]]);
}

#[test]
fn a_volume_whose_claim_is_gone_is_kept_or_removed_as_its_policy_says() {
    check_volume("pvc-1 claim=data uid=1 phase=Bound policy=Delete by=mainstay.dev/local", "", expect![[r#"
        pvc-1 Released
        remove
    "#]]);
    check_volume("pvc-1 claim=data uid=1 phase=Bound policy=Delete by=mainstay.dev/local", "data uid=2 volume=pvc-1", expect![[r#"
        pvc-1 Released
        remove
    "#]]);
    check_volume("pvc-1 claim=data uid=1 phase=Bound policy=Retain by=mainstay.dev/local", "", expect![[r#"
        pvc-1 Released
    "#]]);
    check_volume("pv-a claim=data uid=1 phase=Bound policy=Delete by=csi.example.com", "", expect![[r#"
        pv-a Released
    "#]]);
    check_volume("pv-a claim=data uid=1 phase=Bound policy=Delete", "", expect![[r#"
        pv-a Failed
        Warning VolumeFailedDelete: Error getting deleter volume plugin for volume "pv-a": no deletable volume plugin matched
    "#]]);
    check_volume("pv-a claim=data uid=1 phase=Failed policy=Recycle", "", expect![[r#""#]]);
    // One of that name that is not in its place is not touched.
    check_volume("other claim=data uid=1 phase=Released policy=Delete by=mainstay.dev/local", "", expect![[r#""#]]);
}

#[test]
fn a_volume_that_is_deleted_goes_when_it_is_no_longer_bound() {
    check_volume("pv-a deleting", "", expect![[r#"
        unprotect
    "#]]);
    check_volume("pv-a deleting claim=data uid=1 phase=Bound", "data volume=pv-a", expect![[r#""#]]);
    check_volume("pv-a deleting claim=data uid=1 phase=Bound", "", expect![[r#"
        pv-a Released
        unprotect
    "#]]);
    check_volume("pvc-1 deleting claim=data uid=1 phase=Released policy=Delete by=mainstay.dev/local", "", expect![[r#"
        remove
    "#]]);
}

#[test]
fn a_volume_whose_claim_went_elsewhere_is_free_again() {
    check_volume("pv-a claim=data uid=1 phase=Bound found", "data volume=pv-b", expect![[r#"
        pv-a Available
        unclaim
    "#]]);
    check_volume("pv-a claim=data uid=1 phase=Bound", "data volume=pv-b", expect![[r#"
        pv-a Available
        unclaim uid
    "#]]);
    check_volume("pvc-1 claim=data uid=1 phase=Bound policy=Delete by=mainstay.dev/local", "data volume=pv-b", expect![[r#"
        pvc-1 Released
        remove
    "#]]);
}
