//! Which ranges are free of the host's routes and addresses.

use crate::{Error, Ranges, wire::Wire};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use std::net::{IpAddr, Ipv4Addr};

/// Where ranges are looked for, in this order: one /16 for pods, one for services. The first pair is what small distributions use; then
/// other corners of the private ranges, for hosts whose VPN routes all of 10.0.0.0/8; last the ranges for carriers and for benchmarks.
const PLACES: [([u8; 2], [u8; 2]); 6] =
    [([10, 42], [10, 43]), ([10, 142], [10, 143]), ([10, 242], [10, 243]), ([172, 28], [172, 29]), ([100, 108], [100, 109]), ([198, 18], [198, 19])];
/// 253 pods a node, 4,093 services.
const PODS_PREFIX: u8 = 24;
const SERVICES_PREFIX: u8 = 20;

type Range = (Ipv4Addr, u8);

/// Picks ranges that collide with no route or address of the host, those of other running instances among them. The same host, the same answer.
pub async fn choose_ranges() -> Result<Ranges, Error> {
    let taken = crate::network::blocking(|| taken(&mut Wire::open()?)).await?;
    choose(&taken)
}

/// Everything the host has a route to or an address in, but for default routes (VPNs write those as two halves, `/1`).
pub(crate) fn taken(wire: &mut Wire) -> Result<Vec<Range>, Error> {
    let mut taken = Vec::new();
    for message in wire.ask("list routes", Message::GetRoute(RouteMessage::default()), true)? {
        let Message::NewRoute(route) = message else { continue };
        let length = route.header.destination_prefix_length;
        for attribute in &route.attributes {
            if let RouteAttribute::Destination(RouteAddress::Inet(address)) = attribute
                && length > 1
            {
                taken.push((*address, length));
            }
        }
    }
    for message in wire.ask("list addresses", Message::GetAddress(AddressMessage::default()), true)? {
        let Message::NewAddress(address) = message else { continue };
        for attribute in &address.attributes {
            if let AddressAttribute::Address(IpAddr::V4(v4)) | AddressAttribute::Local(IpAddr::V4(v4)) = attribute {
                taken.push((*v4, address.header.prefix_len));
            }
        }
    }
    Ok(taken)
}

fn choose(taken: &[Range]) -> Result<Ranges, Error> {
    let pods = first_free(PLACES.iter().map(|(pods, _)| *pods), PODS_PREFIX, taken);
    let services = first_free(PLACES.iter().map(|(_, services)| *services), SERVICES_PREFIX, taken);
    let none = |what| {
        let tried: Vec<String> = PLACES.iter().map(|(a, b)| format!("{}.{}.0.0/15", a[0], a[1].min(b[1]))).collect();
        Error::NoRange { what, tried: tried.join(", ") }
    };
    Ok(Ranges { pods: pods.ok_or_else(|| none("pod range"))?, services: services.ok_or_else(|| none("service range"))? })
}

fn first_free(places: impl Iterator<Item = [u8; 2]>, length: u8, taken: &[Range]) -> Option<Range> {
    let size = 1u32 << (32 - length);
    let mut candidates = places.flat_map(|[a, b]| {
        let base = u32::from(Ipv4Addr::new(a, b, 0, 0));
        (0..65536 / size).map(move |i| (Ipv4Addr::from(base + i * size), length))
    });
    candidates.find(|candidate| !taken.iter().any(|t| overlap(*t, *candidate)))
}

fn overlap(a: Range, b: Range) -> bool {
    let shorter = a.1.min(b.1).min(32);
    let mask = u32::MAX.checked_shl(32 - u32::from(shorter)).unwrap_or(0);
    u32::from(a.0) & mask == u32::from(b.0) & mask
}

/// Whether an address is in a range.
pub(crate) fn contains(range: Range, address: Ipv4Addr) -> bool {
    overlap(range, (address, 32))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(taken: &str, expected: &str) {
        let parse = |word: &str| {
            let (address, length) = word.split_once('/').unwrap();
            (address.parse().unwrap(), length.parse().unwrap())
        };
        let taken: Vec<Range> = taken.split_whitespace().map(parse).collect();
        let chosen = match choose(&taken) {
            Ok(r) => format!("{}/{} {}/{}", r.pods.0, r.pods.1, r.services.0, r.services.1),
            Err(e) => e.to_string(),
        };
        assert_eq!(chosen, expected, "taken: {taken:?}");
    }

    #[test]
    fn the_first_choice_is_always_the_same() {
        check("", "10.42.0.0/24 10.43.0.0/20");
        check("192.168.1.0/24 172.17.0.0/16", "10.42.0.0/24 10.43.0.0/20");
    }

    #[test]
    fn a_second_instance_beside_the_first_takes_the_next() {
        check("10.42.0.1/32 10.42.0.7/32 10.43.0.0/20", "10.42.1.0/24 10.43.16.0/20");
    }

    #[test]
    fn a_vpn_that_owns_all_of_ten_is_left_alone() {
        check("10.0.0.0/8", "172.28.0.0/24 172.29.0.0/20");
        check("10.0.0.0/8 172.16.0.0/12", "100.108.0.0/24 100.109.0.0/20");
    }

    #[test]
    fn when_everything_is_routed_the_error_says_what_was_tried() {
        check(
            "10.0.0.0/8 172.16.0.0/12 100.64.0.0/10 198.18.0.0/15",
            "network: no pod range is free of the host's routes; tried 10.42.0.0/15, 10.142.0.0/15, 10.242.0.0/15, 172.28.0.0/15, \
             100.108.0.0/15, 198.18.0.0/15",
        );
    }
}
