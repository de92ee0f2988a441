//! A question to records.

use crate::zone::{Endpoint, Kind, Port, Service, Zone};
use hickory_proto::rr::rdata::{A, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::Ipv4Addr;

/// Of names with an address of their own, as CoreDNS' plugin has it.
const TTL: u32 = 5;
/// Of names that lead to pods: a member that is gone must be gone for its peers too. Not 0, which some resolvers take amiss.
const POD_TTL: u32 = 1;
/// What the kubernetes/dns specification is at.
const SCHEMA: &str = "1.1.0";
/// Aliases that lead to aliases, within the cluster.
const CHAIN_LIMIT: usize = 8;

/// What is known about a question.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    /// Records, and others that spare the next question.
    Records(Vec<Record>, Vec<Record>),
    /// An alias to a name outside: the records so far, and whom to ask.
    Alias(Vec<Record>, Name),
    /// The name is there, records of this type are not.
    NoData,
    /// No such name.
    NoName,
    /// Not our domain.
    Elsewhere,
}

/// Answers from the table. Names compare without case; records carry the name as it was asked.
pub(crate) fn answer(zone: &Zone, name: &Name, kind: RecordType) -> Answer {
    let mut records = Vec::new();
    let mut name = name.clone();
    for _ in 0..CHAIN_LIMIT {
        match step(zone, &name, kind) {
            Step::Alias(record, target) => {
                records.push(record);
                name = target;
            }
            Step::Done(Answer::Records(found, more)) => {
                records.extend(found);
                return Answer::Records(records, more);
            }
            Step::Done(Answer::Elsewhere) if !records.is_empty() => return Answer::Alias(records, name),
            Step::Done(_) if !records.is_empty() => return Answer::Records(records, Vec::new()),
            Step::Done(other) => return other,
        }
    }
    Answer::Records(records, Vec::new())
}

/// The zone's SOA, for negative answers: `minimum` 0, as a name that is not there may be there in a moment (RFC 2308, 5).
pub(crate) fn soa(zone: &Zone) -> Option<Record> {
    let server = zone.below(&["ns", "dns"]).ok()?;
    let mailbox = zone.below(&["hostmaster"]).ok()?;
    let soa = SOA::new(server, mailbox, 1, 7200, 1800, 86400, 0);
    Some(Record::from_rdata(zone.domain.clone(), 0, RData::SOA(soa)))
}

enum Step {
    Done(Answer),
    Alias(Record, Name),
}

fn step(zone: &Zone, name: &Name, kind: RecordType) -> Step {
    let labels: Vec<String> = name.iter().map(|l| String::from_utf8_lossy(l).to_ascii_lowercase()).collect();
    let words: Vec<&str> = labels.iter().map(String::as_str).collect();
    let depth = zone.domain_labels.len();
    let ours = words.len() >= depth && words[words.len() - depth..].iter().eq(zone.domain_labels.iter());
    if !ours {
        return Step::Done(outside(zone, name, &words, kind));
    }
    let make = |data: RData, ttl| Record::from_rdata(name.clone(), ttl, data);
    let done = |found: bool, records: Vec<Record>| {
        Step::Done(match (found, records.is_empty()) {
            (false, _) => Answer::NoName,
            (true, true) => Answer::NoData,
            (true, false) => Answer::Records(records, Vec::new()),
        })
    };
    match &words[..words.len() - depth] {
        [] => done(true, apex(zone, name, kind)),
        ["svc" | "pod" | "dns"] => done(true, Vec::new()),
        ["dns-version"] => done(true, when(kind, RecordType::TXT, || make(RData::TXT(TXT::new(vec![SCHEMA.into()])), TTL))),
        ["ns", "dns"] => done(true, zone.server.map(|s| when(kind, RecordType::A, || make(RData::A(A(s)), TTL))).unwrap_or_default()),
        [namespace, "svc" | "pod"] => done(zone.has_namespace(namespace), Vec::new()),
        [address, namespace, "pod"] => match address.replace('-', ".").parse::<Ipv4Addr>() {
            Ok(ip) if zone.has_pod(namespace, ip) => done(true, when(kind, RecordType::A, || make(RData::A(A(ip)), POD_TTL))),
            _ => done(false, Vec::new()),
        },
        [rest @ .., service, namespace, "svc"] => match zone.service(namespace, service) {
            Some(entry) => below_service(zone, name, kind, &Place { service, namespace, entry }, rest),
            None => done(false, Vec::new()),
        },
        _ => done(false, Vec::new()),
    }
}

