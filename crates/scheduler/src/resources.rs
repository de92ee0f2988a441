//! Quantities, requests, host ports.

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// Thousandths, by resource.
pub(crate) type Amounts = BTreeMap<String, i128>;

/// A quantity in thousandths of its unit, rounded up; `None` if it is none. Upstream: apimachinery/pkg/api/resource/quantity.go.
pub(crate) fn parse(text: &str) -> Option<i128> {
    let digits_end = text.find(|character: char| !matches!(character, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    let (scale, divisor): (i128, i128) = match suffix {
        "" => (1_000, 1),
        "n" => (1, 1_000_000),
        "u" => (1, 1_000),
        "m" => (1, 1),
        "k" => (1_000 * 1_000, 1),
        "M" => (1_000 * 1_000_000, 1),
        "G" => (1_000 * 1_000_000_000, 1),
        "T" => (1_000 * 1_000_000_000_000, 1),
        "P" => (1_000 * 1_000_000_000_000_000, 1),
        "E" => (1_000 * 1_000_000_000_000_000_000, 1),
        "Ki" => (1_000 << 10, 1),
        "Mi" => (1_000 << 20, 1),
        "Gi" => (1_000 << 30, 1),
        "Ti" => (1_000 << 40, 1),
        "Pi" => (1_000 << 50, 1),
        "Ei" => (1_000 << 60, 1),
        exponent => {
            let power: u32 = exponent.strip_prefix(['e', 'E'])?.parse().ok().filter(|power| *power <= 18)?;
            (1_000 * 10_i128.pow(power), 1)
        }
    };
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 18 {
        return None;
    }
    let parse = |digits: &str| if digits.is_empty() { Some(0_i128) } else { digits.parse::<i128>().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit())) };
    let ten = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let units = parse(whole)?.checked_mul(ten)?.checked_add(parse(fraction)?)?;
    let (over, under) = (units.checked_mul(scale)?, ten * divisor);
    let value = over / under + i128::from(over % under != 0);
    Some(if negative { -value } else { value })
}

/// What a map of quantities says; what cannot be read counts as nothing (the API server has checked it).
pub(crate) fn amounts(quantities: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    quantities.into_iter().flatten().filter_map(|(name, quantity)| Some((name.clone(), parse(&quantity.0)?))).collect()
}

fn requests(container: &Container) -> Amounts {
    amounts(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
}

/// Adds one map to another.
pub(crate) fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        *to.entry(name.clone()).or_insert(0) += amount;
    }
}

fn at_least(to: &mut Amounts, floor: &Amounts) {
    for (name, amount) in floor {
        let have = to.entry(name.clone()).or_insert(0);
        *have = (*have).max(*amount);
    }
}

/// What a pod asks for: the sum of its containers and sidecars, or what its hungriest init container needs beside the sidecars started before
/// it, whichever is more; then what the pod as a whole asks for; then overhead. Upstream: component-helpers/resource `PodRequests`.
pub(crate) fn of_pod(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let mut total = Amounts::new();
    spec.containers.iter().for_each(|container| add(&mut total, &requests(container)));
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let mut now = requests(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &now);
            at_least(&mut starting, &sidecars);
        } else {
            add(&mut now, &sidecars);
            at_least(&mut starting, &now);
        }
    }
    add(&mut total, &sidecars);
    at_least(&mut total, &starting);
    total.extend(amounts(spec.resources.as_ref().and_then(|resources| resources.requests.as_ref())));
    add(&mut total, &amounts(spec.overhead.as_ref()));
    total.retain(|_, amount| *amount > 0);
    total
}

/// A port of the host: address, protocol, number.
pub(crate) type HostPort = (String, String, i32);

/// The host ports a pod wants.
pub(crate) fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let mine = |port: &k8s_openapi::api::core::v1::ContainerPort| {
        let number = port.host_port.filter(|number| *number > 0)?;
        let address = port.host_ip.clone().filter(|address| !address.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned());
        Some((address, port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), number))
    };
    ports.filter_map(mine).collect()
}

/// Whether two host ports cannot be had at once: the wildcard address takes all.
pub(crate) fn clash(a: &HostPort, b: &HostPort) -> bool {
    a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || a.0 == "0.0.0.0" || b.0 == "0.0.0.0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_client::Resource;
    use serde_json::json;

    #[test]
    fn quantities_are_read_in_all_their_forms() {
        for (text, expected) in [
            ("1", Some(1_000)),
            ("100m", Some(100)),
            ("1.5", Some(1_500)),
            (".5", Some(500)),
            ("1k", Some(1_000_000)),
            ("1Ki", Some(1_024_000)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("12e3", Some(12_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000)),
            ("1500u", Some(2)),
            ("-1", Some(-1_000)),
            ("", None),
            ("m", None),
            ("1x", None),
            ("1.2.3", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_pod_asks_for_the_most_it_needs_at_any_time() {
        let container = |cpu: &str| json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
        let sidecar = |cpu: &str| json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
        for (spec, expected) in [
            (json!({"containers": [container("100m"), container("200m")]}), 300),
            (json!({"containers": [container("100m")], "initContainers": [container("1"), container("500m")]}), 1_000),
            (json!({"containers": [container("100m")], "initContainers": [sidecar("200m"), container("500m")]}), 700),
            (json!({"containers": [container("900m")], "initContainers": [sidecar("200m"), container("500m")]}), 1_100),
            (json!({"containers": [container("100m")], "overhead": {"cpu": "50m"}}), 150),
            (json!({"containers": [container("100m")], "resources": {"requests": {"cpu": "2"}}}), 2_000),
        ] {
            let pod = Pod::from_value(&json!({"metadata": {}, "spec": spec})).expect("a pod");
            assert_eq!(of_pod(&pod)["cpu"], expected, "{spec}");
        }
    }

    #[test]
    fn the_wildcard_address_clashes_with_every_address() {
        let port = |address: &str, protocol: &str| (address.to_owned(), protocol.to_owned(), 80);
        assert!(clash(&port("0.0.0.0", "TCP"), &port("127.0.0.1", "TCP")));
        assert!(!clash(&port("127.0.0.2", "TCP"), &port("127.0.0.1", "TCP")));
        assert!(!clash(&port("0.0.0.0", "UDP"), &port("0.0.0.0", "TCP")));
    }
}
