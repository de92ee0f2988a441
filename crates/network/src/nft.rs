//! The rules in the kernel: one nftables table an instance, changed in one transaction over netlink.
//!
//! ```text
//! prerouting, output (dstnat)   dispatch: daddr . proto . dport → @services; local daddr: proto . dport → @ports
//! svc-…, host-…                 one endpoint by chance (or the one the client stayed with): dnat
//! postrouting (srcnat)          pods to the outside: masquerade; to themselves, and from 127.0.0.1: from the host's address
//! forward, output (filter)      what is still addressed to the service range has no endpoint: refused
//! guard (raw)                   pods must not reach 127.0.0.0/8 of the host
//! ```
//!
//! Only chains that changed are rewritten. Established connections never pass here again: conntrack keeps them.

use crate::desired::{Desired, Target, affinity_set, desired};
use crate::netfilter::{Batch, Hook, IPV4, Netfilter, Register, Rule, Set, TYPE_ADDRESS, TYPE_PORT, TYPE_PROTOCOL};
use crate::record::{self, Paths, RulesRecord};
use crate::types::Protocol;
use crate::{Error, HostPort, Ranges, ServicePort, conntrack, link};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Messages in one transaction: the kernel takes what fits the socket's send buffer (208 KiB by default), a message is at most 400 bytes.
const MESSAGES_A_TRANSACTION: usize = 400;
/// Clients remembered an endpoint; beyond, a client is not remembered.
const AFFINITY_CLIENTS: u32 = 65_536;

/// The table's keeper: one change at a time.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ranges: Ranges,
    names: Names,
    paths: Paths,
    state: Mutex<State>,
    /// The record on disk is being written.
    saving: Mutex<()>,
    saved: Mutex<Arc<RulesRecord>>,
}

#[derive(Debug)]
struct State {
    netfilter: Netfilter,
    wanted: Arc<RulesRecord>,
    /// What the kernel has.
    present: Desired,
    /// The kernel's count of changes to any rules when ours were last seen to be there.
    seen: Option<u32>,
}

/// Names that carry the instance.
#[derive(Debug)]
struct Names {
    table: String,
    interfaces: String,
}

impl Rules {
    /// Makes the table anew, with the rules last recorded, in one transaction: a restart interrupts nothing.
    pub(crate) fn open(paths: Paths, instance: &str, ranges: &Ranges) -> Result<Self, Error> {
        let names = Names { table: table(instance), interfaces: link::prefix(instance) };
        let wanted: Arc<RulesRecord> = Arc::new(record::read(&paths.rules())?.unwrap_or_default());
        let state = State { netfilter: Netfilter::open()?, wanted: wanted.clone(), present: Desired::default(), seen: None };
        let inner = Inner { ranges: ranges.clone(), names, paths, state: state.into(), saving: Mutex::default(), saved: wanted.into() };
        inner.rebuild(&mut inner.state.lock())?;
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) async fn set_services(&self, services: Vec<ServicePort>) -> Result<(), Error> {
        self.set(move |record| RulesRecord { services, host_ports: record.host_ports.clone() }).await
    }

    pub(crate) async fn set_host_ports(&self, host_ports: Vec<HostPort>) -> Result<(), Error> {
        self.set(move |record| RulesRecord { services: record.services.clone(), host_ports }).await
    }

    pub(crate) async fn repair(&self) -> Result<bool, Error> {
        let inner = self.inner.clone();
        crate::network::blocking(move || {
            let mut state = inner.state.lock();
            let generation = state.netfilter.generation()?;
            if generation.is_some() && generation == state.seen {
                return Ok(false);
            }
            let whole = inner.is_whole(&mut state)?;
            if !whole {
                tracing::warn!(table = inner.names.table, "someone removed the rules that services need; they are made anew");
                inner.rebuild(&mut state)?;
            }
            state.seen = if whole { generation } else { None };
            Ok(!whole)
        })
        .await
    }

    /// Returns when the record on disk is the newest.
    pub(crate) async fn idle(&self) {
        let inner = self.inner.clone();
        // A panic in there was logged where it happened.
        let _ = tokio::task::spawn_blocking(move || inner.save()).await;
    }

