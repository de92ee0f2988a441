//! Addresses and ports: asked for, or any that is free.
//!
//! What is taken is what other services have, so nothing has to be given back; the server runs these one at a time
//! (`Kind::serialized`).

use super::default::headless_list;
use super::{has_node_ports, is_headless};
use crate::value::{Access, dig, fill, items_mut, put};
use crate::{Admission, Errors, Path, Refusal};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

pub(in super::super) fn admit(service: &mut Value, old: Option<&Value>, world: &dyn Admission) -> Result<(), Refusal> {
    if service.text("spec.type") == "ExternalName" {
        return Ok(());
    }
    let mut errors = Errors::default();
    let others = others(service, old, world);
    families(service);
    cluster_ip(service, &others, world, &mut errors);
    if has_node_ports(service) {
        node_ports(service, &others, world, &mut errors);
    }
    if errors.0.is_empty() { Ok(()) } else { Err(Refusal::invalid("Service", service.text("metadata.name"), errors)) }
}

/// All services but this one.
fn others(service: &Value, old: Option<&Value>, world: &dyn Admission) -> Vec<Value> {
    let uid = old.map(|o| o.text("metadata.uid")).unwrap_or_default();
    let mut all = world.list("services", None);
    all.retain(|o| match uid {
        "" => (o.text("metadata.namespace"), o.text("metadata.name")) != (service.text("metadata.namespace"), service.text("metadata.name")),
        uid => o.text("metadata.uid") != uid,
    });
    all
}

/// One stack: IPv4.
fn families(service: &mut Value) {
    let headless_without_selector = is_headless(service) && service.object("spec.selector").is_empty();
    let spec = dig(service, "spec");
    // A headless service without a selector has endpoints that its user writes, of whichever family.
    let policy = if headless_without_selector { "RequireDualStack" } else { "SingleStack" };
    fill(spec, "ipFamilyPolicy", policy);
    let families = if headless_without_selector && spec.text("ipFamilyPolicy") != "SingleStack" { json!(["IPv4", "IPv6"]) } else { json!(["IPv4"]) };
    if spec.list("ipFamilies").is_empty() {
        put(spec, "ipFamilies", families);
    }
}

fn cluster_ip(service: &mut Value, others: &[Value], world: &dyn Admission, errors: &mut Errors) {
    if is_headless(service) {
        put(dig(service, "spec"), "clusterIPs", headless_list());
        return;
    }
    let taken: BTreeSet<Ipv4Addr> = others.iter().flat_map(|o| o.list("spec.clusterIPs")).filter_map(|ip| ip.as_str()?.parse().ok()).collect();
    let (first, bits) = world.settings().service_range;
    let range = Range::new(first, bits);
    let wish = service.text("spec.clusterIP").to_owned();
    let refuse = |wish: Value, why: String, errors: &mut Errors| errors.invalid("spec.clusterIPs", &json!([wish]), &why);
    let chosen = if wish.is_empty() {
        match range.any_free(&taken) {
            Some(address) => address,
            None => return refuse("".into(), "failed to allocate IP: range is full".to_owned(), errors),
        }
    } else {
        let Ok(address) = wish.parse::<Ipv4Addr>() else { return };
        if !range.contains(address) {
            let why = format!(
                "failed to allocate IP {wish}: the provided IP ({wish}) is not in the valid range. The range of valid IPs is {}/{bits}",
                range.network
            );
            return refuse(wish.into(), why, errors);
        }
        if taken.contains(&address) {
            return refuse(wish.clone().into(), format!("failed to allocate IP {wish}: provided IP is already allocated"), errors);
        }
        address
    };
    let spec = dig(service, "spec");
    put(spec, "clusterIP", chosen.to_string());
    put(spec, "clusterIPs", json!([chosen.to_string()]));
}

/// The addresses a service may have: all of the range but the network's and the broadcast address.
struct Range {
    network: Ipv4Addr,
    size: u32,
}

