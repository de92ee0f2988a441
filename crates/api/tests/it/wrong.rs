//! Wrong manifests and what is said of them; first those of the seed documents, then one for each rule.

use crate::world::{World, create};
use expect_test::{Expect, expect};

fn check(manifest: &str, expected: Expect) {
    let said = match create(manifest, &World::new()) {
        Ok(_) => "created".to_owned(),
        Err(refusal) if refusal.causes.is_empty() => format!("{} {}", refusal.code, refusal.message),
        Err(refusal) => refusal.causes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    };
    expected.assert_eq(&said);
}

/// A pod with the given lines in its spec, and in its only container.
fn pod(spec: &str, container: &str) -> String {
    let indent = |text: &str, by: usize| text.lines().map(|l| format!("{}{l}\n", " ".repeat(by))).collect::<String>();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n  - name: c\n    image: nginx\n{}{}",
        indent(container, 4),
        indent(spec, 2)
    )
}

fn check_pod(spec: &str, expected: Expect) {
    check(&pod(spec, ""), expected);
}

fn check_container(container: &str, expected: Expect) {
    check(&pod("", container), expected);
}

/// A set that is right but for the given lines of its spec.
fn set(spec: &str) -> String {
    let extra: String = spec.lines().map(|l| format!("  {l}\n")).collect();
    format!(
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: web}}\nspec:\n  serviceName: web\n{extra}{}{}",
        if spec.contains("selector:") { "" } else { "  selector: {matchLabels: {app: web}}\n" },
        if spec.contains("template:\n") { "" } else { "  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: nginx}]}}\n" },
    )
}

fn check_service(spec: &str, expected: Expect) {
    let spec: String = spec.lines().map(|l| format!("  {l}\n")).collect();
    check(&format!("apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec:\n{spec}"), expected);
}

#[test]
fn seed_volume_without_access_modes() {
    check(
        "{apiVersion: v1, kind: PersistentVolume, metadata: {name: pv-postgres-1}, spec: {capacity: {storage: 10Gi}, nfs: {server: s, path: /p}}}",
        expect!["spec.accessModes: Required value"],
    );
}

