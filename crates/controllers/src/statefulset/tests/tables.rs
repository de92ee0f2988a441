//! The rules, one sentence each. In spirit the scenarios of upstream's stateful_set_control_test.go and stateful_set_utils_test.go.

use super::lines::{check, check_with_claims, status};
use expect_test::expect;

#[test]
fn ordered_sets_create_one_pod_at_a_time() {
    check("web replicas=3", "", expect![[r#"
        create web-0 at new
    "#]]);
    check("web replicas=3", "web-0 Pending", expect![[r#"
        wait: web-0 is not ready
    "#]]);
    check("web replicas=3", "web-0 Running,NotReady", expect![[r#"
        wait: web-0 is not ready
    "#]]);
    check("web replicas=3", "web-0 Running,Ready", expect![[r#"
        create web-1 at new
    "#]]);
    check("web replicas=3", "web-0 Running,Ready  web-1 Running,Ready  web-2 Running,Ready", expect![""]);
}

#[test]
fn parallel_sets_create_all_in_growing_batches() {
    check("web replicas=5 Parallel", "web-2 Pending", expect![[r#"
        create web-0 at new
        create web-1 at new; create web-3 at new
        create web-4 at new
    "#]]);
}

#[test]
fn claims_are_created_with_their_pod_and_for_a_pending_pod_that_lost_one() {
    check_with_claims("web replicas=1 claims=www,log", "", "log-web-0", expect![[r#"
        create web-0 at new with www-web-0
    "#]]);
    check_with_claims("web replicas=1 claims=www", "web-0 Pending", "", expect![[r#"
        create www-web-0 for web-0
        wait: web-0 is not ready
    "#]]);
    check_with_claims("web replicas=1 claims=www", "web-0 Running,Ready", "", expect![""]);
}

#[test]
fn no_pod_is_made_on_a_claim_that_is_being_deleted() {
    check_with_claims("web replicas=2 claims=www", "", "www-web-0 Terminating", expect![[r#"
        cannot create web-0: pvc www-web-0 is being deleted
    "#]]);
    check_with_claims("web replicas=2 Parallel claims=www", "", "www-web-0 Terminating", expect![[r#"
        cannot create web-0: pvc www-web-0 is being deleted
    "#]]);
}

#[test]
fn ended_pods_are_deleted_and_then_made_again() {
    check("web replicas=2", "web-0 Failed  web-1 Running,Ready", expect![[r#"
        delete web-0
        wait: web-0 has ended and is to be replaced
    "#]]);
    check("web replicas=2", "web-0 Succeeded,Terminating  web-1 Running,Ready", expect![[r#"
        wait: web-0 has ended and is to be replaced
    "#]]);
    check("web replicas=2 Parallel", "web-1 Failed", expect![[r#"
        create web-0 at new
        delete web-1
        wait: web-1 has ended and is to be replaced
    "#]]);
    check("web replicas=2 Parallel", "web-0 Running,Ready  web-1 Failed rev=old", expect![[r#"
        delete web-1
        wait: web-1 has ended and is to be replaced
    "#]]);
}

#[test]
fn a_terminating_pod_holds_an_ordered_set_up_but_not_a_parallel_one() {
    check("web replicas=2", "web-0 Running,Ready,Terminating", expect![[r#"
        wait: web-0 is terminating
    "#]]);
    check("web replicas=2 Parallel", "web-0 Running,Ready,Terminating", expect![[r#"
        create web-1 at new
    "#]]);
}

#[test]
fn scale_down_goes_from_the_top_one_by_one() {
    check("web replicas=1", "web-0 Running,Ready  web-1 Running,Ready  web-2 Running,Ready", expect![[r#"
        delete web-2
    "#]]);
    check("web replicas=1", "web-0 Running,Ready  web-1 Running,Ready  web-2 Running,Ready,Terminating", expect![[r#"
        wait: web-2 is terminating
    "#]]);
    check("web replicas=1 Parallel", "web-0 Running,Ready  web-1 Running,Ready  web-2 Running,NotReady", expect![[r#"
        delete web-2
        delete web-1
    "#]]);
    check("web replicas=0", "web-0 Running,Ready", expect![[r#"
        delete web-0
    "#]]);
}

#[test]
fn scale_down_waits_for_an_unready_pod_below_the_condemned_one() {
    check("web replicas=1", "web-0 Running,NotReady  web-1 Running,Ready  web-2 Running,Ready", expect![[r#"
        wait: web-0 is not ready
    "#]]);
    check("web replicas=1", "web-0 Running,Ready  web-1 Running,NotReady  web-2 Running,NotReady", expect![[r#"
        wait: web-1 is not ready
    "#]]);
    check("web replicas=1", "web-0 Running,Ready  web-1 Running,Ready  web-2 Running,NotReady", expect![[r#"
        delete web-2
    "#]]);
}

#[test]
fn scale_down_takes_pods_that_have_ended_whoever_is_not_ready() {
    check("web replicas=0", "web-0 Failed  web-1 Failed", expect![[r#"
        delete web-1
    "#]]);
}

#[test]
fn a_rolling_update_replaces_the_highest_first_and_waits_for_it() {
    let three = "web replicas=3 current=old";
    check(three, "web-0 Running,Ready rev=old  web-1 Running,Ready rev=old  web-2 Running,Ready rev=old", expect![[r#"
        delete web-2
    "#]]);
    check(three, "web-0 Running,Ready rev=old  web-1 Running,Ready rev=old", expect![[r#"
        create web-2 at new
    "#]]);
    check(three, "web-0 Running,Ready rev=old  web-1 Running,Ready rev=old  web-2 Running,NotReady", expect![[r#"
        wait: web-2 is not ready
    "#]]);
    check(three, "web-0 Running,Ready rev=old  web-1 Running,Ready rev=old  web-2 Running,Ready", expect![[r#"
        delete web-1
    "#]]);
}

#[test]
fn an_ordered_update_is_stuck_behind_a_broken_pod_and_a_parallel_one_replaces_it() {
    check("web replicas=2 current=old", "web-0 Running,Ready rev=old  web-1 Running,NotReady rev=old", expect![[r#"
        wait: web-1 is not ready
    "#]]);
    check("web replicas=2 Parallel current=old", "web-0 Running,NotReady rev=old  web-1 Running,NotReady rev=old", expect![[r#"
        delete web-1
    "#]]);
    check("web replicas=2 Parallel current=old", "web-0 Running,NotReady rev=old  web-1 Running,NotReady", expect![[r#"
        wait: web-1 is not yet available
    "#]]);
}

#[test]
fn a_partition_keeps_the_pods_below_it_at_the_current_revision() {
    let set = "web replicas=3 partition=2 current=old";
    check(set, "web-0 Running,Ready rev=old  web-1 Running,Ready rev=old  web-2 Running,Ready rev=old", expect![[r#"
        delete web-2
    "#]]);
    check(set, "web-0 Running,Ready rev=old  web-2 Running,Ready", expect![[r#"
        create web-1 at old
    "#]]);
    check(set, "web-0 Running,Ready rev=old  web-1 Running,Ready rev=old  web-2 Running,Ready", expect![""]);
    check("web replicas=2 partition=7 current=old", "web-0 Running,Ready rev=old", expect![[r#"
        create web-1 at old
    "#]]);
    check("web replicas=3 norolling currentReplicas=1 current=old Parallel", "web-2 Running,Ready", expect![[r#"
        create web-0 at old
        create web-1 at new
    "#]]);
}

#[test]
fn on_delete_replaces_only_what_somebody_deleted() {
    check("web replicas=2 OnDelete current=old", "web-0 Running,Ready rev=old  web-1 Running,Ready rev=old", expect![""]);
    check("web replicas=2 OnDelete current=old", "web-0 Running,Ready rev=old", expect![[r#"
        create web-1 at new
    "#]]);
}

#[test]
fn ordinals_may_start_anywhere() {
    check("web replicas=2 start=5", "", expect![[r#"
        create web-5 at new
    "#]]);
    check("web replicas=2 start=5", "web-4 Running,Ready  web-5 Running,Ready  web-6 Running,Ready", expect![[r#"
        delete web-4
    "#]]);
    check("web replicas=1 start=1 partition=1 current=old", "", expect![[r#"
        create web-1 at old
    "#]]);
}

#[test]
fn a_pod_counts_after_min_ready_seconds() {
    check("web replicas=2 minReady=10", "web-0 Running,Ready since=4", expect![[r#"
        wait: web-0 is not yet available
        look again in 6 s
    "#]]);
    check("web replicas=2 minReady=10", "web-0 Running,Ready since=11", expect![[r#"
        create web-1 at new
    "#]]);
    check("web replicas=1 minReady=10", "web-0 Running,Ready since=11  web-1 Running,Ready since=2", expect![[r#"
        delete web-1
        look again in 8 s
    "#]]);
}

#[test]
fn a_set_that_is_being_deleted_is_only_counted() {
    check("web replicas=3 deleting", "web-0 Running,Ready", expect![""]);
}

#[test]
fn an_adopted_pod_is_given_its_label() {
    check("web replicas=1", "web-0 Running,Ready,unlabelled", expect![[r#"
        correct web-0
    "#]]);
}

#[test]
fn the_retention_policy_decides_who_owns_a_claim() {
    let running = "web-0 Running,Ready  web-1 Running,Ready";
    check_with_claims("web replicas=1 claims=www", running, "www-web-0  www-web-1", expect![[r#"
        delete web-1
    "#]]);
    check_with_claims("web replicas=1 claims=www deleted=Delete", running, "www-web-0  www-web-1", expect![[r#"
        www-web-0 is owned by StatefulSet
        www-web-1 is owned by StatefulSet
        delete web-1
    "#]]);
    check_with_claims("web replicas=1 claims=www scaled=Delete", running, "www-web-0  www-web-1", expect![[r#"
        www-web-1 is owned by Pod
        delete web-1
    "#]]);
    check_with_claims("web replicas=1 claims=www scaled=Delete deleted=Delete", running, "www-web-0 owner=set  www-web-1 owner=set", expect![[r#"
        www-web-1 is owned by Pod
        delete web-1
    "#]]);
    check_with_claims("web replicas=2 claims=www scaled=Delete", running, "www-web-0 owner=set  www-web-1 owner=pod:web-1", expect![[r#"
        www-web-0 is owned by nobody
        www-web-1 is owned by nobody
    "#]]);
}

#[test]
fn a_claim_of_an_earlier_namesake_is_left_alone_and_of_another_controller_given_up() {
    check_with_claims("web replicas=1 claims=www scaled=Delete", "", "www-web-0 owner=stale-pod:web-0", expect![[r#"
        wait: web-0 waits until the claims of the one before are collected
    "#]]);
    check_with_claims("web replicas=1 claims=www deleted=Delete", "web-0 Running,Ready", "www-web-0 owner=stale-set", expect![""]);
    check_with_claims("web replicas=1 claims=www deleted=Delete", "web-0 Running,Ready", "www-web-0 owner=other", expect![""]);
}

#[test]
fn a_new_claim_has_its_owner_from_the_start() {
    let (observed, _) = super::lines::observed("web replicas=1 claims=www deleted=Delete", "", "");
    let step = super::super::step::step(&observed, super::lines::now());
    let super::super::step::Write::CreatePod { claims, pod, .. } = &step.batches[0][0] else { panic!("created") };
    assert_eq!(claims[0].metadata.owner_references.as_ref().map(|owners| owners[0].kind.as_str()), Some("StatefulSet"));
    assert_eq!(claims[0].metadata.labels.as_ref().map(|labels| (labels["mine"].as_str(), labels["app"].as_str())), Some(("yes", "web")));
    let spec = pod.spec.as_ref().expect("a spec");
    let volumes: Vec<&str> = spec.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    assert_eq!((volumes, spec.hostname.as_deref(), spec.subdomain.as_deref()), (vec!["www", "own"], Some("web-0"), Some("web")));
}

#[test]
fn a_status_counts_what_upstream_counts() {
    for (set, pods, expected) in [
        ("web replicas=3", "", "0 0 0 0 0 new→new"),
        ("web replicas=3 current=old", "web-0 Running,Ready rev=old  web-1 Pending", "2 1 1 1 1 old→new"),
        ("web replicas=1", "web-0 Running,Ready,Terminating", "1 1 1 0 0 new→new"),
        ("web replicas=1 minReady=10", "web-0 Running,Ready since=2", "1 1 0 1 1 new→new"),
        // The pod that this step deletes is no longer a current one.
        ("web replicas=2 current=old", "web-0 Running,Ready rev=old  web-1 Running,Ready rev=old", "2 2 2 1 0 old→new"),
        // All updated and ready: the update is complete.
        ("web replicas=2 current=old", "web-0 Running,Ready  web-1 Running,Ready", "2 2 2 2 2 new→new"),
        ("web replicas=2 current=old OnDelete", "web-0 Running,Ready  web-1 Running,Ready", "2 2 2 0 2 old→new"),
        ("web replicas=2 current=old partition=1", "web-0 Running,Ready rev=old  web-1 Running,Ready", "2 2 2 1 1 old→new"),
    ] {
        assert_eq!(status(set, pods), expected, "{set}: {pods}");
    }
}

#[test]
fn history_beyond_the_limit_goes_unless_a_pod_uses_it() {
    check("web replicas=1 history=0", "web-0 Running,Ready", expect![[r#"
        delete revision old
    "#]]);
    check("web replicas=1 history=0 OnDelete", "web-0 Running,Ready rev=old", expect![""]);
    check("web replicas=1 history=0 OnDelete current=old", "web-0 Running,Ready", expect![""]);
    check("web replicas=1 history=-1", "web-0 Running,Ready", expect![""]);
}
