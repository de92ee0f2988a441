//! Deployments, ReplicaSets, Jobs and CronJobs, as users drive them.

use mainstay_e2e::{Kubectl, Machine};

pub(crate) const TESTS: &[crate::Test] = &[
    ("a_deployment_rolls_out_back_and_on", rollout),
    ("a_deployment_pauses_scales_and_restarts", pause),
    ("recreate_starts_nothing_before_the_last_old_pod_has_gone", recreate),
    ("a_rollout_that_makes_no_progress_says_so", deadline),
    ("a_replica_set_adopts_and_lets_go", adoption),
    ("a_job_completes_and_shows_its_output", complete),
    ("a_job_that_fails_is_tried_again_and_given_up", failed),
    ("an_indexed_job_tells_each_pod_its_index", indexed),
    ("a_job_is_suspended_resumed_and_lives_no_longer_than_it_should", suspended),
    ("a_cron_job_makes_jobs", cron),
    ("deleting_a_job_takes_or_leaves_its_pods", cascades),
    ("wrong_manifests_are_refused", refused),
];

const WAIT: &str = "trap 'exit 0' TERM; while true; do sleep 0.1; done";

/// By kubectl's own words: the body is protobuf from 1.32 on.
fn create(k: &Kubectl, replicas: &str) {
    k.ok(&["create", "deployment", "web", "--image=busybox:1.35", &format!("--replicas={replicas}"), "--", "sh", "-c", WAIT]);
    rolled_out(k);
}

fn rolled_out(k: &Kubectl) {
    assert!(k.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]).contains("successfully rolled out"));
}

fn images(k: &Kubectl) -> String {
    k.ok(&["get", "pods", "-l", "app=web", "--field-selector=status.phase=Running", "-o", "jsonpath={.items[*].spec.containers[0].image}"])
}

