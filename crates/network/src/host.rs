//! What the host itself gets: addresses on `lo`, the route to the services, forwarding.

use crate::record::{self, HostRecord, Paths};
use crate::wire::{Request, Wire};
use crate::{Error, Ranges, link};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// Where the host has no uplink whose MTU could be taken.
const DEFAULT_MTU: u32 = 1500;

/// Adds what is missing, the record first; other ranges than the record's are undone before.
pub(crate) fn prepare(wire: &mut Wire, paths: &Paths, ranges: &Ranges) -> Result<HostRecord, Error> {
    let before: Option<HostRecord> = record::read(&paths.host())?;
    if let Some(old) = &before
        && old.ranges != *ranges
    {
        wire.send(requests(&old.ranges, false))?;
    }
    let off = read_forwarding()? == "0";
    let record = HostRecord {
        ranges: ranges.clone(),
        forwarding_was_off: off || before.as_ref().is_some_and(|b| b.forwarding_was_off),
        docker_user: before.is_some_and(|b| b.docker_user),
    };
    record::write(&paths.host(), &record)?;
    if off {
        write_forwarding("1")?;
    }
    wire.send(requests(ranges, true))?;
    Ok(record)
}

/// Takes it all away again; forwarding only if it was ours and `alone` (no other instance needs it).
pub(crate) fn undo(wire: &mut Wire, record: &HostRecord, alone: bool) -> Result<(), Error> {
    wire.send(requests(&record.ranges, false))?;
    if record.forwarding_was_off && alone {
        write_forwarding("0")?;
    }
    Ok(())
}

/// Deleting goes the other way round: routes name the addresses as their source.
fn requests(ranges: &Ranges, add: bool) -> Vec<Request> {
    let mut requests = vec![
        link::loopback_address(ranges.host(), true, add),
        link::loopback_address(ranges.kubernetes(), false, add),
        link::loopback_address(ranges.dns(), false, add),
        link::service_route(ranges, add),
    ];
    if !add {
        requests.reverse();
    }
    requests
}

/// MTU of the interface with the default route.
pub(crate) fn uplink_mtu(wire: &mut Wire) -> Result<u32, Error> {
    let routes = wire.ask("list routes", Message::GetRoute(RouteMessage::default()), true)?;
    let uplink = routes.iter().find_map(|m| match m {
        Message::NewRoute(r) if r.header.destination_prefix_length == 0 && r.header.table == 254 => {
            r.attributes.iter().find_map(|a| if let RouteAttribute::Oif(index) = a { Some(*index) } else { None })
        }
        _ => None,
    });
    let Some(uplink) = uplink else { return Ok(DEFAULT_MTU) };
    Ok(link::all(wire)?.into_iter().find(|(_, index, _)| *index == uplink).map_or(DEFAULT_MTU, |(_, _, mtu)| mtu))
}

/// Lets replies to what came from 127.0.0.1 (a node port used on the host) back in through this interface. The rules drop what a pod
/// itself would send to 127.0.0.0/8, which is what makes this setting dangerous elsewhere (CVE-2020-8558).
pub(crate) fn allow_loopback_replies(interface: &str) -> Result<(), Error> {
    let file = format!("/proc/sys/net/ipv4/conf/{interface}/route_localnet");
    std::fs::write(&file, "1").map_err(|e| Error::kernel(format!("write {file}"), e))
}

fn read_forwarding() -> Result<String, Error> {
    let text = std::fs::read_to_string(IP_FORWARD).map_err(|e| Error::kernel(format!("read {IP_FORWARD}"), e))?;
    Ok(text.trim().to_owned())
}

fn write_forwarding(value: &str) -> Result<(), Error> {
    std::fs::write(IP_FORWARD, value).map_err(|e| Error::kernel(format!("write {value} to {IP_FORWARD}"), e))
}
