//! What admission adds to a pod: its service account and token, its priority, its patience with sick nodes.

use crate::value::{Access, dig, fill, fill_text, items_mut, put};
use crate::{Admission, Refusal, names};
use serde_json::{Value, json};

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// An hour and the seven seconds by which upstream tells its own tokens from a user's.
const TOKEN_SECONDS: i64 = 3607;
const PATIENCE_SECONDS: i64 = 300;
const SICK: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const MIRROR: &str = "kubernetes.io/config.mirror";

/// On create; a pod that exists keeps what it has, but for tolerations, which an update may have replaced.
pub(crate) fn admit(pod: &mut Value, old: Option<&Value>, world: &dyn Admission) -> Result<(), Refusal> {
    if old.is_none() {
        service_account(pod, world)?;
        priority(pod, world)?;
    }
    tolerations(dig(pod, "spec"));
    Ok(())
}

/// plugin/pkg/admission/serviceaccount.
fn service_account(pod: &mut Value, world: &dyn Admission) -> Result<(), Refusal> {
    let name = pod_name(pod);
    if pod.object("metadata.annotations").contains_key(MIRROR) {
        return Ok(());
    }
    let spec = dig(pod, "spec");
    fill_text(spec, "serviceAccountName", "default");
    let account_name = spec.text("serviceAccountName").to_owned();
    put(spec, "serviceAccount", account_name.clone());
    let namespace = pod.text("metadata.namespace").to_owned();
    let Some(account) = world.get("serviceaccounts", &namespace, &account_name) else {
        let why = format!("error looking up service account {namespace}/{account_name}: serviceaccount {account_name:?} not found");
        return Err(Refusal::forbidden("pods", &name, &why));
    };
    let spec = dig(pod, "spec");
    let wish = spec.at("automountServiceAccountToken").as_bool().or(account.at("automountServiceAccountToken").as_bool());
    if wish.unwrap_or(true) {
        mount_token(spec);
    }
    let secrets = account.list("imagePullSecrets");
    if spec.list("imagePullSecrets").is_empty() && !secrets.is_empty() {
        put(spec, "imagePullSecrets", secrets.to_vec());
    }
    Ok(())
}

fn mount_token(spec: &mut Value) {
    let existing = spec.list("volumes").iter().map(|v| v.text("name")).find(|n| n.starts_with("kube-api-access-")).map(str::to_owned);
    let volume = existing.clone().unwrap_or_else(|| format!("kube-api-access-{}", names::random_suffix()));
    let mut used = false;
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            if container.list("volumeMounts").iter().any(|m| m.text("mountPath") == TOKEN_PATH) {
                continue;
            }
            fill(container, "volumeMounts", json!([]));
            if let Some(Value::Array(mounts)) = container.get_mut("volumeMounts") {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": TOKEN_PATH}));
                used = true;
            }
        }
    }
    if !used || existing.is_some() {
        return;
    }
    fill(spec, "volumes", json!([]));
    if let Some(Value::Array(volumes)) = spec.get_mut("volumes") {
        volumes.push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}}));
    }
}

/// plugin/pkg/admission/priority. The two system classes exist in every cluster.
fn priority(pod: &mut Value, world: &dyn Admission) -> Result<(), Refusal> {
    let name = pod_name(pod);
    let spec = dig(pod, "spec");
    let class = spec.text("priorityClassName").to_owned();
    let (value, preemption) = match class.as_str() {
        "" => (0, "PreemptLowerPriority".to_owned()),
        "system-cluster-critical" => (2_000_000_000, "PreemptLowerPriority".to_owned()),
        "system-node-critical" => (2_000_001_000, "PreemptLowerPriority".to_owned()),
        _ => match world.get("scheduling.k8s.io/priorityclasses", "", &class) {
            Some(class) => {
                let policy = if class.text("preemptionPolicy").is_empty() { "PreemptLowerPriority" } else { class.text("preemptionPolicy") };
                (class.int("value").unwrap_or(0), policy.to_owned())
            }
            None => return Err(Refusal::forbidden("pods", &name, &format!("no PriorityClass with name {class} was found"))),
        },
    };
    if let Some(given) = spec.int("priority").filter(|given| *given != value) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        );
        return Err(Refusal::forbidden("pods", &name, &why));
    }
    if !spec.text("preemptionPolicy").is_empty() && spec.text("preemptionPolicy") != preemption {
        let given = spec.text("preemptionPolicy");
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {preemption} from the given PriorityClass name"
        );
        return Err(Refusal::forbidden("pods", &name, &why));
    }
    put(spec, "priority", value);
    put(spec, "preemptionPolicy", preemption);
    Ok(())
}

/// Five minutes on a node that is not ready or not reachable, unless the pod says otherwise
/// (plugin/pkg/admission/defaulttolerationseconds).
fn tolerations(spec: &mut Value) {
    for key in SICK {
        let covers = |t: &Value| matches!(t.text("key"), "" | "*") || t.text("key") == key;
        let said = spec.list("tolerations").iter().any(|t| covers(t) && matches!(t.text("effect"), "NoExecute" | ""));
        if said {
            continue;
        }
        fill(spec, "tolerations", json!([]));
        if let Some(Value::Array(list)) = spec.get_mut("tolerations") {
            list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": PATIENCE_SECONDS}));
        }
    }
}

fn pod_name(pod: &Value) -> String {
    match pod.text("metadata.name") {
        "" => pod.text("metadata.generateName").to_owned(),
        name => name.to_owned(),
    }
}
