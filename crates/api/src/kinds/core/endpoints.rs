//! Endpoints, which upstream has deprecated in favour of EndpointSlice.

use crate::columns::{AGE, NAME, NONE, some_of};
use crate::names;
use crate::value::{Access, fill_text, items_mut};
use crate::{Column, Errors, Path};
use serde_json::Value;

pub(super) const COLUMNS: &[Column] = &[NAME, Column::new("Endpoints", "string", "Addresses that are ready, with each port.", cell), AGE];

fn cell(endpoints: &Value, _: i64) -> Value {
    let subsets = endpoints.list("subsets");
    if subsets.is_empty() {
        return NONE.into();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = subset.list("addresses").iter().map(|a| a.text("ip"));
        match subset.list("ports") {
            [] => all.extend(addresses.map(str::to_owned)),
            ports => {
                for port in ports {
                    let number = port.int("port").unwrap_or(0);
                    all.extend(addresses.clone().map(|ip| if ip.contains(':') { format!("[{ip}]:{number}") } else { format!("{ip}:{number}") }));
                }
            }
        }
    }
    some_of(&all, 3, "").into()
}

pub(super) fn default(endpoints: &mut Value) {
    for subset in items_mut(endpoints, "subsets") {
        for port in items_mut(subset, "ports") {
            fill_text(port, "protocol", "TCP");
        }
    }
}

pub(super) fn validate(endpoints: &Value, errors: &mut Errors) {
    let path = Path::new("subsets");
    for (i, subset) in endpoints.list("subsets").iter().enumerate() {
        let at = path.index(i);
        if subset.list("addresses").is_empty() && subset.list("notReadyAddresses").is_empty() {
            errors.required(at, "must specify `addresses` or `notReadyAddresses`");
        }
        for list in ["addresses", "notReadyAddresses"] {
            let path = at.at(list);
            for (j, address) in subset.list(list).iter().enumerate() {
                let at = path.index(j);
                validate_ip(address.text("ip"), &at.at("ip"), errors);
                let host = address.text("hostname");
                if !host.is_empty() {
                    errors.rule(at.at("hostname"), host, names::dns_label);
                }
            }
        }
        let ports = subset.list("ports");
        let path = at.at("ports");
        for (j, port) in ports.iter().enumerate() {
            let at = path.index(j);
            let name = port.text("name");
            if name.is_empty() && ports.len() > 1 {
                errors.required(at.at("name"), "");
            } else if !name.is_empty() {
                errors.rule(at.at("name"), name, names::dns_label);
            }
            let number = port.int("port").unwrap_or(0);
            if !(1..=65535).contains(&number) {
                errors.invalid(at.at("port"), &number.into(), "must be between 1 and 65535, inclusive");
            }
            errors.one_of(at.at("protocol"), port.text("protocol"), &["SCTP", "TCP", "UDP"]);
        }
    }
}

/// An address that an endpoint may have: not this host's own, not a group's.
pub(crate) fn validate_ip(text: &str, path: &Path<'_>, errors: &mut Errors) {
    let Ok(address) = text.parse::<std::net::IpAddr>() else {
        return errors.invalid_text(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    };
    let (link_local, link_multicast) = match address {
        std::net::IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        std::net::IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] == 0xff02),
    };
    let wrong = [
        (address.is_unspecified(), format!("may not be unspecified ({text})")),
        (address.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()),
        (link_multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()),
    ];
    for (is, detail) in wrong {
        if is {
            errors.invalid_text(path, text, &detail);
        }
    }
}