    async fn set(&self, change: impl FnOnce(&RulesRecord) -> RulesRecord + Send + 'static) -> Result<(), Error> {
        let inner = self.inner.clone();
        let changed = crate::network::blocking(move || {
            let mut state = inner.state.lock();
            let wanted = change(&state.wanted);
            if wanted == *state.wanted {
                return Ok(false);
            }
            let abandoned = inner.apply(&mut state, wanted)?;
            if let Err(error) = conntrack::forget(&mut state.netfilter, &abandoned) {
                tracing::warn!(%error, "UDP flows to gone endpoints stay until they time out");
            }
            Ok(true)
        });
        if changed.await? {
            let inner = self.inner.clone();
            // Waited for by no one but `idle`: the rules are in force.
            drop(tokio::task::spawn_blocking(move || inner.save()));
        }
        Ok(())
    }
}

impl Inner {
    fn apply(&self, state: &mut State, wanted: RulesRecord) -> Result<Vec<conntrack::Flow>, Error> {
        let next = desired(&wanted.services, &wanted.host_ports, &self.ranges);
        state.wanted = Arc::new(wanted);
        let abandoned = state.present.abandoned(&next);
        if next != state.present
            && let Err(error) = self.change(state, next)
        {
            // `nft flush ruleset`, or a firewall's reload, took the table away.
            tracing::warn!(%error, "rules could not be changed in place; they are made anew");
            self.rebuild(state)?;
        }
        *self.saved.lock() = state.wanted.clone();
        Ok(abandoned)
    }

    /// Takes down what the kernel has under our name and puts up what is wanted; without a gap while it fits one transaction.
    fn rebuild(&self, state: &mut State) -> Result<(), Error> {
        let mut batch = Batch::new(&self.names.table);
        if state.netfilter.tables()?.contains(&self.names.table) {
            batch.delete_table();
        }
        self.base(&mut batch);
        let next = desired(&state.wanted.services, &state.wanted.host_ports, &self.ranges);
        let mut steps = steps(&Desired::default(), &next).into_iter();
        let first = steps.next().unwrap_or_default();
        self.encode(&mut batch, &Desired::default(), &first);
        state.netfilter.commit(batch)?;
        state.present = first;
        steps.try_for_each(|step| self.commit(state, step))
    }

    /// Whether our table has as many rules as it must: those who take some away take all, with the table, or chain by chain.
    fn is_whole(&self, state: &mut State) -> Result<bool, Error> {
        if !state.netfilter.tables()?.contains(&self.names.table) {
            return Ok(false);
        }
        let found = state.netfilter.rules(IPV4, &self.names.table)?.len();
        let mut base = Batch::new(&self.names.table);
        self.base(&mut base);
        let of_targets: usize = state.present.targets.values().map(Target::rules).sum();
        Ok(found >= base.rules() + of_targets)
    }

    fn change(&self, state: &mut State, next: Desired) -> Result<(), Error> {
        steps(&state.present, &next).into_iter().try_for_each(|step| self.commit(state, step))
    }

    fn commit(&self, state: &mut State, next: Desired) -> Result<(), Error> {
        let mut batch = Batch::new(&self.names.table);
        self.encode(&mut batch, &state.present, &next);
        state.netfilter.commit(batch)?;
        state.present = next;
        Ok(())
    }

    fn save(&self) {
        let _one_at_a_time = self.saving.lock();
        let newest = self.saved.lock().clone();
        if let Err(error) = record::write(&self.paths.rules(), &*newest) {
            tracing::error!(%error, "rules not recorded; a restart begins with older ones");
        }
    }

