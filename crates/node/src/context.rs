//! What all of the agent's parts share.

use crate::Config;
use crate::container::etc::{Resolver, host_resolver};
use crate::container::fields::Surroundings;
use crate::container::spec::Machine;
use crate::container::warmth::Warmth;
use crate::gate::Gate;
use crate::registry::Registry;
use mainstay_client::{Cluster, Recorder};
use mainstay_images::Images;
use mainstay_network::Network;
use mainstay_supervisor::Containers;
use std::net::{Ipv4Addr, UdpSocket};

/// The node and its tools.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) cluster: Cluster,
    pub(crate) images: Images,
    pub(crate) network: Network,
    pub(crate) containers: Containers,
    pub(crate) events: Recorder,
    pub(crate) gate: Gate,
    pub(crate) registry: Registry,
    pub(crate) machine: Machine,
    pub(crate) ip: Ipv4Addr,
    pub(crate) resolver: Resolver,
    pub(crate) capacity: Capacity,
    pub(crate) warmth: Warmth,
}

/// What the machine has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    pub(crate) cpus: i64,
    pub(crate) memory_bytes: i64,
    pub(crate) disk_bytes: i64,
}

impl Node {
    pub(crate) fn new(config: Config, cluster: Cluster, images: Images, network: Network, containers: Containers) -> Self {
        let capacity = Capacity::measure(&config);
        let events = cluster.recorder().on_host(&config.name);
        let machine = Machine {
            memory_bytes: i128::from(capacity.memory_bytes),
            cgroup_v2: crate::container::cgroup::is_v2(),
            lowest_oom_score: lowest_oom_score(),
        };
        Self {
            cluster,
            images,
            containers,
            events,
            gate: Gate::new(),
            registry: Registry::default(),
            machine,
            ip: address().unwrap_or_else(|| network.ranges().host()),
            network,
            resolver: host_resolver(),
            capacity,
            warmth: Warmth::default(),
            config,
        }
    }

    /// For the downward API.
    pub(crate) fn surroundings(&self, pod_ip: &str) -> Surroundings {
        Surroundings {
            pod_ip: pod_ip.to_owned(),
            node_ip: self.ip.to_string(),
            node_cpu_milli: i128::from(self.capacity.cpus) * 1000,
            node_memory_bytes: i128::from(self.capacity.memory_bytes),
            node_disk_bytes: i128::from(self.capacity.disk_bytes),
        }
    }
}

impl Capacity {
    fn measure(config: &Config) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |n| i64::try_from(n.get()).unwrap_or(1));
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<i64>().ok());
        let disk = nix::sys::statvfs::statvfs(&config.data_dir).map_or(0, |s| s.blocks().saturating_mul(s.fragment_size()));
        Self { cpus, memory_bytes: total.unwrap_or(0).saturating_mul(1024), disk_bytes: i64::try_from(disk).unwrap_or(i64::MAX) }
    }
}

/// The address packets to elsewhere leave from; none are sent. `None`: this machine is alone.
fn address() -> Option<Ipv4Addr> {
    let found = UdpSocket::bind("0.0.0.0:0").and_then(|s| s.connect("192.0.2.1:9").and_then(|()| s.local_addr()));
    match found {
        Ok(std::net::SocketAddr::V4(v4)) if !v4.ip().is_unspecified() && !v4.ip().is_loopback() => Some(*v4.ip()),
        _ => None,
    }
}

/// Without CAP_SYS_RESOURCE a value below one's own fails the whole create.
fn lowest_oom_score() -> i32 {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|l| u64::from_str_radix(l.strip_prefix("CapEff:")?.trim(), 16).ok()).unwrap_or(0);
    if effective >> CAP_SYS_RESOURCE & 1 == 1 {
        return -1000;
    }
    std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0)
}
