//! How many pods too many, and how many too few, a rollout may have. Upstream: pkg/controller/deployment/util.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// How a template is replaced by the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    Recreate,
    RollingUpdate,
}

/// `spec.strategy.type`.
pub(crate) fn strategy(deployment: &Deployment) -> Strategy {
    let named = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref()).and_then(|strategy| strategy.type_.as_deref());
    if named == Some("Recreate") { Strategy::Recreate } else { Strategy::RollingUpdate }
}

/// `spec.replicas`.
pub(crate) fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Of a whole: a number, or a percentage of it.
fn scaled(value: &IntOrString, whole: i32, up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let hundredths = percent.saturating_mul(i64::from(whole));
            let rounded = if up { hundredths.saturating_add(99) / 100 } else { hundredths / 100 };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

/// maxSurge rounded up and maxUnavailable rounded down; one of them is at least one, or nothing could ever move.
fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    let rolling = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref()).and_then(|strategy| strategy.rolling_update.as_ref());
    let quarter = IntOrString::String("25%".to_owned());
    let value = |field: Option<&IntOrString>, up| scaled(field.unwrap_or(&quarter), replicas(deployment), up);
    let surge = value(rolling.and_then(|rolling| rolling.max_surge.as_ref()), true);
    let unavailable = value(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// Pods beyond `replicas` that a RollingUpdate may ask for.
pub(crate) fn max_surge(deployment: &Deployment) -> i32 {
    if strategy(deployment) == Strategy::Recreate { 0 } else { fenceposts(deployment).0 }
}

/// Pods below `replicas` that a RollingUpdate may be.
pub(crate) fn max_unavailable(deployment: &Deployment) -> i32 {
    if strategy(deployment) == Strategy::Recreate || replicas(deployment) == 0 { 0 } else { fenceposts(deployment).1.min(replicas(deployment)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_client::Resource;
    use serde_json::{Value, json};

    #[test]
    fn percentages_are_of_the_wish_and_something_may_always_move() {
        for (replicas, surge, unavailable, expected) in [
            (10, json!("25%"), json!("25%"), (3, 2)),
            (1, json!("25%"), json!("25%"), (1, 0)),
            (4, json!(0), json!("10%"), (0, 1)),
            (3, json!(2), json!(5), (2, 3)),
            (0, json!("25%"), json!("25%"), (0, 0)),
            (10, json!("150%"), json!("100%"), (15, 10)),
        ] {
            let spec = json!({"replicas": replicas, "selector": {}, "template": {}, "strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}});
            let deployment = Deployment::from_value(&json!({"spec": spec})).expect("a deployment");
            assert_eq!((max_surge(&deployment), max_unavailable(&deployment)), expected, "{spec}");
        }
        let recreate: Value = json!({"spec": {"replicas": 4, "selector": {}, "template": {}, "strategy": {"type": "Recreate"}}});
        let recreate = Deployment::from_value(&recreate).expect("a deployment");
        assert_eq!((max_surge(&recreate), max_unavailable(&recreate)), (0, 0));
    }
}