    /// Maps, base chains and their rules.
    fn base(&self, batch: &mut Batch) {
        let interfaces = self.names.interfaces.as_str();
        let (pods, services, host) = (self.ranges.pods, self.ranges.services, self.ranges.host());
        let loopback = (Ipv4Addr::new(127, 0, 0, 0), 8);
        let rule = Rule::default;
        batch.add_table();
        for set in [SERVICES, PORTS, HAIRPIN] {
            batch.add_set(&set);
        }
        batch.add_chain("dispatch", None);
        for (name, kind, number, priority) in BASE_CHAINS {
            batch.add_chain(name, Some(Hook { kind, number, priority }));
        }
        batch.add_rule("guard", rule().comes_from(interfaces).destination_in(loopback, true).drop());
        batch.add_rule("dispatch", load_destination(rule(), true).by_map("services"));
        let local = rule().destination_in(services, false).destination_is_local();
        batch.add_rule("dispatch", load_destination(local, false).by_map("ports"));
        batch.add_rule("prerouting", rule().jump("dispatch"));
        batch.add_rule("output", rule().jump("dispatch"));
        batch.add_rule("postrouting", rule().leaves_through(interfaces).source_in(loopback).translate_source(host));
        let both = rule().load_source(Register(0)).load_destination(Register(1));
        batch.add_rule("postrouting", both.in_set("hairpin").translate_source(host));
        batch.add_rule("postrouting", rule().source_in(pods).destination_in(pods, false).masquerade());
        for address in [self.ranges.kubernetes(), self.ranges.dns()] {
            batch.add_rule("refuse-output", rule().destination_in((address, 32), true).accept());
        }
        for chain in ["refuse-forward", "refuse-output"] {
            batch.add_rule(chain, rule().destination_in(services, true).reset());
            batch.add_rule(chain, rule().destination_in(services, true).refuse());
        }
    }

    /// The difference, in an order in which every name exists while it is used.
    fn encode(&self, batch: &mut Batch, present: &Desired, next: &Desired) {
        batch.delete_elements("services", present.services.iter().filter(|(k, v)| next.services.get(k) != Some(v)).map(|(k, _)| service_key(k)));
        batch.delete_elements("ports", present.ports.iter().filter(|(k, v)| next.ports.get(k) != Some(v)).map(|(k, _)| port_key(k)));
        let (before, after) = (affinity_sets(&present.targets), affinity_sets(&next.targets));
        for (name, seconds) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
            let dynamic = Some(((*seconds).max(1), AFFINITY_CLIENTS));
            batch.add_set(&Set { name, key_type: TYPE_ADDRESS, key_bytes: 4, map: false, dynamic });
        }
        for (name, target) in &next.targets {
            match present.targets.get(name) {
                Some(same) if same == target => continue,
                Some(_) => batch.flush_chain(name),
                None => batch.add_chain(name, None),
            }
            endpoint_rules(batch, name, target);
        }
        let fresh = next.services.iter().filter(|(k, v)| present.services.get(k) != Some(v));
        batch.add_elements("services", fresh.map(|(k, chain)| (service_key(k), Some(chain.as_str()))));
        let fresh = next.ports.iter().filter(|(k, v)| present.ports.get(k) != Some(v));
        batch.add_elements("ports", fresh.map(|(k, chain)| (port_key(k), Some(chain.as_str()))));
        for name in present.targets.keys().filter(|name| !next.targets.contains_key(*name)) {
            batch.flush_chain(name);
            batch.delete_chain(name);
        }
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            batch.delete_set(name);
        }
        batch.delete_elements("hairpin", present.hairpin.difference(&next.hairpin).map(hairpin_key));
        batch.add_elements("hairpin", next.hairpin.difference(&present.hairpin).map(|a| (hairpin_key(a), None)));
    }
}

/// First the clients that stay, then by chance: the i-th of n rules takes one in n-i of what reaches it.
fn endpoint_rules(batch: &mut Batch, chain: &str, target: &Target) {
    let stay = |endpoint| target.affinity_seconds.map(|s| affinity_set(chain, endpoint, s));
    for endpoint in &target.endpoints {
        if let Some(set) = stay(*endpoint) {
            let known = Rule::default().load_source(Register(0)).in_set(&set).note_source(&set);
            batch.add_rule(chain, known.translate_destination(*endpoint));
        }
    }
    let mut left = u32::try_from(target.endpoints.len()).unwrap_or(u32::MAX);
    for endpoint in &target.endpoints {
        let mut one = Rule::default();
        if left > 1 {
            one = one.one_in(left);
        }
        if let Some(set) = stay(*endpoint) {
            one = one.note_source(&set);
        }
        batch.add_rule(chain, one.translate_destination(*endpoint));
        left -= 1;
    }
}

/// Name, type, hook and priority (`raw` -300, `dstnat` -100, `filter` 0, `srcnat` 100).
const BASE_CHAINS: [(&str, &str, u32, i32); 6] = [
    ("guard", "filter", 0, -300),
    ("prerouting", "nat", 0, -100),
    ("output", "nat", 3, -100),
    ("postrouting", "nat", 4, 100),
    ("refuse-forward", "filter", 2, 0),
    ("refuse-output", "filter", 3, 0),
];

