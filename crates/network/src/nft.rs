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
use crate::record::{self, Paths, RulesRecord};
use crate::types::Protocol;
use crate::{Error, HostPort, Ranges, ServicePort, conntrack, link};
use nlink::netlink::nftables::{
    BaseChain, Chain, ChainName, CmpOp, Expr, Family, FibFlags, FilterHook, LookupExpr, MetaKey, NatHook, NumgenKind, PacketField, PayloadBase,
    Policy, Priority, Register, Rule, Set, SetElement, SetKeyType, Transaction, Verdict,
};
use nlink::netlink::types::route::RouteType;
use nlink::netlink::{Connection, Nftables};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Messages in one transaction: the kernel takes what fits the socket's send buffer (208 KiB by default), a message is at most 400 bytes.
const MESSAGES_A_TRANSACTION: usize = 400;
/// Clients remembered an endpoint; beyond, a client is not remembered.
const AFFINITY_CLIENTS: u32 = 65_536;

/// The table's keeper: one change at a time.
pub(crate) struct Rules {
    ranges: Ranges,
    names: Names,
    paths: Paths,
    connection: Connection<Nftables>,
    state: Mutex<State>,
    saving: Arc<parking_lot::Mutex<()>>,
    saved: Arc<parking_lot::Mutex<Arc<RulesRecord>>>,
}

#[derive(Default)]
struct State {
    wanted: Arc<RulesRecord>,
    /// What the kernel has.
    present: Desired,
}

/// Names that carry the instance.
struct Names {
    table: String,
    interfaces: String,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("table", &self.names.table).finish_non_exhaustive()
    }
}

impl Rules {
    /// Makes the table anew, with the rules last recorded, in one transaction: a restart interrupts nothing.
    pub(crate) async fn open(paths: Paths, instance: &str, ranges: &Ranges) -> Result<Self, Error> {
        let names = Names { table: table(instance), interfaces: link::prefix(instance) };
        let connection = Connection::<Nftables>::new().map_err(|e| Error::kernel("open nftables netlink", e))?;
        let wanted: Arc<RulesRecord> = Arc::new(record::read(&paths.rules())?.unwrap_or_default());
        let saved = Arc::new(parking_lot::Mutex::new(wanted.clone()));
        let rules = Self { ranges: ranges.clone(), names, paths, connection, state: Mutex::default(), saving: Arc::default(), saved };
        let mut state = rules.state.lock().await;
        state.wanted = wanted;
        rules.rebuild(&mut state).await?;
        drop(state);
        Ok(rules)
    }