fn when(kind: RecordType, wanted: RecordType, record: impl FnOnce() -> Record) -> Vec<Record> {
    if kind == wanted || kind == RecordType::ANY { vec![record()] } else { Vec::new() }
}

/// What is not below the domain: addresses back to names, and the host.
fn outside(zone: &Zone, name: &Name, words: &[&str], kind: RecordType) -> Answer {
    match words {
        [d, c, b, a, "in-addr", "arpa"] => {
            let Ok(address) = format!("{a}.{b}.{c}.{d}").parse::<Ipv4Addr>() else { return Answer::Elsewhere };
            let names = zone.names_of(address);
            if names.is_empty() {
                return Answer::Elsewhere;
            }
            if !matches!(kind, RecordType::PTR | RecordType::ANY) {
                return Answer::NoData;
            }
            Answer::Records(names.into_iter().map(|n| Record::from_rdata(name.clone(), POD_TTL, RData::PTR(PTR(n)))).collect(), Vec::new())
        }
        ["host", "mainstay", "internal"] => match zone.host {
            Some(host) if matches!(kind, RecordType::A | RecordType::ANY) => {
                Answer::Records(vec![Record::from_rdata(name.clone(), TTL, RData::A(A(host)))], Vec::new())
            }
            Some(_) => Answer::NoData,
            None => Answer::NoName,
        },
        _ => Answer::Elsewhere,
    }
}

fn apex(zone: &Zone, name: &Name, kind: RecordType) -> Vec<Record> {
    let mut records = Vec::new();
    if matches!(kind, RecordType::SOA | RecordType::ANY) {
        records.extend(soa(zone));
    }
    if matches!(kind, RecordType::NS | RecordType::ANY) {
        records.extend(zone.below(&["ns", "dns"]).ok().map(|ns| Record::from_rdata(name.clone(), TTL, RData::NS(NS(ns)))));
    }
    records
}

struct Place<'a> {
    service: &'a str,
    namespace: &'a str,
    entry: &'a Service,
}

/// The service's own name, `<endpoint>.<service>`, `_<protocol>.<service>`, `_<port>._<protocol>.<service>`.
fn below_service(zone: &Zone, name: &Name, kind: RecordType, place: &Place<'_>, rest: &[&str]) -> Step {
    let Service { kind: meaning, ports, endpoints } = place.entry;
    if let Kind::Alias(target) = meaning {
        return match rest {
            [] => alias(name, kind, target),
            _ => Step::Done(Answer::NoName),
        };
    }
    let wants_srv = matches!(kind, RecordType::SRV);
    let found = match rest {
        [] if wants_srv => return Step::Done(srv(zone, name, place, endpoints, |_| true)),
        [] => match meaning {
            Kind::Address(address) => addresses(name, kind, TTL, [*address]),
            _ => addresses(name, kind, POD_TTL, endpoints.iter().map(|e| e.address)),
        },
        [protocol] if protocol.starts_with('_') => {
            let there = all_ports(ports, endpoints).any(|p| p.protocol == protocol[1..]);
            return Step::Done(if there { Answer::NoData } else { Answer::NoName });
        }
        [port, protocol] if port.starts_with('_') && protocol.starts_with('_') => {
            let matches = |p: &Port| !p.name.is_empty() && p.name == port[1..] && p.protocol == protocol[1..];
            if !all_ports(ports, endpoints).any(matches) {
                return Step::Done(Answer::NoName);
            }
            return Step::Done(if wants_srv { srv(zone, name, place, endpoints, matches) } else { Answer::NoData });
        }
        [label] => {
            let those: Vec<Endpoint> = endpoints.iter().filter(|e| e.label == *label).cloned().collect();
            if those.is_empty() {
                return Step::Done(Answer::NoName);
            }
            if wants_srv {
                return Step::Done(endpoint_srv(zone, name, place, &those, |_| true));
            }
            addresses(name, kind, POD_TTL, those.iter().map(|e| e.address))
        }
        _ => return Step::Done(Answer::NoName),
    };
    Step::Done(if found.is_empty() { Answer::NoData } else { Answer::Records(found, Vec::new()) })
}

