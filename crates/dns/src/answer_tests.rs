//! Kubernetes' DNS specification as a table, then what CoreDNS does beyond it.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::Config;
use crate::zone::{SharedZone, entry};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use std::sync::Arc;

/// One service a line: `<ns>/<name> <address | None | alias> [not-ready-too] [name:port/proto…] = <address[~hostname][!not ready]>…`; `pod <ns> <address>`.
pub(crate) fn zone(text: &str) -> SharedZone {
    let config = Config { domain: "cluster.local".into(), listen: ([10, 43, 0, 10], 53).into(), upstreams: vec![], host: Some([10, 42, 0, 1].into()) };
    let mut zone = Zone::new(&config).unwrap();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        if let Some(pod) = line.strip_prefix("pod ") {
            let (namespace, address) = pod.split_once(' ').unwrap();
            zone.set_pod(namespace, address.parse().unwrap(), true);
            continue;
        }
        let (left, right) = line.split_once('=').unwrap_or((line, ""));
        let mut words = left.split_whitespace();
        let (namespace, name) = words.next().unwrap().split_once('/').unwrap();
        let (service, slice) = objects(words.next().unwrap(), words.collect(), right);
        zone.set_service(namespace, name, entry(&service, std::iter::once(&slice)));
    }
    Arc::new(parking_lot::RwLock::new(zone))
}

fn objects(address: &str, words: Vec<&str>, endpoints: &str) -> (core::Service, discovery::EndpointSlice) {
    let mut spec = core::ServiceSpec::default();
    if address == "None" || address.parse::<Ipv4Addr>().is_ok() {
        spec.cluster_ip = Some(address.into());
    } else {
        spec.type_ = Some("ExternalName".into());
        spec.external_name = Some(address.into());
    }
    let mut slice = discovery::EndpointSlice::default();
    for word in words {
        if word == "not-ready-too" {
            spec.publish_not_ready_addresses = Some(true);
            continue;
        }
        let (name, rest) = word.split_once(':').unwrap();
        let (port, protocol) = rest.split_once('/').unwrap();
        let (port, target) = port.split_once('>').unwrap_or((port, port));
        let name = Some(name.to_owned()).filter(|n| !n.is_empty());
        let protocol = Some(protocol.to_uppercase());
        let own = core::ServicePort { name: name.clone(), port: port.parse().unwrap(), protocol: protocol.clone(), ..Default::default() };
        spec.ports.get_or_insert_default().push(own);
        let port = discovery::EndpointPort { name, port: Some(target.parse().unwrap()), protocol, app_protocol: None };
        slice.ports.get_or_insert_default().push(port);
    }
    for word in endpoints.split_whitespace() {
        let (word, ready) = word.strip_suffix('!').map_or((word, true), |w| (w, false));
        let (address, hostname) = word.split_once('~').map_or((word, None), |(a, h)| (a, Some(h.to_owned())));
        let conditions = discovery::EndpointConditions { ready: Some(ready), ..Default::default() };
        slice.endpoints.get_or_insert_default().push(discovery::Endpoint { addresses: vec![address.into()], hostname, conditions: Some(conditions), ..Default::default() });
    }
    (core::Service { spec: Some(spec), ..Default::default() }, slice)
}

const CLUSTER: &str = "
    default/kubernetes 10.43.0.1 https:443/tcp = 192.0.2.2
    default/web 10.43.0.20 http:80>8080/tcp dns:53/udp = 10.42.0.5~web-0 10.42.0.6
    default/db None pg:5432/tcp = 10.42.0.7~db-0 10.42.0.8~db-1 10.42.0.9~db-2!
    default/peers None not-ready-too :7000/tcp = 10.42.0.7~db-0 10.42.0.9~db-2!
    default/plain None http:80/tcp = 10.42.0.11
    default/empty None pg:5432/tcp
    default/docs example.org
    default/short web.default.svc.cluster.local
    default/loop loop.default.svc.cluster.local
    other/thing 10.43.0.30 :1/tcp
    pod default 10.42.0.5
    pod default 10.42.0.44
";

fn check(question: &str, expected: &str) {
    let zone = zone(CLUSTER);
    let (kind, asked) = question.split_once(' ').unwrap();
    let found = answer(&zone.read(), &name(asked).unwrap(), kind.parse().unwrap());
    assert_eq!(show(found), expected, "{question}");
}