#[test]
fn seed_set_without_selector() {
    check(
        r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: postgresql}
spec:
  serviceName: "postgresql-hl"
  replicas: 3
  podManagementPolicy: OrderedReady
  template:
    metadata: {labels: {app: postgresql}}
    spec:
      containers:
      - name: postgresql
        image: postgres:9.5
        ports: [{containerPort: 5432}]
        volumeMounts: [{name: postgresql-data, mountPath: /var/lib/postgresql/9.5/data}]
  volumeClaimTemplates:
  - metadata: {name: postgresql-data}
    spec:
      accessModes: [ReadWriteOnce]
      resources: {requests: {storage: 10Gi}}
      volumeName: pv-postgres-{0,1,2}
"#,
        expect![[r#"
            spec.selector: Required value
            spec.template.metadata.labels: Invalid value: {"app":"postgresql"}: `selector` does not match template `labels`"#]],
    );
}

#[test]
fn seed_skeleton_with_empty_template() {
    check(
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: web}\nspec:\n  serviceName: nginx-headless\n  replicas: 3\n  selector: {matchLabels: {app: nginx-stateful}}\n  template:\n  volumeClaimTemplates:\n",
        expect![[r#"
            spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
            spec.template.spec.containers: Required value"#]],
    );
}

#[test]
fn seed_shard_skeleton() {
    check(
        "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: mongodb-shard-0}, spec: {replicas: 3}}",
        expect![[r#"
            spec.selector: Required value
            spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
            spec.template.spec.containers: Required value"#]],
    );
}

#[test]
fn names() {
    let named = |name: &str| format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name:?}}}}}");
    check(&named("Foo_"), expect![[r#"metadata.name: Invalid value: "Foo_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#]]);
    let long = create(&named(&"a".repeat(254)), &World::new()).expect_err("too long");
    assert!(long.message.ends_with("a\": must be no more than 253 characters"), "{}", long.message);
    check("{apiVersion: v1, kind: ConfigMap, metadata: {}}", expect!["metadata.name: Required value: name or generateName is required"]);
    check("{apiVersion: v1, kind: Namespace, metadata: {name: a.b}}", expect![[r#"metadata.name: Invalid value: "a.b": must not contain dots"#]]);
    check("{apiVersion: v1, kind: Namespace, metadata: {name: team, namespace: x}}", expect!["metadata.namespace: Forbidden: not allowed on this type"]);
    check(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: A}}",
        expect![[r#"metadata.namespace: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"#]],
    );
    check(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, generateName: A-}}",
        expect![[r#"metadata.generateName: Invalid value: "A-": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#]],
    );
}

#[test]
fn labels_annotations_owners_and_finalizers() {
    let with = |meta: &str| format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: c, {meta}}}}}");
    check(
        &with("labels: {'a/b/c': x, ok: 'b d', '/n': '', 'UP.example/n': ''}"),
        expect![[r#"
            metadata.labels: Invalid value: "/n": prefix part must be non-empty
            metadata.labels: Invalid value: "UP.example/n": prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            metadata.labels: Invalid value: "a/b/c": a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')
            metadata.labels: Invalid value: "b d": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"#]],
    );
    check(&with(&format!("annotations: {{a: '{}'}}", "x".repeat(256 * 1024))), expect!["metadata.annotations: Too long: may not be more than 262144 bytes"]);
    check(
        &with("ownerReferences: [{kind: A, name: a, uid: u, controller: true}, {apiVersion: v1, kind: B, name: b, uid: v, controller: true}]"),
        expect![[r#"
            metadata.ownerReferences[0].apiVersion: Invalid value: "": version must not be empty
            metadata.ownerReferences: Invalid value: [{"controller":true,"kind":"A","name":"a","uid":"u"},{"apiVersion":"v1","controller":true,"kind":"B","name":"b","uid":"v"}]: Only one reference can have Controller set to true. Found "true" in references for a and b"#]],
    );
    check(
        &with("finalizers: [mine, orphan, foregroundDeletion, a.b/c]"),
        expect![[r#"
            metadata.finalizers: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified
            metadata.finalizers: Invalid value: ["mine","orphan","foregroundDeletion","a.b/c"]: finalizer orphan and foregroundDeletion cannot be both set"#]],
    );
}

#[test]
fn container_names_images_and_ports() {
    check("{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {}}", expect!["spec.containers: Required value"]);
    check(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{}, {name: A_, image: i}, {name: b, image: i}, {name: b, image: ' i'}]}}",
        expect![[r#"
            spec.containers[0].name: Required value
            spec.containers[0].image: Required value
            spec.containers[1].name: Invalid value: "A_": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.containers[3].image: Invalid value: " i": must not have leading or trailing whitespace
            spec.containers[3].name: Duplicate value: "b""#]],
    );
    check_container(
        "ports: [{containerPort: 70000, name: web}, {name: web, containerPort: 80, protocol: tcp}, {hostPort: -1}, {containerPort: 1, name: 'no--letter-at-all-'}]",
        expect![[r#"
            spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
            spec.containers[0].ports[1].name: Duplicate value: "web"
            spec.containers[0].ports[1].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"
            spec.containers[0].ports[2].containerPort: Required value
            spec.containers[0].ports[2].hostPort: Invalid value: -1: must be between 1 and 65535, inclusive
            spec.containers[0].ports[3].name: Invalid value: "no--letter-at-all-": must be no more than 15 characters
            spec.containers[0].ports[3].name: Invalid value: "no--letter-at-all-": must not contain consecutive hyphens
            spec.containers[0].ports[3].name: Invalid value: "no--letter-at-all-": must not begin or end with a hyphen"#]],
    );
    check_container(
        "ports: [{containerPort: 1, hostPort: 5}, {containerPort: 2, hostPort: 5}]",
        expect![[r#"spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//5""#]],
    );
    check(&pod("hostNetwork: true", "ports: [{containerPort: 80, hostPort: 81}]"), expect!["spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"]);
    check_container("imagePullPolicy: Sometimes", expect![[r#"spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never""#]]);
}

#[test]
fn environment() {
    check_container(
        "env: [{value: x}, {name: 'a=b'}, {name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: B, valueFrom: {}}]",
        expect![[r#"
            spec.containers[0].env[0].name: Required value
            spec.containers[0].env[1].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
            spec.containers[0].env[2].valueFrom: Invalid value: "": may not be specified when `value` is not empty
            spec.containers[0].env[3].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"#]],
    );
    check_container(
        "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.labels}}}, {name: B, valueFrom: {fieldRef: {fieldPath: spec.volumes}}}, {name: C, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}, {name: D, valueFrom: {secretKeyRef: {name: s}}}, {name: E, valueFrom: {resourceFieldRef: {resource: limits.gpu}}}]",
        expect![[r#"
            spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "metadata.labels": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"
            spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Invalid value: "spec.volumes": error converting fieldPath: field label not supported: spec.volumes
            spec.containers[0].env[3].valueFrom.secretKeyRef.key: Required value
            spec.containers[0].env[4].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.gpu": supported values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory""#]],
    );
    check_container(
        "envFrom: [{}, {configMapRef: {}}, {secretRef: {name: s}, configMapRef: {name: c}}]",
        expect![[r#"
            spec.containers[0].envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`
            spec.containers[0].envFrom[1].configMapRef.name: Required value
            spec.containers[0].envFrom: Invalid value: "": may not have more than one field specified at a time"#]],
    );
}

#[test]
fn resources() {
    check_container(
        "resources: {requests: {cpu: '2', memory: -1Mi, foo: 1}, limits: {cpu: '1', 'example.com/gpu': 500m}}",
        expect![[r#"
            spec.containers[0].resources.limits[example.com/gpu]: Invalid value: "500m": must be an integer
            spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
            spec.containers[0].resources.requests[example.com/gpu]: Invalid value: "500m": must be an integer
            spec.containers[0].resources.requests[foo]: Invalid value: "foo": must be a standard resource type or fully qualified
            spec.containers[0].resources.requests[foo]: Invalid value: "foo": must be a standard resource for containers
            spec.containers[0].resources.requests[memory]: Invalid value: "-1Mi": must be greater than or equal to 0"#]],
    );
    check_container("resources: {requests: {cpu: '2'}, limits: {cpu: '1'}}", expect![[r#"spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#]]);
    check_container(
        "resources: {requests: {'example.com/gpu': '1'}, limits: {'example.com/gpu': '2', hugepages-2Mi: 4Mi}}",
        expect![[r#"
            spec.containers[0].resources.requests: Invalid value: "1": must be equal to example.com/gpu limit of 2
            spec.containers[0].resources: Forbidden: HugePages require cpu or memory"#]],
    );
}

#[test]
fn volumes_and_mounts() {
    check(
        &pod(
            "volumes: [{name: data, emptyDir: {}, hostPath: {path: /x}}, {name: two, nfs: {path: rel}}, {configMap: {name: c}}, {name: four, hostPath: {path: /a/../b, type: Dir}}]",
            "volumeMounts: [{name: data, mountPath: /d}, {name: gone, mountPath: /d}, {name: ''}]",
        ),
        expect![[r#"
            spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type
            spec.volumes[1].nfs.server: Required value
            spec.volumes[1].nfs.path: Invalid value: "rel": must be an absolute path
            spec.volumes[2].name: Required value
            spec.volumes[3].hostPath.path: Invalid value: "/a/../b": must not contain '..'
            spec.volumes[3].hostPath.type: Unsupported value: "Dir": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"
            spec.containers[0].volumeMounts[0].name: Not found: "data"
            spec.containers[0].volumeMounts[1].name: Not found: "gone"
            spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/d": must be unique
            spec.containers[0].volumeMounts[2].name: Required value
            spec.containers[0].volumeMounts[2].name: Not found: ""
            spec.containers[0].volumeMounts[2].mountPath: Required value"#]],
    );
    check_pod(
        "volumes: [{name: a, secret: {defaultMode: 1000, items: [{key: k, path: ../x}]}}, {name: a, persistentVolumeClaim: {}}, {name: p, projected: {sources: [{serviceAccountToken: {expirationSeconds: 10, path: t}}, {downwardAPI: {items: [{path: f}]}}]}}]",
        expect![[r#"
            spec.volumes[0].secret.secretName: Required value
            spec.volumes[0].secret.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive
            spec.volumes[0].secret.items[0].path: Invalid value: "../x": must not contain '..'
            spec.volumes[1].persistentVolumeClaim.claimName: Required value
            spec.volumes[2].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes
            spec.volumes[2].projected.sources[1].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required"#]],
    );
    check(&pod("volumes: [{name: v}]", "volumeMounts: [{name: v, mountPath: /a, subPath: /b}]"), expect![[r#"spec.containers[0].volumeMounts.subPath: Invalid value: "/b": must be a relative path"#]]);
    check(&pod("volumes: [{name: v}]", "volumeDevices: [{name: v, devicePath: /dev/x}]"), expect![[r#"spec.containers[0].volumeDevices[0].name: Invalid value: "v": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"#]]);
}

#[test]
fn probes_and_hooks() {
    check_container(
        "readinessProbe: {periodSeconds: -1}\nlivenessProbe: {exec: {command: [a]}, tcpSocket: {port: 0}, successThreshold: 2}\nstartupProbe: {httpGet: {port: '', scheme: FTP}}\nlifecycle: {preStop: {sleep: {seconds: 31}}, postStart: {}}",
        expect![[r#"
            spec.containers[0].lifecycle.postStart: Required value: must specify a handler type
            spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)
            spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type
            spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
            spec.containers[0].readinessProbe: Required value: must specify a handler type
            spec.containers[0].readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0
            spec.containers[0].startupProbe.httpGet.port: Invalid value: "": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
            spec.containers[0].startupProbe.httpGet.port: Invalid value: "": must contain at least one letter (a-z)
            spec.containers[0].startupProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS""#]],
    );
    check_pod(
        "initContainers: [{name: i, image: x, readinessProbe: {tcpSocket: {port: 1}}}, {name: c, image: x}]",
        expect![[r#"
            spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
            spec.initContainers[1].name: Duplicate value: "c""#]],
    );
}

#[test]
fn pod_fields() {
    check_pod(
        "restartPolicy: Maybe\ndnsPolicy: None\nactiveDeadlineSeconds: 0\nhostname: a.b\nsubdomain: A\nnodeName: '-'\nnodeSelector: {'a b': c}\nserviceAccountName: default",
        expect![[r#"
            spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never"
            spec.nodeSelector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None
            spec.nodeName: Invalid value: "-": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
            spec.hostname: Invalid value: "a.b": must not contain dots
            spec.subdomain: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"#]],
    );
    check(
        &pod("securityContext: {runAsUser: -1, fsGroupChangePolicy: Never, seccompProfile: {type: Localhost}, sysctls: [{name: 'Kernel'}]}", "securityContext: {privileged: true, allowPrivilegeEscalation: false}"),
        expect![[r#"
            spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"privileged":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true
            spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 4294967295, inclusive
            spec.securityContext.sysctls[0].name: Invalid value: "Kernel": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$
            spec.securityContext.fsGroupChangePolicy: Unsupported value: "Never": supported values: "Always", "OnRootMismatch"
            spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost"#]],
    );
}

#[test]
fn scheduling() {
    check_pod(
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In}, {key: b, operator: Like}]}]}}, podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchExpressions: [{key: app, operator: In}]}}], preferredDuringSchedulingIgnoredDuringExecution: [{weight: 0, podAffinityTerm: {topologyKey: kubernetes.io/hostname}}]}}",
        expect![[r#"
            spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
            spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[1].operator: Invalid value: "Like": not a valid selector operator
            spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
            spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty
            spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must be non-empty
            spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100"#]],
    );
    check_pod(
        "tolerations: [{operator: Equal}, {key: a, operator: Exists, value: b}, {key: a, effect: NoSchedule, tolerationSeconds: 1}, {key: a, effect: Never}]\ntopologySpreadConstraints: [{maxSkew: 0, topologyKey: z, whenUnsatisfiable: Cry}]",
        expect![[r#"
            spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero
            spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "Cry": supported values: "DoNotSchedule", "ScheduleAnyway"
            spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys"
            spec.tolerations[1].operator: Invalid value: "b": value must be empty when `operator` is 'Exists'
            spec.tolerations[2].effect: Invalid value: "NoSchedule": effect must be 'NoExecute' when `tolerationSeconds` is set
            spec.tolerations[3].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#]],
    );
}

#[test]
fn stateful_sets() {
    check(&set("podManagementPolicy: Random\nreplicas: -1\nminReadySeconds: -1\nordinals: {start: -1}\nupdateStrategy: {type: Recreate}"), expect![[r#"
        spec.podManagementPolicy: Invalid value: "Random": must be 'OrderedReady' or 'Parallel'
        spec.updateStrategy: Invalid value: {"type":"Recreate"}: must be 'RollingUpdate' or 'OnDelete'
        spec.replicas: Invalid value: -1: must be greater than or equal to 0
        spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0
        spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0"#]]);
    check(&set("updateStrategy: {type: OnDelete, rollingUpdate: {partition: 1}}\npersistentVolumeClaimRetentionPolicy: {whenScaled: Keep}"), expect![[r#"
        spec.updateStrategy.rollingUpdate: Invalid value: {"partition":1}: only allowed for updateStrategy 'RollingUpdate'
        spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: "Keep": supported values: "Retain", "Delete""#]]);
    check(&set("updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: -1, maxUnavailable: 0}}"), expect![[r#"
        spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0
        spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0"#]]);
    check(&set("updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 101%}}"), expect![[r#"spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%"#]]);
    check(&set("selector: {}"), expect!["spec.selector: Invalid value: {}: empty selector is invalid for statefulset"]);
    check(&set("selector: {matchLabels: {app: other}}"), expect![[r#"spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`"#]]);
    check(
        &set("template:\n  metadata: {labels: {app: web}}\n  spec: {restartPolicy: Never, activeDeadlineSeconds: 5, containers: [{name: c, image: i, volumeMounts: [{name: www, mountPath: /w}]}]}\nvolumeClaimTemplates:\n- metadata: {name: www}\n  spec: {}"),
        expect![[r#"
            spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
            spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in StatefulSet is not Supported
            spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required
            spec.volumeClaimTemplates[0].spec.resources[storage]: Required value"#]],
    );
    check(
        &set("template:\n  metadata: {labels: {app: web}}\n  spec: {containers: [{name: c, image: i, volumeMounts: [{name: www, mountPath: /w}]}]}"),
        expect![[r#"spec.template.spec.containers[0].volumeMounts[0].name: Not found: "www""#]],
    );
}

#[test]
fn services() {
    check_service("selector: {app: web}", expect!["spec.ports: Required value"]);
    check_service("clusterIP: None", expect!["created"]);
    check_service(
        "type: Fancy\nports: [{port: 0}, {port: 80, name: a, protocol: ICMP, targetPort: 'x-'}]\nsessionAffinity: Sticky",
        expect![[r#"
            spec.ports[0].name: Required value
            spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.ports[1].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"
            spec.ports[1].targetPort: Invalid value: "x-": must not begin or end with a hyphen
            spec.sessionAffinity: Unsupported value: "Sticky": supported values: "ClientIP", "None"
            spec.type: Unsupported value: "Fancy": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort""#]],
    );
    check_service("type: NodePort\nclusterIP: None\nports: [{port: 80}]", expect![[r#"spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services"#]]);
    check_service("ports: [{port: 80, nodePort: 30000}]", expect!["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]);
    check_service("ports: [{port: 80, name: a}, {port: 80, name: b}]", expect![[r#"spec.ports[1]: Duplicate value: {"port":80,"protocol":"TCP"}"#]]);
    check_service("type: ExternalName", expect!["spec.externalName: Required value"]);
    check_service("clusterIP: abc\nports: [{port: 80}]", expect![[r#"spec.clusterIPs[0]: Invalid value: "abc": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#]]);
}

#[test]
fn claims_volumes_and_classes() {
    check("{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: c}, spec: {accessModes: [RWO, ReadWriteOncePod], resources: {requests: {storage: '0'}}, volumeMode: Tape}}", expect![[r#"
        spec.accessModes: Unsupported value: "RWO": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"
        spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes
        spec.resources[storage]: Invalid value: "0": must be greater than zero
        spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem""#]]);
    check("{apiVersion: v1, kind: PersistentVolume, metadata: {name: v}, spec: {accessModes: [ReadWriteOnce], local: {path: ''}, hostPath: {path: /a}}}", expect![[r#"
        spec.capacity: Required value
        spec.capacity: Unsupported value: null: supported values: "storage"
        spec.local: Forbidden: may not specify more than 1 volume type"#]]);
    check("{apiVersion: v1, kind: PersistentVolume, metadata: {name: v}, spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}}}", expect!["spec: Required value: must specify a volume type"]);
    check("{apiVersion: v1, kind: PersistentVolume, metadata: {name: v}, spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, local: {path: /a}, persistentVolumeReclaimPolicy: Burn}}", expect![[r#"
        spec.persistentVolumeReclaimPolicy: Unsupported value: "Burn": supported values: "Delete", "Recycle", "Retain"
        spec.nodeAffinity: Required value: Local volume requires node affinity"#]]);
    check("{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: s}, volumeBindingMode: Later}", expect![[r#"
        provisioner: Required value
        volumeBindingMode: Unsupported value: "Later": supported values: "Immediate", "WaitForFirstConsumer""#]]);
}

#[test]
fn config_maps_and_secrets() {
    check("{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {'a b': x, '..': x, k: z}, binaryData: {k: eA==}}", expect![[r#"
        data[..]: Invalid value: "..": must not be '..'
        data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
        data[k]: Invalid value: "k": duplicate of key present in binaryData"#]]);
    check(&format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: c}}, data: {{k: '{}'}}}}", "x".repeat(1024 * 1024 + 1)), expect![": Too long: may not be more than 1048576 bytes"]);
    check("{apiVersion: v1, kind: Secret, metadata: {name: s}, type: kubernetes.io/tls, data: {tls.crt: eA==}}", expect!["data[tls.key]: Required value"]);
    check("{apiVersion: v1, kind: Secret, metadata: {name: s}, type: kubernetes.io/dockerconfigjson, stringData: {.dockerconfigjson: nope}}", expect![[r#"data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": expected ident at line 1 column 2"#]]);
}

#[test]
fn the_smaller_kinds() {
    check("{apiVersion: v1, kind: Endpoints, metadata: {name: e}, subsets: [{}, {addresses: [{ip: 127.0.0.1}, {ip: x}], ports: [{port: 0}]}]}", expect![[r#"
        subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`
        subsets[1].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
        subsets[1].addresses[1].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
        subsets[1].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"#]]);
    check("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e}, endpoints: [{addresses: []}]}", expect![[r#"
        addressType: Required value
        endpoints[0].addresses: Required value: must contain at least 1 address"#]]);
    check("{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: l}, spec: {leaseDurationSeconds: 0, leaseTransitions: -1}}", expect![[r#"
        spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
        spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"#]]);
    check("{apiVersion: v1, kind: Event, metadata: {name: e}, involvedObject: {namespace: other}}", expect![[r#"involvedObject.namespace: Invalid value: "other": does not match event.namespace"#]]);
    check("{apiVersion: apps/v1, kind: ControllerRevision, metadata: {name: r}, revision: -1}", expect![[r#"
        data: Required value: data is mandatory
        revision: Invalid value: -1: must be greater than or equal to 0"#]]);
    check("{apiVersion: v1, kind: Node, metadata: {name: node-1}, spec: {taints: [{key: a, effect: NoSchedule}, {key: a, effect: NoSchedule}, {key: b}]}}", expect![[r#"
        metadata.taints[1]: Duplicate value: {"effect":"NoSchedule","key":"a"}: taints must be unique by key and effect pair
        metadata.taints[2].effect: Required value"#]]);
}

/// A workload that is right but for the given fields of its spec.
fn check_workload(kind: &str, spec: &str, expected: Expect) {
    let (group, restart) = if kind == "Deployment" || kind == "ReplicaSet" { ("apps", "Always") } else { ("batch", "Never") };
    let selector = if group == "apps" && !spec.contains("selector") { "selector: {matchLabels: {app: web}}, " } else { "" };
    let template = if spec.contains("template:") { "" } else { &format!("template: {{metadata: {{labels: {{app: web}}}}, spec: {{restartPolicy: {restart}, containers: [{{name: c, image: nginx}}]}}}}, ") };
    check(&format!("{{apiVersion: {group}/v1, kind: {kind}, metadata: {{name: w, uid: u}}, spec: {{{selector}{template}{spec}}}}}"), expected);
}

#[test]
fn deployments_and_replica_sets() {
    check_workload("Deployment", "replicas: -1, minReadySeconds: -1, revisionHistoryLimit: -1", expect![[r#"
        spec.replicas: Invalid value: -1: must be greater than or equal to 0
        spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0
        spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0"#]]);
    check_workload("Deployment", "minReadySeconds: 10, progressDeadlineSeconds: 10", expect!["spec.progressDeadlineSeconds: Invalid value: 10: must be greater than minReadySeconds"]);
    check_workload("Deployment", "strategy: {type: Canary}", expect![[r#"spec.strategy.type: Unsupported value: "Canary": supported values: "Recreate", "RollingUpdate""#]]);
    check_workload("Deployment", "strategy: {type: Recreate, rollingUpdate: {maxSurge: 1}}", expect!["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"]);
    check_workload("Deployment", "strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}", expect!["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"]);
    check_workload("Deployment", "strategy: {rollingUpdate: {maxSurge: '-1%', maxUnavailable: 101%}}", expect![[r#"
        spec.strategy.rollingUpdate.maxSurge: Invalid value: "-1%": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')
        spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%"#]]);
    check_workload("Deployment", "selector: {}", expect!["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]);
    check_workload("Deployment", "selector: {matchLabels: {app: other}}", expect![[r#"spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`"#]]);
    check_workload("ReplicaSet", "selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {restartPolicy: Never, activeDeadlineSeconds: 1, containers: [{name: c, image: nginx}]}}", expect![[r#"
        spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
        spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported"#]]);
}

#[test]
fn jobs() {
    check_workload("Job", "completions: -1, parallelism: -1, backoffLimit: -1, activeDeadlineSeconds: -1, ttlSecondsAfterFinished: -1", expect![[r#"
        spec.parallelism: Invalid value: -1: must be greater than or equal to 0
        spec.completions: Invalid value: -1: must be greater than or equal to 0
        spec.activeDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0
        spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0
        spec.ttlSecondsAfterFinished: Invalid value: -1: must be greater than or equal to 0"#]]);
    check_workload("Job", "template: {spec: {containers: [{name: c, image: nginx}]}}", expect![[r#"spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#]]);
    check_workload("Job", "completionMode: Random", expect![[r#"spec.completionMode: Unsupported value: "Random": supported values: "NonIndexed", "Indexed""#]]);
    check_workload("Job", "completionMode: Indexed, parallelism: 1", expect!["spec.completions: Required value: when completion mode is Indexed"]);
    check_workload("Job", "backoffLimitPerIndex: 1, maxFailedIndexes: 1", expect![[r#"
        spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode
        spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode"#]]);
    check_workload("Job", "podFailurePolicy: {rules: [{action: FailJob}, {action: Panic, onExitCodes: {operator: In, values: [0, 3, 2, 2], containerName: x}}, {action: FailIndex, onPodConditions: [{type: 'a b', status: Maybe}]}]}", expect![[r#"
        spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required
        spec.podFailurePolicy.rules[1].action: Unsupported value: "Panic": supported values: "Count", "FailIndex", "FailJob", "Ignore"
        spec.podFailurePolicy.rules[1].onExitCodes.containerName: Invalid value: "x": must be one of the container or initContainer names in the pod template
        spec.podFailurePolicy.rules[1].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator
        spec.podFailurePolicy.rules[1].onExitCodes.values[3]: Duplicate value: 2
        spec.podFailurePolicy.rules[1].onExitCodes.values: Invalid value: [0,3,2,2]: must be ordered
        spec.podFailurePolicy.rules[2].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set
        spec.podFailurePolicy.rules[2].onPodConditions[0].type: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        spec.podFailurePolicy.rules[2].onPodConditions[0].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown""#]]);
    check_workload("Job", "podFailurePolicy: {rules: [{action: Ignore, onPodConditions: [{type: DisruptionTarget}]}]}, template: {spec: {restartPolicy: OnFailure, containers: [{name: c, image: nginx}]}}", expect![[r#"spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified"#]]);
    check_workload("Job", "completionMode: Indexed, completions: 3, successPolicy: {rules: [{}, {succeededIndexes: '0,5'}, {succeededCount: 4}, {succeededIndexes: 0-1, succeededCount: 3}]}", expect![[r#"
        spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified
        spec.successPolicy.rules[1].succeededIndexes: Invalid value: "0,5": error parsing succeededIndexes: too large index: "5"
        spec.successPolicy.rules[2].succeededCount: Invalid value: 4: must be less than or equal to 3 (the number of specified completions)
        spec.successPolicy.rules[3].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)"#]]);
    check_workload("Job", "selector: {matchLabels: {app: web}}", expect![[r#"spec.selector: Invalid value: {"matchLabels":{"app":"web","batch.kubernetes.io/controller-uid":"u"}}: `selector` not auto-generated"#]]);
    check_workload("Job", "template: {metadata: {labels: {job-name: other}}, spec: {restartPolicy: Never, containers: [{name: c, image: nginx}]}}", expect![[r#"spec.template.metadata.labels[job-name]: Invalid value: {"batch.kubernetes.io/controller-uid":"u","batch.kubernetes.io/job-name":"w","controller-uid":"u","job-name":"other"}: must be 'w'"#]]);
}

#[test]
fn cron_jobs() {
    let template = "jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: nginx}]}}}}";
    let with = |spec: &str| format!("{{apiVersion: batch/v1, kind: CronJob, metadata: {{name: c}}, spec: {{{template}, {spec}}}}}");
    check(&with("schedule: ''"), expect!["spec.schedule: Required value"]);
    check(&with("schedule: nightly, concurrencyPolicy: Maybe, timeZone: Mars/Base, startingDeadlineSeconds: -1"), expect![[r#"
        spec.schedule: Invalid value: "nightly": expected exactly 5 fields, found 1: [nightly]
        spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0
        spec.timeZone: Invalid value: "Mars/Base": unknown time zone Mars/Base
        spec.concurrencyPolicy: Unsupported value: "Maybe": supported values: "Allow", "Forbid", "Replace""#]]);
    check(&with("schedule: 'TZ=UTC 0 0 * * *'"), expect![[r#"spec.schedule: Invalid value: "TZ=UTC 0 0 * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead"#]]);
    check("{apiVersion: batch/v1, kind: CronJob, metadata: {name: c}, spec: {schedule: '@daily', jobTemplate: {spec: {backoffLimit: -1, template: {spec: {containers: [{name: c, image: nginx}]}}}}}}", expect![[r#"
        spec.jobTemplate.spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0
        spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#]]);
}
