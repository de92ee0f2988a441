//! StatefulSet: defaults (pkg/apis/apps/v1/defaults.go) and columns; its rules are in `validate`.

pub(super) mod validate;

use crate::columns::{AGE, NAME, containers};
use crate::value::{Access, dig, fill, fill_text, items_mut, put};
use crate::{Admission, Column};
use serde_json::{Value, json};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    Column::new("Ready", "string", "Pods that are ready, of those wished for.", |o, _| {
        format!("{}/{}", o.int("status.readyReplicas").unwrap_or(0), o.int("spec.replicas").unwrap_or(0)).into()
    }),
    AGE,
    Column::new("Containers", "string", "The names of a pod's containers.", |o, _| containers(o.at("spec.template.spec"), "name").into()).wide(),
    Column::new("Images", "string", "Their images.", |o, _| containers(o.at("spec.template.spec"), "image").into()).wide(),
];

pub(super) fn default(set: &mut Value) {
    let spec = dig(set, "spec");
    fill_text(spec, "podManagementPolicy", "OrderedReady");
    fill(spec, "serviceName", "");
    let strategy = dig(spec, "updateStrategy");
    // A strategy that is named without a block keeps none: `rollout status` tells them apart.
    if strategy.text("type").is_empty() {
        put(strategy, "type", "RollingUpdate");
        let rolling = dig(strategy, "rollingUpdate");
        fill(rolling, "partition", 0);
    } else if strategy.text("type") == "RollingUpdate" && strategy.has("rollingUpdate") {
        fill(dig(strategy, "rollingUpdate"), "partition", 0);
    }
    let retention = dig(spec, "persistentVolumeClaimRetentionPolicy");
    fill_text(retention, "whenDeleted", "Retain");
    fill_text(retention, "whenScaled", "Retain");
    fill(spec, "replicas", 1);
    fill(spec, "revisionHistoryLimit", 10);
    crate::pod::default::template(dig(spec, "template"));
    for claim in items_mut(spec, "volumeClaimTemplates") {
        fill_text(claim, "apiVersion", "v1");
        fill_text(claim, "kind", "PersistentVolumeClaim");
        dig(claim, "metadata");
        crate::kinds::core::persistent_volume_claim::default(claim);
    }
    let status = dig(set, "status");
    fill(status, "replicas", 0);
    fill(status, "availableReplicas", 0);
}

pub(super) fn prepare_create(set: &mut Value, _: &dyn Admission) {
    put(set, "status", json!({"replicas": 0, "availableReplicas": 0}));
}

