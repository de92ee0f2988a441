//! Which Rust type describes which kind. A kind more is a word more.

use schemars::{Schema, SchemaGenerator};

/// One kind and its generator.
pub(super) struct Described {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) kind: &'static str,
    /// Adds the kind's schema, and those it needs, to the generator; returns a reference to it.
    pub(super) describe: fn(&mut SchemaGenerator) -> Schema,
}

macro_rules! kinds {
    ($($group:literal $version:ident in $module:ident: $($kind:ident)*;)*) => {
        /// Every kind that can be described.
        pub(super) const KINDS: &[Described] = &[$($(Described {
            group: $group,
            version: stringify!($version),
            kind: stringify!($kind),
            describe: |generator| generator.subschema_for::<k8s_openapi::api::$module::$version::$kind>(),
        },)*)*];
    };
}

kinds! {
    "" v1 in core: Binding ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume PersistentVolumeClaim Pod PodTemplate
        ReplicationController ResourceQuota Secret Service ServiceAccount;
    "apps" v1 in apps: ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet;
    "authentication.k8s.io" v1 in authentication: SelfSubjectReview TokenRequest TokenReview;
    "authorization.k8s.io" v1 in authorization: LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview;
    "autoscaling" v1 in autoscaling: HorizontalPodAutoscaler Scale;
    "autoscaling" v2 in autoscaling: HorizontalPodAutoscaler;
    "batch" v1 in batch: CronJob Job;
    "coordination.k8s.io" v1 in coordination: Lease;
    "discovery.k8s.io" v1 in discovery: EndpointSlice;
    "events.k8s.io" v1 in events: Event;
    "networking.k8s.io" v1 in networking: Ingress IngressClass NetworkPolicy;
    "policy" v1 in policy: Eviction PodDisruptionBudget;
    "rbac.authorization.k8s.io" v1 in rbac: ClusterRole ClusterRoleBinding Role RoleBinding;
    "scheduling.k8s.io" v1 in scheduling: PriorityClass;
    "storage.k8s.io" v1 in storage: CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment;
}

/// The kind's row.
pub(super) fn find(group: &str, version: &str, kind: &str) -> Option<&'static Described> {
    KINDS.iter().find(|d| d.group == group && d.version == version && d.kind == kind)
}
