//! What is accepted with a remark.

use crate::world::parse;
use expect_test::{Expect, expect};

fn check(manifest: &str, expected: Expect) {
    let (mut object, kind) = parse(manifest);
    (kind.default)(&mut object);
    expected.assert_eq(&(kind.warnings)(&object).join("\n"));
}

#[test]
fn stateful_sets_that_cannot_work_as_written() {
    let set = |name: &str, spec: &str| format!("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: {name}}}\nspec: {{replicas: 3, {spec}}}");
    check(&set("a", "revisionHistoryLimit: -1"), expect!["spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"]);
    check(&set("a", "volumeClaimTemplates: [{spec: {volumeName: 'pv-postgres-{0,1,2}'}}, {spec: {volumeName: one}}]"), expect![[r#"
        spec.volumeClaimTemplates[0].spec.volumeName: "pv-postgres-{0,1,2}" is one name, braces and all: nothing expands it, and the claims will wait for a volume of that name; to pair volumes with replicas set spec.claimRef in each PersistentVolume
        spec.volumeClaimTemplates[1].spec.volumeName: every replica's claim will ask for the volume "one", and only one can have it"#]]);
    check(&set(&"a".repeat(53), ""), expect![[r#"metadata.name: a pod's label "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"-<hash> would be longer than 63 characters, so no pod of this set can be created; use at most 52 characters"#]]);
}

#[test]
fn environment_that_is_not_what_it_seems() {
    let pod = |env: &str| format!("{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{containers: [{{name: c, image: i, env: {env}}}]}}}}");
    check(&pod(r#"[{name: A, value: '1'}, {name: A, value: '2'}, {name: B, value: "$(A) $$(C)"}, {name: P, value: '$(P):x'}]"#), expect![[r#"
        spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply
        spec.containers[0].env[3].value: $(P) stays as it is written: no variable of that name is defined before it"#]]);
    check(&pod(r#"[{name: MODE, value: '$([ "$POD_NAME" = "postgres-0" ] && echo "master" || echo "slave")'}]"#), expect![[r#"spec.containers[0].env[0].value: no shell runs "$([ "$POD_NAME" = "postgres-0" ] && echo "master" || echo "slave")"; the container gets it as it is written"#]]);
    check(&pod("[{name: URL, value: 'PLAINTEXT://$(POD_NAME).kafka:9092'}, {name: K, value: '$(KUBERNETES_SERVICE_HOST)'}]"), expect!["spec.containers[0].env[0].value: $(POD_NAME) stays as it is written: no variable of that name is defined before it"]);
}

#[test]
fn smaller_remarks() {
    check("{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {nodeSelector: {beta.kubernetes.io/os: linux}, containers: [{name: c, image: i, ports: [{containerPort: 80}, {containerPort: 80}], resources: {requests: {memory: 100m}}}]}}", expect![[r#"
        spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead
        spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]
        spec.containers[0].resources.requests[memory]: fractional byte value "100m" is invalid, must be an integer"#]]);
    check("{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: None, sessionAffinity: ClientIP}}", expect!["spec.SessionAffinity is ignored for headless services"]);
    let endpoints = mainstay_api::kinds::by_plural("", "v1", "endpoints").expect("endpoints");
    assert_eq!(endpoints.deprecation, Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"));
}
