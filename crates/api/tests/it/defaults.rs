//! What the shortest manifest of each kind becomes.

use crate::world::{World, create};
use expect_test::{Expect, expect};
use serde_json::Value;

fn check(manifest: &str, expected: Expect) {
    let mut made = create(manifest, &World::new()).expect("created");
    let random = made.pointer("/spec/volumes").and_then(|v| Some(v.as_array()?.last()?["name"].as_str()?.to_owned())).filter(|n| n.starts_with("kube-api-access-"));
    for part in ["apiVersion", "kind"] {
        made.as_object_mut().expect("an object").remove(part);
    }
    let mut lines = Vec::new();
    leaves(&made, String::new(), &mut lines);
    let text = lines.join("\n");
    expected.assert_eq(&random.map_or_else(|| text.clone(), |name| text.replace(&name, "kube-api-access-xxxxx")));
}

/// One line for each value: `spec.containers[0].name: "c"`.
fn leaves(value: &Value, path: String, lines: &mut Vec<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                leaves(value, if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, lines);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for (i, value) in list.iter().enumerate() {
                leaves(value, format!("{path}[{i}]"), lines);
            }
        }
        other => lines.push(format!("{path}: {other}")),
    }
}

#[test]
fn a_pod() {
    check(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: nginx, ports: [{containerPort: 80}], env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}], readinessProbe: {httpGet: {port: 80}}, livenessProbe: {grpc: {port: 1}}, resources: {limits: {cpu: '1'}}}], volumes: [{name: e}, {name: c, configMap: {name: m}}, {name: h, hostPath: {path: /x}}]}}",
        expect![[r#"
            metadata.name: "p"
            metadata.namespace: "default"
            spec.containers[0].env[0].name: "A"
            spec.containers[0].env[0].valueFrom.fieldRef.apiVersion: "v1"
            spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: "metadata.name"
            spec.containers[0].image: "nginx"
            spec.containers[0].imagePullPolicy: "Always"
            spec.containers[0].livenessProbe.failureThreshold: 3
            spec.containers[0].livenessProbe.grpc.port: 1
            spec.containers[0].livenessProbe.grpc.service: ""
            spec.containers[0].livenessProbe.periodSeconds: 10
            spec.containers[0].livenessProbe.successThreshold: 1
            spec.containers[0].livenessProbe.timeoutSeconds: 1
            spec.containers[0].name: "c"
            spec.containers[0].ports[0].containerPort: 80
            spec.containers[0].ports[0].protocol: "TCP"
            spec.containers[0].readinessProbe.failureThreshold: 3
            spec.containers[0].readinessProbe.httpGet.path: "/"
            spec.containers[0].readinessProbe.httpGet.port: 80
            spec.containers[0].readinessProbe.httpGet.scheme: "HTTP"
            spec.containers[0].readinessProbe.periodSeconds: 10
            spec.containers[0].readinessProbe.successThreshold: 1
            spec.containers[0].readinessProbe.timeoutSeconds: 1
            spec.containers[0].resources.limits.cpu: "1"
            spec.containers[0].resources.requests.cpu: "1"
            spec.containers[0].terminationMessagePath: "/dev/termination-log"
            spec.containers[0].terminationMessagePolicy: "File"
            spec.containers[0].volumeMounts[0].mountPath: "/var/run/secrets/kubernetes.io/serviceaccount"
            spec.containers[0].volumeMounts[0].name: "kube-api-access-xxxxx"
            spec.containers[0].volumeMounts[0].readOnly: true
            spec.dnsPolicy: "ClusterFirst"
            spec.enableServiceLinks: true
            spec.preemptionPolicy: "PreemptLowerPriority"
            spec.priority: 0
            spec.restartPolicy: "Always"
            spec.schedulerName: "default-scheduler"
            spec.securityContext: {}
            spec.serviceAccount: "default"
            spec.serviceAccountName: "default"
            spec.terminationGracePeriodSeconds: 30
            spec.tolerations[0].effect: "NoExecute"
            spec.tolerations[0].key: "node.kubernetes.io/not-ready"
            spec.tolerations[0].operator: "Exists"
            spec.tolerations[0].tolerationSeconds: 300
            spec.tolerations[1].effect: "NoExecute"
            spec.tolerations[1].key: "node.kubernetes.io/unreachable"
            spec.tolerations[1].operator: "Exists"
            spec.tolerations[1].tolerationSeconds: 300
            spec.volumes[0].emptyDir: {}
            spec.volumes[0].name: "e"
            spec.volumes[1].configMap.defaultMode: 420
            spec.volumes[1].configMap.name: "m"
            spec.volumes[1].name: "c"
            spec.volumes[2].hostPath.path: "/x"
            spec.volumes[2].hostPath.type: ""
            spec.volumes[2].name: "h"
            spec.volumes[3].name: "kube-api-access-xxxxx"
            spec.volumes[3].projected.defaultMode: 420
            spec.volumes[3].projected.sources[0].serviceAccountToken.expirationSeconds: 3607
            spec.volumes[3].projected.sources[0].serviceAccountToken.path: "token"
            spec.volumes[3].projected.sources[1].configMap.items[0].key: "ca.crt"
            spec.volumes[3].projected.sources[1].configMap.items[0].path: "ca.crt"
            spec.volumes[3].projected.sources[1].configMap.name: "kube-root-ca.crt"
            spec.volumes[3].projected.sources[2].downwardAPI.items[0].fieldRef.apiVersion: "v1"
            spec.volumes[3].projected.sources[2].downwardAPI.items[0].fieldRef.fieldPath: "metadata.namespace"
            spec.volumes[3].projected.sources[2].downwardAPI.items[0].path: "namespace"
            status.phase: "Pending"
            status.qosClass: "Burstable""#]],
    );
}