    pub(crate) async fn set_services(&self, services: Vec<ServicePort>) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        if state.wanted.services != services {
            let host_ports = state.wanted.host_ports.clone();
            self.apply(&mut state, RulesRecord { services, host_ports }).await?;
        }
        Ok(())
    }

    pub(crate) async fn set_host_ports(&self, host_ports: Vec<HostPort>) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        if state.wanted.host_ports != host_ports {
            let services = state.wanted.services.clone();
            self.apply(&mut state, RulesRecord { services, host_ports }).await?;
        }
        Ok(())
    }

    /// Returns when the record on disk is the newest.
    pub(crate) async fn idle(&self) {
        let saving = self.saving.clone();
        // A panic in there was logged where it happened.
        let _ = tokio::task::spawn_blocking(move || drop(saving.lock())).await;
    }

    async fn apply(&self, state: &mut State, wanted: RulesRecord) -> Result<(), Error> {
        let next = desired(&wanted.services, &wanted.host_ports, &self.ranges);
        state.wanted = Arc::new(wanted);
        let abandoned = state.present.abandoned(&next);
        if next != state.present {
            match self.change(&state.present, &next).await {
                Ok(()) => state.present = next,
                Err(error) => {
                    // `nft flush ruleset`, or a firewall's reload, took the table away.
                    tracing::warn!(%error, "rules could not be changed in place; they are made anew");
                    self.rebuild(state).await?;
                }
            }
        }
        self.save(&state.wanted);
        conntrack::forget(abandoned).await;
        Ok(())
    }

    /// Takes down what the kernel has under our name and puts up what is wanted; without a gap while it fits one transaction.
    async fn rebuild(&self, state: &mut State) -> Result<(), Error> {
        let doing = || format!("make the nftables table {}", self.names.table);
        let tables = self.connection.list_tables_in(Family::Ip).await.map_err(|e| Error::kernel(doing(), e))?;
        let mut transaction = self.connection.transaction();
        if tables.iter().any(|t| t.name == self.names.table) {
            transaction = transaction.del_table(&self.names.table, Family::Ip);
        }
        transaction = self.base(transaction).map_err(|e| Error::kernel(doing(), e))?;
        let next = desired(&state.wanted.services, &state.wanted.host_ports, &self.ranges);
        let mut steps = steps(&Desired::default(), &next).into_iter();
        let first = steps.next().unwrap_or_default();
        transaction = self.encode(transaction, &Desired::default(), &first).map_err(|e| Error::kernel(doing(), e))?;
        transaction.commit(&self.connection).await.map_err(|e| Error::kernel(doing(), e))?;
        state.present = first;
        for step in steps {
            self.commit(&state.present, &step).await?;
            state.present = step;
        }
        Ok(())
    }

    async fn change(&self, present: &Desired, next: &Desired) -> Result<(), Error> {
        let mut before = present.clone();
        for step in steps(present, next) {
            self.commit(&before, &step).await?;
            before = step;
        }
        Ok(())
    }

    async fn commit(&self, present: &Desired, next: &Desired) -> Result<(), Error> {
        let doing = || format!("change the nftables table {}", self.names.table);
        let transaction = self.encode(self.connection.transaction(), present, next).map_err(|e| Error::kernel(doing(), e))?;
        transaction.commit(&self.connection).await.map_err(|e| Error::kernel(doing(), e))
    }

    fn save(&self, wanted: &Arc<RulesRecord>) {
        *self.saved.lock() = wanted.clone();
        let (saving, saved, path) = (self.saving.clone(), self.saved.clone(), self.paths.rules());
        tokio::task::spawn_blocking(move || {
            let _one_at_a_time = saving.lock();
            let newest = saved.lock().clone();
            if let Err(error) = record::write(&path, &*newest) {
                tracing::error!(%error, "rules not recorded; a restart begins with older ones");
            }
        });
    }

    /// Maps, base chains and their rules.
    fn base(&self, transaction: Transaction) -> nlink::Result<Transaction> {
        let (table, interfaces) = (self.names.table.as_str(), self.names.interfaces.as_str());
        let (pods, services) = (self.ranges.pods, self.ranges.services);
        let rule = |chain: &str| Rule::new(table, chain).family(Family::Ip);
        let base = |name: &str, base: BaseChain| Ok::<_, nlink::Error>(Chain::new(table, name)?.family(Family::Ip).base(base.policy(Policy::Accept)));
        let loopback = Ipv4Addr::new(127, 0, 0, 0);
        let mut t = transaction
            .add_table(table, Family::Ip)
            .add_set(self.services_map())
            .add_set(self.ports_map())
            .add_set(self.hairpin_set())
            .add_chain(Chain::new(table, "dispatch")?.family(Family::Ip))
            .add_chain(base("guard", BaseChain::filter(FilterHook::Prerouting, Priority::Raw))?)
            .add_chain(base("prerouting", BaseChain::nat(NatHook::Prerouting, Priority::DstNat))?)
            .add_chain(base("output", BaseChain::nat(NatHook::Output, Priority::DstNat))?)
            .add_chain(base("postrouting", BaseChain::nat(NatHook::Postrouting, Priority::SrcNat))?)
            .add_chain(base("refuse-forward", BaseChain::filter(FilterHook::Forward, Priority::Filter))?)
            .add_chain(base("refuse-output", BaseChain::filter(FilterHook::Output, Priority::Filter))?)
            .add_rule(rule("guard").match_iif_prefix(interfaces).match_daddr_v4(loopback, 8).drop())
            .add_rule(rule("dispatch").expressions(destination_lookup(true, "services")))
            .add_rule(
                rule("dispatch")
                    .match_daddr_v4_not(services.0, services.1)
                    .match_fib_type(FibFlags::DADDR, RouteType::Local)
                    .expressions_after(destination_lookup(false, "ports")),
            )
            .add_rule(rule("prerouting").jump(ChainName::new("dispatch")?))
            .add_rule(rule("output").jump(ChainName::new("dispatch")?))
            .add_rule(rule("postrouting").match_oif_prefix(interfaces).match_saddr_v4(loopback, 8).snat(self.ranges.host(), None))
            .add_rule(rule("postrouting").match_concat_in_set(&[PacketField::Ip4Saddr, PacketField::Ip4Daddr], "hairpin").snat(self.ranges.host(), None))
            .add_rule(rule("postrouting").match_saddr_v4(pods.0, pods.1).match_daddr_v4_not(pods.0, pods.1).masquerade());
        for address in [self.ranges.kubernetes(), self.ranges.dns()] {
            t = t.add_rule(rule("refuse-output").match_daddr_v4(address, 32).accept());
        }
        for chain in ["refuse-forward", "refuse-output"] {
            t = t
                .add_rule(rule(chain).match_daddr_v4(services.0, services.1).reject_tcp_reset())
                .add_rule(rule(chain).match_daddr_v4(services.0, services.1).reject_icmp(ICMP_PORT_UNREACHABLE));
        }
        Ok(t)
    }

    /// The difference, in an order in which every name exists while it is used.
    fn encode(&self, transaction: Transaction, present: &Desired, next: &Desired) -> nlink::Result<Transaction> {
        let mut t = transaction;
        let (services, ports, hairpin) = (self.services_map(), self.ports_map(), self.hairpin_set());
        let stale = present.services.iter().filter(|(k, v)| next.services.get(k) != Some(v)).map(|(k, _)| service_key(k));
        t = delete(t, &services, stale.collect());
        let stale = present.ports.iter().filter(|(k, v)| next.ports.get(k) != Some(v)).map(|(k, _)| port_key(k));
        t = delete(t, &ports, stale.collect());
        let before = affinity_sets(&present.targets);
        let after = affinity_sets(&next.targets);
        for (name, seconds) in after.iter().filter(|(name, _)| !before.iter().any(|(b, _)| b == name)) {
            t = t.add_set(self.affinity(name, *seconds));
        }
        for (name, target) in &next.targets {
            match present.targets.get(name) {
                Some(same) if same == target => continue,
                Some(_) => t = t.flush_chain(&self.names.table, name, Family::Ip),
                None => t = t.add_chain(Chain::new(self.names.table.as_str(), name.as_str())?.family(Family::Ip)),
            }
            t = self.endpoint_rules(t, name, target);
        }
        let fresh = next.services.iter().filter(|(k, v)| present.services.get(k) != Some(v));
        t = add(t, &services, fresh.map(|(k, chain)| to_chain(service_key(k), chain)).collect::<nlink::Result<_>>()?);
        let fresh = next.ports.iter().filter(|(k, v)| present.ports.get(k) != Some(v));
        t = add(t, &ports, fresh.map(|(k, chain)| to_chain(port_key(k), chain)).collect::<nlink::Result<_>>()?);
        for name in present.targets.keys().filter(|name| !next.targets.contains_key(*name)) {
            t = t.flush_chain(&self.names.table, name, Family::Ip).del_chain(&self.names.table, name, Family::Ip);
        }
        for (name, _) in before.iter().filter(|(name, _)| !after.iter().any(|(a, _)| a == name)) {
            t = t.del_set(&self.names.table, name, Family::Ip);
        }
        t = delete(t, &hairpin, present.hairpin.difference(&next.hairpin).map(hairpin_key).collect());
        Ok(add(t, &hairpin, next.hairpin.difference(&present.hairpin).map(hairpin_key).collect()))
    }

    /// First the clients that stay, then by chance: the i-th of n rules takes one in n-i of what reaches it.
    fn endpoint_rules(&self, transaction: Transaction, chain: &str, target: &Target) -> Transaction {
        let mut t = transaction;
        let rule = || Rule::new(&self.names.table, chain).family(Family::Ip);
        let stay = |endpoint| target.affinity_seconds.map(|s| affinity_set(chain, endpoint, s));
        for endpoint in &target.endpoints {
            if let Some(set) = stay(*endpoint) {
                let known = rule().match_saddr_in_set(&set).update_in_set(PacketField::Ip4Saddr, &set, None);
                t = t.add_rule(known.dnat(endpoint.0, Some(endpoint.1)));
            }
        }
        for (taken, endpoint) in target.endpoints.iter().enumerate() {
            let left = (target.endpoints.len() - taken) as u32;
            let mut one = rule();
            if left > 1 {
                one = one.expr(Expr::Numgen { dreg: Register::R0, kind: NumgenKind::Random, modulus: left, offset: 0 }).expr(Expr::Cmp {
                    sreg: Register::R0,
                    op: CmpOp::Eq,
                    data: 0u32.to_ne_bytes().to_vec(),
                });
            }
            if let Some(set) = stay(*endpoint) {
                one = one.update_in_set(PacketField::Ip4Saddr, &set, None);
            }
            t = t.add_rule(one.dnat(endpoint.0, Some(endpoint.1)));
        }
        t
    }

    fn services_map(&self) -> Set {
        let key = SetKeyType::Concat(vec![SetKeyType::Ipv4Addr, SetKeyType::InetProto, SetKeyType::InetService]);
        Set::new(&self.names.table, "services").family(Family::Ip).key_type(key).vmap()
    }

    fn ports_map(&self) -> Set {
        let key = SetKeyType::Concat(vec![SetKeyType::InetProto, SetKeyType::InetService]);
        Set::new(&self.names.table, "ports").family(Family::Ip).key_type(key).vmap()
    }

    fn hairpin_set(&self) -> Set {
        let key = SetKeyType::Concat(vec![SetKeyType::Ipv4Addr, SetKeyType::Ipv4Addr]);
        Set::new(&self.names.table, "hairpin").family(Family::Ip).key_type(key)
    }

    fn affinity(&self, name: &str, seconds: u32) -> Set {
        let set = Set::new(&self.names.table, name).family(Family::Ip).key_type(SetKeyType::Ipv4Addr);
        set.size(AFFINITY_CLIENTS).dynamic().timeout(Duration::from_secs(u64::from(seconds.max(1))))
    }
}