fn revisions(k: &Kubectl) -> Vec<String> {
    let history = k.ok(&["rollout", "history", "deployment/web"]);
    history.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn rollout(machine: &Machine) {
    let k = machine.namespace("workloads-rollout");
    create(&k, "3");
    assert_eq!(k.ok(&["get", "deploy", "web", "--no-headers"]).split_whitespace().take(4).collect::<Vec<_>>(), ["web", "3/3", "3", "3"]);
    let all = k.ok(&["get", "all", "-o", "wide"]);
    assert!(all.contains("deployment.apps/web") && all.contains("replicaset.apps/web-") && all.contains("app=web,pod-template-hash="), "{all}");
    let first = k.field("rs", "{.items[0].metadata.name}");
    k.ok(&["annotate", "deployment/web", "kubernetes.io/change-cause=first"]);
    k.ok(&["set", "image", "deployment/web", "busybox=busybox:1.35.0"]);
    k.ok(&["annotate", "deployment/web", "--overwrite", "kubernetes.io/change-cause=second"]);
    rolled_out(&k);
    k.until("deployment/web", "{.status.terminatingReplicas}", "0", 30);
    assert_eq!(images(&k), "busybox:1.35.0 busybox:1.35.0 busybox:1.35.0");
    assert_eq!(revisions(&k), ["1 first", "2 second"]);
    assert!(k.ok(&["rollout", "history", "deployment/web", "--revision=2"]).contains("busybox:1.35.0"));
    k.ok(&["rollout", "undo", "deployment/web"]);
    rolled_out(&k);
    assert_eq!(revisions(&k), ["2 second", "3 first"]);
    k.until(&format!("rs/{first}"), "{.status.readyReplicas}", "3", 30);
    k.ok(&["rollout", "undo", "deployment/web", "--to-revision=2"]);
    rolled_out(&k);
    assert_eq!(revisions(&k), ["3 first", "4 second"]);
    let described = k.ok(&["describe", "deployment", "web"]);
    for words in ["NewReplicaSetAvailable", "MinimumReplicasAvailable", &format!("Scaled up replica set {first} from 0 to 3"), &format!("Scaled down replica set {first} from")] {
        assert!(described.contains(words), "{words} is missing:\n{described}");
    }
    k.ok(&["expose", "deployment", "web", "--port=80"]);
    assert_eq!(k.field("service/web", "{.spec.selector.app}"), "web");
    k.ok(&["logs", "deployment/web"]);
    k.ok(&["delete", "deployment", "web"]);
    k.until("rs,pods", "{.items}", "[]", 30);
}

fn pause(machine: &Machine) {
    let k = machine.namespace("workloads-pause");
    create(&k, "2");
    k.ok(&["rollout", "pause", "deployment/web"]);
    k.ok(&["set", "env", "deployment/web", "A=1"]);
    k.ok(&["scale", "deployment/web", "--replicas=3"]);
    k.until("deployment/web", "{.status.readyReplicas} {.status.updatedReplicas}", "3 ", 30);
    assert_eq!(k.field("deployment/web", "{.status.conditions[?(@.type=='Progressing')].reason}"), "DeploymentPaused");
    k.ok(&["rollout", "resume", "deployment/web"]);
    rolled_out(&k);
    k.until("deployment/web", "{.status.updatedReplicas}", "3", 30);
    k.ok(&["rollout", "restart", "deployment/web"]);
    rolled_out(&k);
    assert_eq!(revisions(&k).len(), 3);
    k.ok(&["patch", "deployment/web", "-p", r#"{"spec":{"revisionHistoryLimit":0}}"#]);
    k.until("rs", "{.items[*].spec.replicas}", "3", 30);
    k.ok(&["wait", "--for=condition=available", "deployment/web", "--timeout=10s"]);
    k.ok(&["scale", "deployment/web", "--replicas=0"]);
    k.until("pods", "{.items}", "[]", 30);
    k.ok(&["delete", "deployment", "web", "--wait=false"]);
}

fn recreate(machine: &Machine) {
    let k = machine.namespace("workloads-recreate");
    create(&k, "2");
    k.ok(&["patch", "deployment/web", "-p", r#"{"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"},"template":{"metadata":{"labels":{"v":"2"}}}}}"#]);
    rolled_out(&k);
    let started = k.ok(&["get", "pods", "-l", "v=2", "-o", "jsonpath={.items[*].metadata.name}"]);
    assert_eq!(started.split_whitespace().count(), 2);
    assert_eq!(k.ok(&["get", "pods", "-l", "v!=2", "-o", "name"]), "", "old pods beside new ones");
    k.ok(&["delete", "deployment", "web", "--wait=false"]);
}

fn deadline(machine: &Machine) {
    let k = machine.namespace("workloads-deadline");
    k.apply("{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 1, progressDeadlineSeconds: 1, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: 'absent:1', imagePullPolicy: Never}]}}}}");
    k.fails(&["rollout", "status", "deployment/web", "--timeout=30s"], "exceeded its progress deadline");
    assert_eq!(k.field("deployment/web", "{.status.conditions[?(@.type=='Progressing')].reason}"), "ProgressDeadlineExceeded");
    k.ok(&["delete", "deployment", "web", "--wait=false"]);
}

fn adoption(machine: &Machine) {
    let k = machine.namespace("workloads-adoption");
    create(&k, "3");
    k.ok(&["delete", "deployment", "web", "--cascade=orphan"]);
    let set = k.field("rs", "{.items[0].metadata.name}");
    k.ok(&["delete", "rs", &set, "--cascade=orphan"]);
    let before = k.ok(&["get", "pods", "-l", "app=web", "-o", "name"]);
    assert_eq!(before.lines().count(), 3);
    k.apply(&format!("{{apiVersion: apps/v1, kind: ReplicaSet, metadata: {{name: own}}, spec: {{replicas: 3, selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: 'busybox:1.35', command: [sh, -c, \"{WAIT}\"]}}]}}}}}}}}"));
    k.until("rs/own", "{.status.readyReplicas}", "3", 30);
    assert_eq!(k.ok(&["get", "pods", "-l", "app=web", "-o", "name"]), before, "the orphans are its pods");
    let pod = before.lines().next().expect("a pod");
    k.ok(&["label", pod, "--overwrite", "app=free"]);
    k.until("rs/own", "{.status.readyReplicas}", "3", 30);
    k.until(pod, "{.metadata.ownerReferences}", "", 30);
    k.ok(&["scale", "rs/own", "--replicas=1"]);
    k.until("rs/own", "{.status.replicas}", "1", 30);
    assert!(k.ok(&["describe", "rs", "own"]).contains("Deleted pod:"));
    k.ok(&["delete", "rs", "own", "--wait=false"]);
    k.ok(&["delete", pod, "--wait=false"]);
}

fn complete(machine: &Machine) {
    let k = machine.namespace("workloads-complete");
    k.ok(&["create", "job", "hello", "--image=busybox:1.35", "--", "echo", "hello", "there"]);
    k.ok(&["wait", "--for=condition=complete", "job/hello", "--timeout=60s"]);
    assert_eq!(k.ok(&["logs", "job/hello"]), "hello there");
    assert_eq!(k.ok(&["get", "job", "hello", "--no-headers"]).split_whitespace().take(3).collect::<Vec<_>>(), ["hello", "Complete", "1/1"]);
    assert_eq!(k.field("job/hello", "{.status.succeeded} {.status.active} {.status.uncountedTerminatedPods}"), "1  {}");
    assert_eq!(k.ok(&["get", "pods", "-l", "job-name=hello", "-o", "jsonpath={.items[*].metadata.finalizers}"]), "");
    assert_eq!(k.event("hello", "Completed", 10), "Job completed");
    k.apply("{apiVersion: batch/v1, kind: Job, metadata: {name: many}, spec: {completions: 6, parallelism: 3, template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'busybox:1.35', command: ['true']}]}}}}");
    k.ok(&["wait", "--for=condition=complete", "job/many", "--timeout=60s"]);
    assert_eq!(k.field("job/many", "{.status.succeeded}"), "6");
    assert_eq!(k.ok(&["get", "pods", "-l", "job-name=many", "-o", "name"]).lines().count(), 6, "no pod too many");
}

fn failed(machine: &Machine) {
    let k = machine.namespace("workloads-failed");
    let job = |name: &str, spec: &str| format!("{{apiVersion: batch/v1, kind: Job, metadata: {{name: {name}}}, spec: {{{spec}, template: {{spec: {{restartPolicy: Never, terminationGracePeriodSeconds: 1, containers: [{{name: c, image: 'busybox:1.35', command: [sh, -c, 'sleep 0.2; exit 3']}}]}}}}}}}}");
    k.apply(&job("once", "backoffLimit: 0"));
    k.apply(&job("twice", "backoffLimit: 1"));
    k.apply(&job("policy", "podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [3]}}]}"));
    k.apply(&job("late", "activeDeadlineSeconds: 1"));
    for name in ["once", "policy", "late", "twice"] {
        k.ok(&["wait", "--for=condition=failed", &format!("job/{name}"), "--timeout=60s"]);
    }
    assert_eq!(k.event("once", "BackoffLimitExceeded", 10), "Job has reached the specified backoff limit");
    assert!(k.event("policy", "PodFailurePolicy", 10).contains("failed with exit code 3 matching FailJob rule at index 0"));
    assert_eq!(k.event("late", "DeadlineExceeded", 10), "Job was active longer than specified deadline");
    assert_eq!(k.field("job/once", "{.status.failed} {.status.conditions[*].type}"), "1 FailureTarget Failed");
    assert_eq!(k.field("job/twice", "{.status.failed}"), "2");
    assert_eq!(k.ok(&["get", "pods", "-l", "job-name=twice", "-o", "name"]).lines().count(), 2);
}

fn indexed(machine: &Machine) {
    let k = machine.namespace("workloads-indexed");
    k.apply("{apiVersion: batch/v1, kind: Job, metadata: {name: i}, spec: {completions: 3, parallelism: 2, completionMode: Indexed, template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'busybox:1.35', command: [sh, -c, 'echo $JOB_COMPLETION_INDEX $(hostname)']}]}}}}");
    k.ok(&["wait", "--for=condition=complete", "job/i", "--timeout=60s"]);
    assert_eq!(k.field("job/i", "{.status.completedIndexes} {.status.succeeded}"), "0-2 3");
    let mut said: Vec<String> = k.ok(&["logs", "-l", "batch.kubernetes.io/job-name=i"]).lines().map(str::to_owned).collect();
    said.sort();
    assert_eq!(said, ["0 i-0", "1 i-1", "2 i-2"]);
    k.apply("{apiVersion: batch/v1, kind: Job, metadata: {name: p}, spec: {completions: 2, parallelism: 2, completionMode: Indexed, backoffLimitPerIndex: 0, template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'busybox:1.35', command: [sh, -c, 'exit $JOB_COMPLETION_INDEX']}]}}}}");
    k.ok(&["wait", "--for=condition=failed", "job/p", "--timeout=60s"]);
    assert_eq!(k.field("job/p", "{.status.completedIndexes} {.status.failedIndexes}"), "0 1");
}

fn suspended(machine: &Machine) {
    let k = machine.namespace("workloads-suspended");
    k.apply("{apiVersion: batch/v1, kind: Job, metadata: {name: s}, spec: {suspend: true, ttlSecondsAfterFinished: 1, template: {spec: {restartPolicy: Never, terminationGracePeriodSeconds: 0, containers: [{name: c, image: 'busybox:1.35', command: [sh, -c, 'sleep 2']}]}}}}");
    k.ok(&["wait", "--for=condition=suspended", "job/s", "--timeout=30s"]);
    assert_eq!(k.ok(&["get", "job", "s", "--no-headers"]).split_whitespace().nth(1), Some("Suspended"));
    k.ok(&["patch", "job/s", "-p", r#"{"spec":{"suspend":false}}"#]);
    k.until("job/s", "{.status.ready}", "1", 30);
    k.ok(&["patch", "job/s", "-p", r#"{"spec":{"suspend":true}}"#]);
    k.until("job/s", "{.status.active} {.status.failed}", " ", 30);
    k.until("pods", "{.items}", "[]", 30);
    k.ok(&["patch", "job/s", "-p", r#"{"spec":{"suspend":false}}"#]);
    k.ok(&["wait", "--for=condition=complete", "job/s", "--timeout=60s"]);
    k.ok(&["wait", "--for=delete", "job/s", "--timeout=60s"]);
    k.until("pods", "{.items}", "[]", 30);
}

fn cron(machine: &Machine) {
    let k = machine.namespace("workloads-cron");
    k.ok(&["create", "cronjob", "c", "--image=busybox:1.35", "--schedule=0 0 1 1 *", "--", "echo", "tick"]);
    assert_eq!(k.ok(&["get", "cronjob", "c", "--no-headers"]).split_whitespace().take(9).collect::<Vec<_>>().join(" "), "c 0 0 1 1 * <none> False 0");
    k.ok(&["create", "job", "now", "--from=cronjob/c"]);
    k.ok(&["wait", "--for=condition=complete", "job/now", "--timeout=60s"]);
    assert_eq!(k.ok(&["logs", "job/now"]), "tick");
    k.ok(&["patch", "cronjob", "c", "-p", r#"{"spec":{"schedule":"@every 1s","successfulJobsHistoryLimit":1}}"#]);
    k.event("c", "SuccessfulCreate", 30);
    k.event("c", "SuccessfulDelete", 30);
    k.ok(&["patch", "cronjob", "c", "-p", r#"{"spec":{"suspend":true}}"#]);
    k.ok(&["delete", "cronjob", "c"]);
    k.until("jobs", "{.items}", "[]", 30);
}

fn cascades(machine: &Machine) {
    let k = machine.namespace("workloads-cascades");
    let make = |name: &str| {
        k.ok(&["create", "job", name, "--image=busybox:1.35", "--", "sh", "-c", WAIT]);
        k.until(&format!("job/{name}"), "{.status.ready}", "1", 30);
    };
    let pods = |name: &str| k.ok(&["get", "pods", "-l", &format!("batch.kubernetes.io/job-name={name}"), "-o", "jsonpath={.items[*].metadata.finalizers}{.items[*].metadata.name}"]);
    make("left");
    k.ok(&["delete", "job", "left", "--cascade=orphan"]);
    mainstay_e2e::eventually("the orphan has no finalizer", std::time::Duration::from_secs(30), || match pods("left") {
        left if left.starts_with("left-") => Ok(()),
        other => Err(other),
    });
    for cascade in ["background", "foreground"] {
        make(cascade);
        k.ok(&["delete", "job", cascade, &format!("--cascade={cascade}")]);
        mainstay_e2e::eventually("no pods", std::time::Duration::from_secs(30), || match pods(cascade) {
            none if none.is_empty() => Ok(()),
            some => Err(some),
        });
    }
    k.ok(&["delete", "pods", "--all", "--wait=false"]);
}

fn refused(machine: &Machine) {
    let k = machine.namespace("workloads-refused");
    create(&k, "1");
    k.fails(&["patch", "deployment/web", "-p", r#"{"spec":{"selector":{"matchLabels":{"b":"c"}},"template":{"metadata":{"labels":{"b":"c"}}}}}"#], "field is immutable");
    k.fails(&["patch", "deployment/web", "-p", r#"{"spec":{"strategy":{"rollingUpdate":{"maxSurge":0,"maxUnavailable":0}}}}"#], "may not be 0 when `maxSurge` is 0");
    k.fails(&["scale", "deployment/web", "--replicas=-1"], "must");
    k.ok(&["create", "job", "j", "--image=busybox:1.35", "--", "true"]);
    k.fails(&["set", "image", "job/j", "j=busybox:1.35.0"], "field is immutable");
    let always = "{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {template: {spec: {containers: [{name: c, image: i}]}}}}";
    k.refuses(&["apply", "-f", "-"], always, "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"");
    k.fails(&["create", "cronjob", "c", "--image=i", "--schedule=nightly"], "expected exactly 5 fields, found 1: [nightly]");
    k.ok(&["delete", "deployment", "web", "--wait=false"]);
}
