//! The messages that make and unmake one pod's pair of interfaces.

use crate::{Error, Ranges, netns::Netns, wire::Request, wire::Wire};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use rtnetlink::{AddressMessageBuilder, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

/// Every pod's gateway. Link-local, so it can be in no one's range; it is on no interface: a permanent neighbour entry stands for it.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Of every host side. The same everywhere, as on every routed link there is one other end.
const HOST_MAC: [u8; 6] = [0xee, 0xee, 0xee, 0xee, 0xee, 0xee];
const LOOPBACK_INDEX: u32 = 1;

/// The host has IPv6 switched off: nothing to silence.
const NO_IPV6: &[i32] = &[libc::EAFNOSUPPORT, libc::EOPNOTSUPP];
const EEXIST: &[i32] = &[libc::EEXIST];
pub(crate) const GONE: &[i32] = &[libc::ENOENT, libc::ESRCH, libc::ENODEV, libc::EADDRNOTAVAIL];

/// What the names of an instance's interfaces begin with; `-` so that instance `a` does not match `ab`.
pub(crate) fn prefix(instance: &str) -> String {
    format!("ms{instance}-")
}

/// Host side of the pair with this address: unique while the address is.
pub(crate) fn name(instance: &str, ranges: &Ranges, address: Ipv4Addr) -> String {
    format!("{}{:x}", prefix(instance), u32::from(address).wrapping_sub(u32::from(ranges.pods.0)))
}

/// One pair to be made.
pub(crate) struct Pair<'a> {
    pub name: &'a str,
    pub address: Ipv4Addr,
    pub host: Ipv4Addr,
    pub mtu: u32,
}

/// Makes the pair: the peer inside the namespace from the start, then host and pod side in one datagram each.
pub(crate) fn create(wire: &mut Wire, netns: &mut Netns, pair: &Pair<'_>) -> Result<(), Error> {
    let add = veth(pair, netns.file.as_raw_fd());
    wire.send(vec![request(format!("add veth {}", pair.name), Message::NewLink(add), NLM_F_CREATE | NLM_F_EXCL, &[])])?;
    let index = index(wire, pair.name)?.ok_or_else(|| Error::kernel(format!("find veth {}", pair.name), "it is gone"))?;
    let inside = self::index(&mut netns.wire, "eth0")?.ok_or_else(|| Error::kernel(format!("find the peer of {}", pair.name), "it is gone"))?;
    netns.wire.send(pod_side(pair, inside))?;
    let mut host = vec![request(format!("silence {}", pair.name), silence(index), 0, NO_IPV6)];
    let up = LinkMessageBuilder::<LinkUnspec>::new().index(index).up().build();
    host.push(request(format!("set {} up", pair.name), Message::SetLink(up), 0, &[]));
    host.extend(host_side(pair, index));
    wire.send(host)?;
    // The carrier of the side that came up first is worked on later in the kernel, and until then it drops what is sent: a first connection
    // would take a second. Asking for the link brings that forward (`linkwatch_sync_dev` in `rtnl_getlink`).
    self::index(&mut netns.wire, "eth0").map(drop)
}

/// No IPv6 link-local address on the host's side, nor the traffic that goes with one.
fn silence(index: u32) -> Message {
    let silent = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let link = LinkMessageBuilder::<LinkUnspec>::new().index(index);
    Message::SetLink(link.append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![silent])).build())
}

/// 02 and the address: stable, unicast, locally administered.
fn pod_mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x00, a, b, c, d]
}

fn veth(pair: &Pair<'_>, netns: i32) -> LinkMessage {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name("eth0")
        .mtu(pair.mtu)
        .address(pod_mac(pair.address).to_vec())
        .setns_by_fd(netns)
        .build();
    LinkMessageBuilder::<LinkVeth>::new(pair.name, "eth0")
        .mtu(pair.mtu)
        .address(HOST_MAC.to_vec())
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build()
}

fn pod_side(pair: &Pair<'_>, eth0: u32) -> Vec<Request> {
    let set_up = |index| Message::SetLink(LinkMessageBuilder::<LinkUnspec>::new().index(index).up().build());
    let address = AddressMessageBuilder::<Ipv4Addr>::new().index(eth0).address(pair.address, 32).build();
    let gateway = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(GATEWAY, 32)
        .output_interface(eth0)
        .scope(RouteScope::Link)
        .build();
    let default = RouteMessageBuilder::<Ipv4Addr>::new().gateway(GATEWAY).output_interface(eth0).onlink().build();
    let doing = |what: &str| format!("{what} in the namespace behind {}", pair.name);
    let create = NLM_F_CREATE | NLM_F_REPLACE;
    vec![
        request(doing("set lo up"), set_up(LOOPBACK_INDEX), 0, &[]),
        request(doing("set eth0 up"), set_up(eth0), 0, &[]),
        request(doing("add the address"), Message::NewAddress(address), create, &[]),
        request(doing("add the gateway's neighbour"), neighbour(eth0, GATEWAY, HOST_MAC), create, &[]),
        request(doing("add the gateway's route"), Message::NewRoute(gateway), create, &[]),
        request(doing("add the default route"), Message::NewRoute(default), create, &[]),
    ]
}