impl Range {
    fn new(first: Ipv4Addr, bits: u8) -> Range {
        let host_bits = 32 - u32::from(bits.clamp(1, 32));
        let size = 1u32 << host_bits;
        Range { network: Ipv4Addr::from(u32::from(first) & !(size - 1)), size }
    }

    fn contains(&self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(u32::from(self.network));
        offset >= 1 && offset < self.size.saturating_sub(1)
    }

    /// A random one, so that a stale client seldom meets a new service at an old address. The lower part of a range (at most 256, at
    /// least 16 addresses) is left for those who ask, as upstream does (KEP-3070).
    fn any_free(&self, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        let usable = self.size.checked_sub(2).filter(|n| *n > 0)?;
        let reserved = if usable < 16 { 0 } else { (usable / 16).clamp(16, 256).min(usable) };
        let free = |offset: u32| Some(Ipv4Addr::from(u32::from(self.network) + 1 + offset)).filter(|a| !taken.contains(a));
        let upper = usable - reserved;
        let start = if upper == 0 { 0 } else { random() % upper };
        let in_upper = (0..upper).find_map(|i| free(reserved + (start + i) % upper));
        in_upper.or_else(|| (0..reserved).find_map(free))
    }
}

fn random() -> u32 {
    let noise = uuid::Uuid::new_v4();
    let bytes = noise.as_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn node_ports(service: &mut Value, others: &[Value], world: &dyn Admission, errors: &mut Errors) {
    let (low, high) = world.settings().node_ports;
    let mut taken: BTreeSet<(i64, String)> = BTreeSet::new();
    let mut taken_by_any: BTreeSet<i64> = BTreeSet::new();
    for other in others {
        for port in other.list("spec.ports").iter().filter(|p| p.int("nodePort").unwrap_or(0) != 0) {
            taken.insert((port.int("nodePort").unwrap_or(0), port.text("protocol").to_owned()));
        }
        taken_by_any.extend(other.list("spec.ports").iter().filter_map(|p| p.int("nodePort")));
        taken_by_any.extend(other.int("spec.healthCheckNodePort"));
    }
    taken_by_any.extend(service.list("spec.ports").iter().filter_map(|p| p.int("nodePort")));
    let path = Path::new("spec.ports");
    for (i, port) in items_mut(service, "spec.ports").enumerate() {
        let at = path.index(i);
        let wish = port.int("nodePort").unwrap_or(0);
        if wish == 0 {
            match any_free_port(low, high, &taken_by_any) {
                Some(number) => {
                    put(port, "nodePort", number);
                    taken_by_any.insert(number);
                }
                None => errors.invalid(at.at("nodePort"), &0.into(), "failed to allocate a nodePort: range is full"),
            }
        } else if !(i64::from(low)..=i64::from(high)).contains(&wish) {
            let why = format!("provided port is not in the valid range. The range of valid ports is {low}-{high}");
            errors.invalid(at.at("nodePort"), &wish.into(), &why);
        } else if taken.contains(&(wish, port.text("protocol").to_owned())) {
            errors.invalid(at.at("nodePort"), &wish.into(), "provided port is already allocated");
        }
    }
    let local = service.text("spec.type") == "LoadBalancer" && service.text("spec.externalTrafficPolicy") == "Local";
    if local && service.int("spec.healthCheckNodePort").unwrap_or(0) == 0
        && let Some(number) = any_free_port(low, high, &taken_by_any)
    {
        put(dig(service, "spec"), "healthCheckNodePort", number);
    }
}

fn any_free_port(low: u16, high: u16, taken: &BTreeSet<i64>) -> Option<i64> {
    let count = i64::from(high) - i64::from(low) + 1;
    if count <= 0 {
        return None;
    }
    let start = i64::from(random()) % count;
    (0..count).map(|i| i64::from(low) + (start + i) % count).find(|port| !taken.contains(port))
}