#[test]
fn a_stateful_set() {
    check(
        "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: web}, spec: {serviceName: web, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: 'nginx:1'}]}}, volumeClaimTemplates: [{metadata: {name: www}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]}}",
        expect![[r#"
            metadata.name: "web"
            metadata.namespace: "default"
            spec.persistentVolumeClaimRetentionPolicy.whenDeleted: "Retain"
            spec.persistentVolumeClaimRetentionPolicy.whenScaled: "Retain"
            spec.podManagementPolicy: "OrderedReady"
            spec.replicas: 1
            spec.revisionHistoryLimit: 10
            spec.selector.matchLabels.app: "web"
            spec.serviceName: "web"
            spec.template.metadata.labels.app: "web"
            spec.template.spec.containers[0].image: "nginx:1"
            spec.template.spec.containers[0].imagePullPolicy: "IfNotPresent"
            spec.template.spec.containers[0].name: "c"
            spec.template.spec.containers[0].resources: {}
            spec.template.spec.containers[0].terminationMessagePath: "/dev/termination-log"
            spec.template.spec.containers[0].terminationMessagePolicy: "File"
            spec.template.spec.dnsPolicy: "ClusterFirst"
            spec.template.spec.restartPolicy: "Always"
            spec.template.spec.schedulerName: "default-scheduler"
            spec.template.spec.securityContext: {}
            spec.template.spec.terminationGracePeriodSeconds: 30
            spec.updateStrategy.rollingUpdate.partition: 0
            spec.updateStrategy.type: "RollingUpdate"
            spec.volumeClaimTemplates[0].apiVersion: "v1"
            spec.volumeClaimTemplates[0].kind: "PersistentVolumeClaim"
            spec.volumeClaimTemplates[0].metadata.name: "www"
            spec.volumeClaimTemplates[0].spec.accessModes[0]: "ReadWriteOnce"
            spec.volumeClaimTemplates[0].spec.resources.requests.storage: "1Gi"
            spec.volumeClaimTemplates[0].spec.volumeMode: "Filesystem"
            spec.volumeClaimTemplates[0].status.phase: "Pending"
            status.availableReplicas: 0
            status.replicas: 0"#]],
    );
}

#[test]
fn a_deployment_and_a_replica_set() {
    check("{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: 'nginx:1'}]}}}}", expect![[r#"
        metadata.name: "web"
        metadata.namespace: "default"
        spec.progressDeadlineSeconds: 600
        spec.replicas: 1
        spec.revisionHistoryLimit: 10
        spec.selector.matchLabels.app: "web"
        spec.strategy.rollingUpdate.maxSurge: "25%"
        spec.strategy.rollingUpdate.maxUnavailable: "25%"
        spec.strategy.type: "RollingUpdate"
        spec.template.metadata.labels.app: "web"
        spec.template.spec.containers[0].image: "nginx:1"
        spec.template.spec.containers[0].imagePullPolicy: "IfNotPresent"
        spec.template.spec.containers[0].name: "c"
        spec.template.spec.containers[0].resources: {}
        spec.template.spec.containers[0].terminationMessagePath: "/dev/termination-log"
        spec.template.spec.containers[0].terminationMessagePolicy: "File"
        spec.template.spec.dnsPolicy: "ClusterFirst"
        spec.template.spec.restartPolicy: "Always"
        spec.template.spec.schedulerName: "default-scheduler"
        spec.template.spec.securityContext: {}
        spec.template.spec.terminationGracePeriodSeconds: 30
        status: {}"#]]);
    check("{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web}, spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: 'nginx:1'}]}}}}", expect![[r#"
        metadata.name: "web"
        metadata.namespace: "default"
        spec.replicas: 1
        spec.selector.matchLabels.app: "web"
        spec.template.metadata.labels.app: "web"
        spec.template.spec.containers[0].image: "nginx:1"
        spec.template.spec.containers[0].imagePullPolicy: "IfNotPresent"
        spec.template.spec.containers[0].name: "c"
        spec.template.spec.containers[0].resources: {}
        spec.template.spec.containers[0].terminationMessagePath: "/dev/termination-log"
        spec.template.spec.containers[0].terminationMessagePolicy: "File"
        spec.template.spec.dnsPolicy: "ClusterFirst"
        spec.template.spec.restartPolicy: "Always"
        spec.template.spec.schedulerName: "default-scheduler"
        spec.template.spec.securityContext: {}
        spec.template.spec.terminationGracePeriodSeconds: 30
        status.replicas: 0"#]]);
}

#[test]
fn a_job_and_a_cron_job() {
    check("{apiVersion: batch/v1, kind: Job, metadata: {name: j, uid: u}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'nginx:1'}]}}}}", expect![[r#"
        metadata.labels.batch.kubernetes.io/controller-uid: "u"
        metadata.labels.batch.kubernetes.io/job-name: "j"
        metadata.labels.controller-uid: "u"
        metadata.labels.job-name: "j"
        metadata.name: "j"
        metadata.namespace: "default"
        metadata.uid: "u"
        spec.backoffLimit: 6
        spec.completionMode: "NonIndexed"
        spec.completions: 1
        spec.manualSelector: false
        spec.parallelism: 1
        spec.podReplacementPolicy: "TerminatingOrFailed"
        spec.selector.matchLabels.batch.kubernetes.io/controller-uid: "u"
        spec.suspend: false
        spec.template.metadata.labels.batch.kubernetes.io/controller-uid: "u"
        spec.template.metadata.labels.batch.kubernetes.io/job-name: "j"
        spec.template.metadata.labels.controller-uid: "u"
        spec.template.metadata.labels.job-name: "j"
        spec.template.spec.containers[0].image: "nginx:1"
        spec.template.spec.containers[0].imagePullPolicy: "IfNotPresent"
        spec.template.spec.containers[0].name: "c"
        spec.template.spec.containers[0].resources: {}
        spec.template.spec.containers[0].terminationMessagePath: "/dev/termination-log"
        spec.template.spec.containers[0].terminationMessagePolicy: "File"
        spec.template.spec.dnsPolicy: "ClusterFirst"
        spec.template.spec.restartPolicy: "Never"
        spec.template.spec.schedulerName: "default-scheduler"
        spec.template.spec.securityContext: {}
        spec.template.spec.terminationGracePeriodSeconds: 30
        status: {}"#]]);
    check("{apiVersion: batch/v1, kind: Job, metadata: {name: j, uid: u, labels: {own: 'yes'}}, spec: {parallelism: 2, completionMode: Indexed, completions: 4, backoffLimitPerIndex: 1, podFailurePolicy: {rules: [{action: Ignore, onExitCodes: {operator: In, values: [1]}}]}, template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'nginx:1'}]}}}}", expect![[r#"
        metadata.labels.own: "yes"
        metadata.name: "j"
        metadata.namespace: "default"
        metadata.uid: "u"
        spec.backoffLimit: 2147483647
        spec.backoffLimitPerIndex: 1
        spec.completionMode: "Indexed"
        spec.completions: 4
        spec.manualSelector: false
        spec.parallelism: 2
        spec.podFailurePolicy.rules[0].action: "Ignore"
        spec.podFailurePolicy.rules[0].onExitCodes.operator: "In"
        spec.podFailurePolicy.rules[0].onExitCodes.values[0]: 1
        spec.podReplacementPolicy: "Failed"
        spec.selector.matchLabels.batch.kubernetes.io/controller-uid: "u"
        spec.suspend: false
        spec.template.metadata.labels.batch.kubernetes.io/controller-uid: "u"
        spec.template.metadata.labels.batch.kubernetes.io/job-name: "j"
        spec.template.metadata.labels.controller-uid: "u"
        spec.template.metadata.labels.job-name: "j"
        spec.template.spec.containers[0].image: "nginx:1"
        spec.template.spec.containers[0].imagePullPolicy: "IfNotPresent"
        spec.template.spec.containers[0].name: "c"
        spec.template.spec.containers[0].resources: {}
        spec.template.spec.containers[0].terminationMessagePath: "/dev/termination-log"
        spec.template.spec.containers[0].terminationMessagePolicy: "File"
        spec.template.spec.dnsPolicy: "ClusterFirst"
        spec.template.spec.restartPolicy: "Never"
        spec.template.spec.schedulerName: "default-scheduler"
        spec.template.spec.securityContext: {}
        spec.template.spec.terminationGracePeriodSeconds: 30
        status: {}"#]]);
    check("{apiVersion: batch/v1, kind: CronJob, metadata: {name: c}, spec: {schedule: '0 2 * * *', jobTemplate: {spec: {template: {spec: {restartPolicy: OnFailure, containers: [{name: c, image: 'nginx:1'}]}}}}}}", expect![[r#"
        metadata.name: "c"
        metadata.namespace: "default"
        spec.concurrencyPolicy: "Allow"
        spec.failedJobsHistoryLimit: 1
        spec.jobTemplate.metadata: {}
        spec.jobTemplate.spec.template.metadata: {}
        spec.jobTemplate.spec.template.spec.containers[0].image: "nginx:1"
        spec.jobTemplate.spec.template.spec.containers[0].imagePullPolicy: "IfNotPresent"
        spec.jobTemplate.spec.template.spec.containers[0].name: "c"
        spec.jobTemplate.spec.template.spec.containers[0].resources: {}
        spec.jobTemplate.spec.template.spec.containers[0].terminationMessagePath: "/dev/termination-log"
        spec.jobTemplate.spec.template.spec.containers[0].terminationMessagePolicy: "File"
        spec.jobTemplate.spec.template.spec.dnsPolicy: "ClusterFirst"
        spec.jobTemplate.spec.template.spec.restartPolicy: "OnFailure"
        spec.jobTemplate.spec.template.spec.schedulerName: "default-scheduler"
        spec.jobTemplate.spec.template.spec.securityContext: {}
        spec.jobTemplate.spec.template.spec.terminationGracePeriodSeconds: 30
        spec.schedule: "0 2 * * *"
        spec.successfulJobsHistoryLimit: 3
        spec.suspend: false
        status: {}"#]]);
}

#[test]
fn services() {
    check("{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}}", expect![[r#"
        metadata.name: "s"
        metadata.namespace: "default"
        spec.clusterIP: "None"
        spec.clusterIPs[0]: "None"
        spec.internalTrafficPolicy: "Cluster"
        spec.ipFamilies[0]: "IPv4"
        spec.ipFamilyPolicy: "SingleStack"
        spec.ports[0].port: 80
        spec.ports[0].protocol: "TCP"
        spec.ports[0].targetPort: 80
        spec.selector.app: "web"
        spec.sessionAffinity: "None"
        spec.type: "ClusterIP"
        status.loadBalancer: {}"#]]);
    check("{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: 10.96.0.10, type: NodePort, sessionAffinity: ClientIP, ports: [{port: 80, nodePort: 30001}]}}", expect![[r#"
        metadata.name: "s"
        metadata.namespace: "default"
        spec.clusterIP: "10.96.0.10"
        spec.clusterIPs[0]: "10.96.0.10"
        spec.externalTrafficPolicy: "Cluster"
        spec.internalTrafficPolicy: "Cluster"
        spec.ipFamilies[0]: "IPv4"
        spec.ipFamilyPolicy: "SingleStack"
        spec.ports[0].nodePort: 30001
        spec.ports[0].port: 80
        spec.ports[0].protocol: "TCP"
        spec.ports[0].targetPort: 80
        spec.sessionAffinity: "ClientIP"
        spec.sessionAffinityConfig.clientIP.timeoutSeconds: 10800
        spec.type: "NodePort"
        status.loadBalancer: {}"#]]);
    check("{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: ExternalName, externalName: example.org}}", expect![[r#"
        metadata.name: "s"
        metadata.namespace: "default"
        spec.externalName: "example.org"
        spec.sessionAffinity: "None"
        spec.type: "ExternalName"
        status.loadBalancer: {}"#]]);
}

#[test]
fn the_other_kinds() {
    check("{apiVersion: v1, kind: Namespace, metadata: {name: team}}", expect![[r#"
        metadata.labels.kubernetes.io/metadata.name: "team"
        metadata.name: "team"
        spec.finalizers[0]: "kubernetes"
        status.phase: "Active""#]]);
    check("{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: eA==}, stringData: {b: hello}}", expect![[r#"
        data.a: "eA=="
        data.b: "aGVsbG8="
        metadata.name: "s"
        metadata.namespace: "default"
        type: "Opaque""#]]);
    check("{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: c}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}", expect![[r#"
        metadata.finalizers[0]: "kubernetes.io/pvc-protection"
        metadata.name: "c"
        metadata.namespace: "default"
        spec.accessModes[0]: "ReadWriteOnce"
        spec.resources.requests.storage: "1Gi"
        spec.volumeMode: "Filesystem"
        status.phase: "Pending""#]]);
    check("{apiVersion: v1, kind: PersistentVolume, metadata: {name: v}, spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, hostPath: {path: /x}}}", expect![[r#"
        metadata.finalizers[0]: "kubernetes.io/pv-protection"
        metadata.name: "v"
        spec.accessModes[0]: "ReadWriteOnce"
        spec.capacity.storage: "1Gi"
        spec.hostPath.path: "/x"
        spec.hostPath.type: ""
        spec.persistentVolumeReclaimPolicy: "Retain"
        spec.volumeMode: "Filesystem"
        status.lastPhaseTransitionTime: "2026-01-31T12:00:00Z"
        status.phase: "Pending""#]]);
    check("{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: s}, provisioner: mainstay.dev/local}", expect![[r#"
        metadata.name: "s"
        provisioner: "mainstay.dev/local"
        reclaimPolicy: "Delete"
        volumeBindingMode: "Immediate""#]]);
    check("{apiVersion: v1, kind: Node, metadata: {name: node-1}, status: {capacity: {cpu: '2'}}}", expect![[r#"
        metadata.name: "node-1"
        spec: {}
        status.allocatable.cpu: "2"
        status.capacity.cpu: "2""#]]);
    check("{apiVersion: v1, kind: Endpoints, metadata: {name: e}, subsets: [{addresses: [{ip: 10.0.0.1}], ports: [{port: 1}]}]}", expect![[r#"
        metadata.name: "e"
        metadata.namespace: "default"
        subsets[0].addresses[0].ip: "10.0.0.1"
        subsets[0].ports[0].port: 1
        subsets[0].ports[0].protocol: "TCP""#]]);
    check("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e}, addressType: IPv4, ports: [{port: 1}]}", expect![[r#"
        addressType: "IPv4"
        metadata.name: "e"
        metadata.namespace: "default"
        ports[0].name: ""
        ports[0].port: 1
        ports[0].protocol: "TCP""#]]);
}