fn host_side(pair: &Pair<'_>, index: u32) -> Vec<Request> {
    let create = NLM_F_CREATE | NLM_F_REPLACE;
    vec![
        request(
            format!("add the neighbour {} on {}", pair.address, pair.name),
            neighbour(index, pair.address, pod_mac(pair.address)),
            create,
            &[],
        ),
        request(
            format!("add the route to {} on {}", pair.address, pair.name),
            Message::NewRoute(pod_route(pair.address).output_interface(index).scope(RouteScope::Link).pref_source(pair.host).build()),
            create,
            &[],
        ),
    ]
}

/// Puts back what the host's side of a live pair may have lost.
pub(crate) fn repair(wire: &mut Wire, pair: &Pair<'_>, index: u32) -> Result<(), Error> {
    wire.send(host_side(pair, index))
}

/// Takes a pod's route away: from now on nothing reaches the address.
pub(crate) fn cut(wire: &mut Wire, address: Ipv4Addr) -> Result<(), Error> {
    // Scope nowhere matches any; the default would match only routes of scope universe, of which this is none.
    let route = pod_route(address).scope(RouteScope::NoWhere).build();
    wire.send(vec![request(format!("delete the route to {address}"), Message::DelRoute(route), 0, GONE)])
}

fn pod_route(address: Ipv4Addr) -> RouteMessageBuilder<Ipv4Addr> {
    RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32)
}

fn neighbour(index: u32, address: Ipv4Addr, mac: [u8; 6]) -> Message {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes =
        vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(address)), NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
    Message::NewNeighbour(message)
}

/// Index of an interface by name; `None` if there is none.
pub(crate) fn index(wire: &mut Wire, name: &str) -> Result<Option<u32>, Error> {
    let get = Message::GetLink(LinkUnspec::new_with_name(name).build());
    let found = wire.ask(&format!("find interface {name}"), get, false)?;
    Ok(found.into_iter().find_map(|m| match m {
        Message::NewLink(link) => Some(link.header.index),
        _ => None,
    }))
}

/// Every interface: name, index, MTU.
pub(crate) fn all(wire: &mut Wire) -> Result<Vec<(String, u32, u32)>, Error> {
    let found = wire.ask("list interfaces", Message::GetLink(LinkMessage::default()), true)?;
    let links = found.into_iter().filter_map(|m| match m {
        Message::NewLink(link) => {
            let name = link.attributes.iter().find_map(|a| if let LinkAttribute::IfName(n) = a { Some(n.clone()) } else { None })?;
            let mtu = link.attributes.iter().find_map(|a| if let LinkAttribute::Mtu(m) = a { Some(*m) } else { None })?;
            Some((name, link.header.index, mtu))
        }
        _ => None,
    });
    Ok(links.collect())
}

/// Deletes many at once. A veth takes 30 ms in the kernel, a whole group of them no longer than one: so they are put into one group first.
pub(crate) fn delete(wire: &mut Wire, names: &[String], group: u32) -> Result<(), Error> {
    if names.is_empty() {
        return Ok(());
    }
    let join = |name: &String| {
        let message = LinkUnspec::new_with_name(name).link_group(group).build();
        request(format!("mark {name} for deletion"), Message::SetLink(message), 0, GONE)
    };
    for chunk in names.chunks(64) {
        wire.send(chunk.iter().map(join).collect())?;
    }
    let message = LinkMessageBuilder::<LinkUnspec>::new().link_group(group).build();
    wire.send(vec![request(format!("delete {}", names.join(", ")), Message::DelLink(message), 0, GONE)])
}

/// Adds or deletes a /32 on `lo`. Scope host keeps the kernel from choosing it as the source of other traffic.
pub(crate) fn loopback_address(address: Ipv4Addr, as_source: bool, add: bool) -> Request {
    use rtnetlink::packet_route::address::AddressScope;
    let mut message = AddressMessageBuilder::<Ipv4Addr>::new().index(LOOPBACK_INDEX).address(address, 32).build();
    message.header.scope = if as_source { AddressScope::Universe } else { AddressScope::Host };
    if add {
        request(format!("add {address} to lo"), Message::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL, EEXIST)
    } else {
        request(format!("delete {address} from lo"), Message::DelAddress(message), 0, GONE)
    }
}

/// The host's route to the service range. Its device never carries a packet: the rules rewrite the destination first; but without any
/// route a process on a host that is offline could not even begin to connect.
pub(crate) fn service_route(ranges: &Ranges, add: bool) -> Request {
    let (network, length) = ranges.services;
    let route: RouteMessage = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(network, length)
        .output_interface(LOOPBACK_INDEX)
        .scope(RouteScope::Link)
        .pref_source(ranges.host())
        .build();
    if add {
        request(format!("add the route to the services {network}/{length}"), Message::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE, &[])
    } else {
        request(format!("delete the route to the services {network}/{length}"), Message::DelRoute(route), 0, GONE)
    }
}

fn request(doing: String, message: Message, flags: u16, tolerate: &'static [i32]) -> Request {
    Request { doing, message, flags, tolerate }
}
