//! Pod networking and service routing: namespaces, veth, routes, nftables.
