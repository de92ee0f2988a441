//! EndpointSlice.

use crate::columns::{AGE, NAME, some_of};
use crate::names;
use crate::value::{Access, fill, fill_text, items_mut};
use crate::{Column, Errors, Path};
use serde_json::Value;
use std::collections::BTreeSet;

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    Column::new("AddressType", "string", "What its addresses are.", |o, _| o.text("addressType").into()),
    Column::new("Ports", "string", "The ports every endpoint has.", |o, _| ports(o).into()),
    Column::new("Endpoints", "string", "The endpoints' addresses.", |o, _| {
        let all: Vec<String> = o.list("endpoints").iter().flat_map(|e| e.list("addresses")).filter_map(|a| a.as_str().map(str::to_owned)).collect();
        some_of(&all, 3, "<unset>").into()
    }),
    AGE,
];

fn ports(slice: &Value) -> String {
    let all: Vec<String> = slice
        .list("ports")
        .iter()
        .map(|port| match (port.int("port"), port.at("name").as_str()) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.to_owned(),
            (None, None) => "*".to_owned(),
        })
        .collect();
    some_of(&all, 3, "<unset>")
}

pub(super) fn default(slice: &mut Value) {
    for port in items_mut(slice, "ports") {
        fill(port, "name", "");
        fill_text(port, "protocol", "TCP");
    }
}

pub(super) fn validate(slice: &Value, errors: &mut Errors) {
    let kind = slice.text("addressType");
    if kind.is_empty() {
        errors.required("addressType", "");
    } else {
        errors.one_of("addressType", kind, &["FQDN", "IPv4", "IPv6"]);
    }
    validate_endpoints(slice.list("endpoints"), kind, errors);
    validate_ports(slice.list("ports"), errors);
}

fn validate_endpoints(endpoints: &[Value], kind: &str, errors: &mut Errors) {
    let path = Path::new("endpoints");
    if endpoints.len() > MAX_ENDPOINTS {
        return errors.too_many(path, endpoints.len(), MAX_ENDPOINTS);
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        let at = path.index(i);
        let addresses = endpoint.list("addresses");
        let list = at.at("addresses");
        if addresses.is_empty() {
            errors.required(list, "must contain at least 1 address");
        } else if addresses.len() > MAX_ADDRESSES {
            errors.too_many(list, addresses.len(), MAX_ADDRESSES);
        }
        for (j, address) in addresses.iter().enumerate() {
            validate_address(address.as_str().unwrap_or(""), kind, &list.index(j), errors);
        }
        if let Some(node) = endpoint.at("nodeName").as_str() {
            errors.rule(at.at("nodeName"), node, names::dns_subdomain);
        }
        if let Some(host) = endpoint.at("hostname").as_str() {
            errors.rule(at.at("hostname"), host, names::dns_label);
        }
    }
}

fn validate_address(address: &str, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    match kind {
        "IPv4" if address.parse::<std::net::Ipv4Addr>().is_err() => {
            errors.invalid_text(path, address, "must be an IPv4 address");
        }
        "IPv6" if address.parse::<std::net::Ipv6Addr>().is_err() => {
            errors.invalid_text(path, address, "must be an IPv6 address");
        }
        "IPv4" | "IPv6" => crate::kinds::core::validate_endpoint_ip(address, path, errors),
        "FQDN" => errors.rule(path, address, names::dns_subdomain),
        _ => {}
    }
}

fn validate_ports(ports: &[Value], errors: &mut Errors) {
    let path = Path::new("ports");
    if ports.len() > MAX_PORTS {
        return errors.too_many(path, ports.len(), MAX_PORTS);
    }
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at = path.index(i);
        let name = port.text("name");
        if !name.is_empty() {
            errors.rule(at.at("name"), name, names::dns_label);
        }
        if !seen.insert(name) {
            errors.duplicate(at.at("name"), &name.into());
        }
        errors.one_of(at.at("protocol"), port.text("protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    if new.at("addressType") != old.at("addressType") {
        errors.invalid("addressType", new.at("addressType"), "field is immutable");
    }
}