fn show(answer: Answer) -> String {
    let list = |records: &[Record]| {
        let mut lines: Vec<String> = records.iter().map(|r| format!("{} {}", r.record_type(), r.data)).collect();
        lines.sort();
        lines.join(", ")
    };
    match answer {
        Answer::Records(records, more) if more.is_empty() => list(&records),
        Answer::Records(records, more) => format!("{} + {}", list(&records), list(&more)),
        Answer::Alias(records, name) => format!("{} then {name}", list(&records)),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_service_with_an_address_answers_it() {
    check("A web.default.svc.cluster.local", "A 10.43.0.20");
    check("A WEB.Default.svc.CLUSTER.local", "A 10.43.0.20");
    check("AAAA web.default.svc.cluster.local", "NoData");
    check("A web.other.svc.cluster.local", "NoName");
    check("A web.default.svc.cluster.local.default.svc.cluster.local", "NoName");
}

#[test]
fn a_headless_service_answers_its_ready_pods() {
    check("A db.default.svc.cluster.local", "A 10.42.0.7, A 10.42.0.8");
    check("A db-0.db.default.svc.cluster.local", "A 10.42.0.7");
    check("AAAA db-0.db.default.svc.cluster.local", "NoData");
    check("A db-2.db.default.svc.cluster.local", "NoName");
    check("A empty.default.svc.cluster.local", "NoData");
    check("A 10-42-0-11.plain.default.svc.cluster.local", "A 10.42.0.11");
    check("A 10-42-0-7.db.default.svc.cluster.local", "NoName");
}

#[test]
fn a_service_that_publishes_unready_addresses_answers_those_too() {
    check("A peers.default.svc.cluster.local", "A 10.42.0.7, A 10.42.0.9");
    check("A db-2.peers.default.svc.cluster.local", "A 10.42.0.9");
}

#[test]
fn srv_of_a_named_port() {
    check("SRV _http._tcp.web.default.svc.cluster.local", "SRV 0 100 80 web.default.svc.cluster.local. + A 10.43.0.20");
    check("SRV _http._udp.web.default.svc.cluster.local", "NoName");
    check("SRV _nope._tcp.web.default.svc.cluster.local", "NoName");
    check("A _http._tcp.web.default.svc.cluster.local", "NoData");
    check("A _tcp.web.default.svc.cluster.local", "NoData");
    check(
        "SRV _pg._tcp.db.default.svc.cluster.local",
        "SRV 0 50 5432 db-0.db.default.svc.cluster.local., SRV 0 50 5432 db-1.db.default.svc.cluster.local. + A 10.42.0.7, A 10.42.0.8",
    );
    check("SRV _http._tcp.plain.default.svc.cluster.local", "SRV 0 100 80 10-42-0-11.plain.default.svc.cluster.local. + A 10.42.0.11");
}

#[test]
fn an_unnamed_port_has_its_srv_at_the_services_own_name() {
    check(
        "SRV peers.default.svc.cluster.local",
        "SRV 0 50 7000 db-0.peers.default.svc.cluster.local., SRV 0 50 7000 db-2.peers.default.svc.cluster.local. + A 10.42.0.7, A 10.42.0.9",
    );
    check("SRV _tcp.peers.default.svc.cluster.local", "NoData");
    check("SRV __tcp._tcp.peers.default.svc.cluster.local", "NoName");
}

#[test]
fn an_external_name_is_an_alias_and_is_followed() {
    check("CNAME docs.default.svc.cluster.local", "CNAME example.org.");
    check("A docs.default.svc.cluster.local", "CNAME example.org. then example.org.");
    check("A short.default.svc.cluster.local", "A 10.43.0.20, CNAME web.default.svc.cluster.local.");
    check("AAAA short.default.svc.cluster.local", "CNAME web.default.svc.cluster.local.");
    let endless = vec!["CNAME loop.default.svc.cluster.local."; CHAIN_LIMIT].join(", ");
    check("A loop.default.svc.cluster.local", &endless);
}

#[test]
fn pods_answer_by_their_address() {
    check("A 10-42-0-44.default.pod.cluster.local", "A 10.42.0.44");
    check("AAAA 10-42-0-44.default.pod.cluster.local", "NoData");
    check("A 10-42-0-45.default.pod.cluster.local", "NoName");
    check("A 10-42-0-44.other.pod.cluster.local", "NoName");
    check("A nonsense.default.pod.cluster.local", "NoName");
}

#[test]
fn addresses_lead_back_to_names() {
    check("PTR 20.0.43.10.in-addr.arpa", "PTR web.default.svc.cluster.local.");
    check("PTR 8.0.42.10.in-addr.arpa", "PTR db-1.db.default.svc.cluster.local.");
    check("PTR 7.0.42.10.in-addr.arpa", "PTR db-0.db.default.svc.cluster.local., PTR db-0.peers.default.svc.cluster.local.");
    check("PTR 44.0.42.10.in-addr.arpa", "PTR 10-42-0-44.default.pod.cluster.local.");
    check("A 20.0.43.10.in-addr.arpa", "NoData");
    check("PTR 1.2.0.192.in-addr.arpa", "Elsewhere");
    check("PTR nonsense.2.0.192.in-addr.arpa", "Elsewhere");
}

#[test]
fn what_lies_between_is_there_without_records_and_the_rest_is_not() {
    for between in ["svc", "pod", "default.svc", "default.pod", "other.svc"] {
        check(&format!("A {between}.cluster.local"), "NoData");
    }
    for nowhere in ["nope.svc", "nope", "a.b.c", "web.default.nope", "x.y.z.web.default.svc", "google.com"] {
        check(&format!("A {nowhere}.cluster.local"), "NoName");
    }
    check("A cluster.local", "NoData");
    check("A local", "Elsewhere");
    check("A notcluster.local", "Elsewhere");
    check("A example.org", "Elsewhere");
}

#[test]
fn the_domain_describes_itself() {
    check("TXT dns-version.cluster.local", "TXT 1.1.0");
    check("NS cluster.local", "NS ns.dns.cluster.local.");
    check("A ns.dns.cluster.local", "A 10.43.0.10");
    check("SOA cluster.local", "SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 0");
    check("A host.mainstay.internal", "A 10.42.0.1");
}

#[test]
fn a_service_that_goes_takes_its_names_along() {
    let zone = zone(CLUSTER);
    let ask = |question: &str, kind| show(answer(&zone.read(), &name(question).unwrap(), kind));
    zone.write().set_service("default", "db", None);
    assert_eq!(ask("db-1.db.default.svc.cluster.local", RecordType::A), "NoName");
    assert_eq!(ask("8.0.42.10.in-addr.arpa", RecordType::PTR), "Elsewhere");
    assert_eq!(ask("7.0.42.10.in-addr.arpa", RecordType::PTR), "PTR db-0.peers.default.svc.cluster.local.");
    zone.write().set_service("other", "thing", None);
    assert_eq!(ask("other.svc.cluster.local", RecordType::A), "NoName");
}