const SERVICES: Set<'_> =
    Set { name: "services", key_type: TYPE_ADDRESS << 12 | TYPE_PROTOCOL << 6 | TYPE_PORT, key_bytes: 12, map: true, dynamic: None };
const PORTS: Set<'_> = Set { name: "ports", key_type: TYPE_PROTOCOL << 6 | TYPE_PORT, key_bytes: 8, map: true, dynamic: None };
const HAIRPIN: Set<'_> = Set { name: "hairpin", key_type: TYPE_ADDRESS << 6 | TYPE_ADDRESS, key_bytes: 8, map: false, dynamic: None };

/// Removes an instance's table; answers how many tables of other instances stay.
pub(crate) fn remove_table(instance: &str) -> Result<usize, Error> {
    let name = table(instance);
    let mut netfilter = Netfilter::open()?;
    let tables = netfilter.tables()?;
    if tables.contains(&name) {
        let mut batch = Batch::new(&name);
        batch.delete_table();
        netfilter.commit(batch)?;
    }
    Ok(tables.iter().filter(|t| **t != name && t.starts_with(TABLE)).count())
}

const TABLE: &str = "mainstay";

fn table(instance: &str) -> String {
    if instance.is_empty() { TABLE.into() } else { format!("{TABLE}-{instance}") }
}

/// States between the two that each fit a transaction; the last is `next`. Usually it is the only one.
fn steps(present: &Desired, next: &Desired) -> Vec<Desired> {
    let mut steps = Vec::new();
    let mut reached = present.clone();
    let mut messages = 0;
    let chains_to = |name: &String| {
        let services: Vec<_> = next.services.iter().filter(|(_, c)| *c == name).map(|(k, c)| (*k, c.clone())).collect();
        let ports: Vec<_> = next.ports.iter().filter(|(_, c)| *c == name).map(|(k, c)| (*k, c.clone())).collect();
        (services, ports)
    };
    let changed: Vec<(&String, &Target)> = next.targets.iter().filter(|(name, t)| present.targets.get(*name) != Some(t)).collect();
    let total: usize = changed.iter().map(|(_, t)| weight(t)).sum();
    if total <= MESSAGES_A_TRANSACTION {
        return vec![next.clone()];
    }
    for (name, target) in changed {
        messages += weight(target);
        if messages > MESSAGES_A_TRANSACTION {
            steps.push(reached.clone());
            messages = weight(target);
        }
        let (services, ports) = chains_to(name);
        reached.targets.insert(name.clone(), target.clone());
        reached.services.extend(services);
        reached.ports.extend(ports);
        reached.hairpin.extend(target.endpoints.iter().map(|(a, _)| *a).filter(|a| next.hairpin.contains(a)));
    }
    steps.push(next.clone());
    steps
}

/// Messages that a target's chain takes: itself, and its rules and sets.
fn weight(target: &Target) -> usize {
    3 + target.endpoints.len() * if target.affinity_seconds.is_some() { 3 } else { 1 }
}

/// Loads the destination into registers as the map's key lays it out.
fn load_destination(rule: Rule, with_address: bool) -> Rule {
    if with_address {
        rule.load_destination(Register(0)).load_protocol(Register(1)).load_port(Register(2))
    } else {
        rule.load_protocol(Register(0)).load_port(Register(1))
    }
}

/// Each field takes four bytes.
fn service_key((address, protocol, port): &(Ipv4Addr, Protocol, u16)) -> Vec<u8> {
    [address.octets().to_vec(), port_key(&(*protocol, *port))].concat()
}

fn port_key((protocol, port): &(Protocol, u16)) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![protocol.number(), 0, 0, 0, high, low, 0, 0]
}

fn hairpin_key(address: &Ipv4Addr) -> Vec<u8> {
    [address.octets(), address.octets()].concat()
}

/// By name, with their timeouts.
fn affinity_sets(targets: &BTreeMap<String, Target>) -> BTreeMap<String, u32> {
    let sticky = targets.iter().filter_map(|(chain, t)| t.affinity_seconds.map(|s| (chain, t, s)));
    sticky.flat_map(|(chain, t, s)| t.endpoints.iter().map(move |e| (affinity_set(chain, *e, s), s))).collect()
}