fn alias(name: &Name, kind: RecordType, target: &Name) -> Step {
    let record = Record::from_rdata(name.clone(), TTL, RData::CNAME(CNAME(target.clone())));
    match kind {
        RecordType::CNAME | RecordType::ANY => Step::Done(Answer::Records(vec![record], Vec::new())),
        _ => Step::Alias(record, target.clone()),
    }
}

fn addresses(name: &Name, kind: RecordType, ttl: u32, addresses: impl IntoIterator<Item = Ipv4Addr>) -> Vec<Record> {
    if !matches!(kind, RecordType::A | RecordType::ANY) {
        return Vec::new();
    }
    let mut seen = std::collections::HashSet::new();
    let unique = addresses.into_iter().filter(|a| seen.insert(*a));
    unique.map(|a| Record::from_rdata(name.clone(), ttl, RData::A(A(a)))).collect()
}

fn all_ports<'a>(ports: &'a [Port], endpoints: &'a [Endpoint]) -> impl Iterator<Item = &'a Port> {
    ports.iter().chain(endpoints.iter().flat_map(|e| e.ports.iter()))
}

/// Of a service with an address: its port there. Of a headless one: each endpoint's own port.
fn srv(zone: &Zone, name: &Name, place: &Place<'_>, endpoints: &[Endpoint], wanted: impl Fn(&Port) -> bool) -> Answer {
    let Kind::Address(address) = place.entry.kind else { return endpoint_srv(zone, name, place, endpoints, wanted) };
    let Ok(target) = zone.below(&[place.service, place.namespace, "svc"]) else { return Answer::NoData };
    let ports: Vec<u16> = place.entry.ports.iter().filter(|p| wanted(p)).map(|p| p.port).collect();
    let records = targets(name, TTL, ports.iter().map(|p| (*p, target.clone())).collect());
    let more = vec![Record::from_rdata(target, TTL, RData::A(A(address)))];
    if records.is_empty() { Answer::NoData } else { Answer::Records(records, more) }
}

fn endpoint_srv(zone: &Zone, name: &Name, place: &Place<'_>, endpoints: &[Endpoint], wanted: impl Fn(&Port) -> bool) -> Answer {
    let mut found = Vec::new();
    let mut more = Vec::new();
    for endpoint in endpoints {
        let Ok(target) = zone.below(&[&endpoint.label, place.service, place.namespace, "svc"]) else { continue };
        let before = found.len();
        found.extend(endpoint.ports.iter().filter(|p| wanted(p)).map(|p| (p.port, target.clone())));
        if found.len() > before {
            more.push(Record::from_rdata(target, POD_TTL, RData::A(A(endpoint.address))));
        }
    }
    let records = targets(name, POD_TTL, found);
    if records.is_empty() { Answer::NoData } else { Answer::Records(records, more) }
}

/// Weights as CoreDNS gives them: a hundred shared out.
fn targets(name: &Name, ttl: u32, targets: Vec<(u16, Name)>) -> Vec<Record> {
    let weight = 100 / u16::try_from(targets.len().clamp(1, 100)).unwrap_or(100);
    targets.into_iter().map(|(port, target)| Record::from_rdata(name.clone(), ttl, RData::SRV(SRV::new(0, weight, port, target)))).collect()
}

/// An absolute name from text.
#[cfg(test)]
pub(crate) fn name(text: &str) -> Option<Name> {
    crate::zone::fqdn(&text.trim_end_matches('.').split('.').collect::<Vec<_>>()).ok()
}

#[cfg(test)]
#[path = "answer_tests.rs"]
pub(crate) mod tests;