const ICMP_PORT_UNREACHABLE: u8 = 3;

/// Removes an instance's table; answers how many tables of other instances stay.
pub(crate) async fn remove_table(instance: &str) -> Result<usize, Error> {
    let name = table(instance);
    let fail = |e| Error::kernel(format!("delete the nftables table {name}"), e);
    let connection = Connection::<Nftables>::new().map_err(fail)?;
    let tables = connection.list_tables_in(Family::Ip).await.map_err(fail)?;
    if tables.iter().any(|t| t.name == name) {
        connection.del_table(name.as_str(), Family::Ip).await.map_err(fail)?;
    }
    Ok(tables.iter().filter(|t| t.name != name && t.name.starts_with(TABLE)).count())
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

/// Loads the destination into registers as the map's key lays it out, and goes where the map says.
fn destination_lookup(with_address: bool, map: &str) -> Vec<Expr> {
    let word = |n| Register::word(n).unwrap_or(Register::R0);
    let first = usize::from(with_address);
    let mut expressions = Vec::new();
    if with_address {
        expressions.push(Expr::Payload { dreg: word(0), base: PayloadBase::Network, offset: 16, len: 4 });
    }
    expressions.push(Expr::Meta { dreg: word(first), key: MetaKey::L4Proto });
    expressions.push(Expr::Payload { dreg: word(first + 1), base: PayloadBase::Transport, offset: 2, len: 2 });
    expressions.push(LookupExpr::new(map, Register::R0).dreg(Register::Verdict).into());
    expressions
}

/// [`Rule::expressions`] replaces what the rule has; this appends.
trait ExpressionsAfter {
    fn expressions_after(self, expressions: Vec<Expr>) -> Self;
}

impl ExpressionsAfter for Rule {
    fn expressions_after(self, expressions: Vec<Expr>) -> Self {
        expressions.into_iter().fold(self, |rule, expression| rule.expr(expression))
    }
}

fn service_key((address, protocol, port): &(Ipv4Addr, Protocol, u16)) -> SetElement {
    SetElement::concat([SetElement::ipv4(*address), SetElement::inet_proto(protocol.number()), SetElement::port(*port)])
}

fn port_key((protocol, port): &(Protocol, u16)) -> SetElement {
    SetElement::concat([SetElement::inet_proto(protocol.number()), SetElement::port(*port)])
}

fn hairpin_key(address: &Ipv4Addr) -> SetElement {
    SetElement::concat([SetElement::ipv4(*address), SetElement::ipv4(*address)])
}

fn to_chain(key: SetElement, chain: &str) -> nlink::Result<SetElement> {
    Ok(key.verdict(Verdict::GotoTo(ChainName::new(chain)?)))
}

fn add(transaction: Transaction, set: &Set, elements: Vec<SetElement>) -> Transaction {
    if elements.is_empty() { transaction } else { transaction.add_set_elements(set, &elements) }
}

fn delete(transaction: Transaction, set: &Set, elements: Vec<SetElement>) -> Transaction {
    if elements.is_empty() { transaction } else { transaction.del_set_elements(set, &elements) }
}

fn affinity_sets(targets: &std::collections::BTreeMap<String, Target>) -> Vec<(String, u32)> {
    let sticky = targets.iter().filter_map(|(chain, t)| t.affinity_seconds.map(|s| (chain, t, s)));
    sticky.flat_map(|(chain, t, s)| t.endpoints.iter().map(move |e| (affinity_set(chain, *e, s), s))).collect()
}
