//! The node's network: what the node agent calls.

use crate::reaper::{Dead, Reaper};
use crate::record::{self, HostRecord, Paths, SandboxRecord};
use crate::{Error, HostPort, Ranges, Sandbox, ServicePort, host, link, netns, nft, pool::Pool, tenants, wire::Wire};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Pods that may be attached or detached at once without waiting for each other, at the least by chance.
const STRIPES: usize = 32;
/// Longest `instance`: an interface's name has 15 characters.
const INSTANCE_LENGTH: usize = 6;

/// The node's network. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Network {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    paths: Paths,
    instance: String,
    ranges: Ranges,
    mtu: u32,
    wire: Mutex<Wire>,
    pool: Arc<Mutex<Pool>>,
    live: Mutex<BTreeMap<String, Sandbox>>,
    /// One operation a pod at a time.
    stripes: Vec<Arc<tokio::sync::Mutex<()>>>,
    reaper: Reaper,
    rules: nft::Rules,
}

impl Network {
    /// Adopts what a previous process left (records in `run_dir`), undoes what is half done, makes the tables, the routes, forwarding, and
    /// the node-local service addresses (`kubernetes`, DNS) on `lo`. `instance` (≤ 6 characters) keeps two instances' names apart.
    ///
    /// It works in the network namespace of the calling thread, for as long as the value lives. Rules of the previous process are put
    /// back as they were, in one transaction, and serve until the first [`Self::set_services`].
    pub async fn open(run_dir: &Path, instance: &str, ranges: Ranges) -> Result<Self, Error> {
        check_instance(instance)?;
        let paths = Paths::new(run_dir);
        let started = {
            let (paths, instance, ranges) = (paths.clone(), instance.to_owned(), ranges.clone());
            blocking(move || start(&paths, &instance, &ranges)).await?
        };
        let (wire, mtu, pool, live, reaper, rules) = started;
        let stripes = (0..STRIPES).map(|_| Arc::default()).collect();
        let inner = Inner { paths, instance: instance.to_owned(), ranges, mtu, wire: wire.into(), pool, live: live.into(), stripes, reaper, rules };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes room in Docker's `DOCKER-USER` if it is there, and says what will not work beside the host's other tenants (ufw, firewalld, an
    /// administrator's rules), in words with the command to run; empty: all is well. To be called once it is open, and whenever asked.
    pub async fn warnings(&self) -> Vec<String> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || tenants::fit(&inner.paths, &inner.instance, &inner.ranges)).await.unwrap_or_default()
    }

    /// The ranges it was opened with.
    pub fn ranges(&self) -> &Ranges {
        &self.inner.ranges
    }

    /// Makes a pod's network, or returns the one it has.
    pub async fn attach(&self, pod: &str) -> Result<Sandbox, Error> {
        record::check_pod(pod)?;
        let turn = self.turn(pod).await;
        if let Some(sandbox) = self.inner.live.lock().get(pod) {
            return Ok(sandbox.clone());
        }
        if self.inner.paths.sandbox(pod).exists() {
            // The same pod is being taken apart: its files carry the same names.
            self.inner.reaper.idle().await;
        }
        let (inner, pod) = (self.inner.clone(), pod.to_owned());
        blocking(move || {
            let result = inner.attach(&pod);
            drop(turn);
            result
        })
        .await
    }

    /// Gives it back. Returns when no packet reaches the address any more; the kernel takes 30 ms for a veth, in the background. The
    /// address rests a while before it is used again. A pod that has none is fine.
    pub async fn detach(&self, pod: &str) -> Result<(), Error> {
        record::check_pod(pod)?;
        let turn = self.turn(pod).await;
        let Some(sandbox) = self.inner.live.lock().remove(pod) else { return Ok(()) };
        let inner = self.inner.clone();
        blocking(move || {
            let result = inner.detach(sandbox);
            drop(turn);
            result
        })
        .await
    }

    /// The network of one pod, if it has one.
    pub fn sandbox(&self, pod: &str) -> Option<Sandbox> {
        self.inner.live.lock().get(pod).cloned()
    }

    /// Every sandbox there is.
    pub fn sandboxes(&self) -> Vec<Sandbox> {
        self.inner.live.lock().values().cloned().collect()
    }

    /// Returns when nothing is left to do in the background: all that was detached is gone from the kernel, the records are written.
    pub async fn idle(&self) {
        self.inner.reaper.idle().await;
        self.inner.rules.idle().await;
    }

    /// Replaces all service rules in one transaction that holds only what changed; does nothing if nothing did. Established connections stay;
    /// UDP flows to gone endpoints are forgotten.
    pub async fn set_services(&self, services: Vec<ServicePort>) -> Result<(), Error> {
        self.inner.rules.set_services(services).await
    }

    /// Replaces all host ports in one transaction.
    pub async fn set_host_ports(&self, ports: Vec<HostPort>) -> Result<(), Error> {
        self.inner.rules.set_host_ports(ports).await
    }

    /// Looks whether someone took our rules away (`nft flush ruleset`, an administrator's firewall script) and puts them back; answers whether it had
    /// to. A look costs one request while nobody changed any rules of the host.
    pub async fn repair_rules(&self) -> Result<bool, Error> {
        self.inner.rules.repair().await
    }

    /// Removes everything of this instance from the kernel: interfaces, namespaces, rules, routes, addresses, sysctls it changed. No
    /// [`Network`] of the instance may be in use.
    pub async fn purge(run_dir: &Path, instance: &str) -> Result<(), Error> {
        check_instance(instance)?;
        let paths = Paths::new(run_dir);
        let instance = instance.to_owned();
        blocking(move || purge(&paths, &instance)).await
    }

    async fn turn(&self, pod: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(pod);
        let stripe = &self.inner.stripes[(hash % STRIPES as u64) as usize];
        stripe.clone().lock_owned().await
    }
}

impl Inner {
    fn attach(&self, pod: &str) -> Result<Sandbox, Error> {
        self.reaper.disturb();
        let address = {
            let mut pool = self.pool.lock();
            pool.take(Instant::now()).ok_or_else(|| Error::Exhausted(pool.capacity()))?
        };
        match self.make(pod, address) {
            Ok(sandbox) => {
                self.live.lock().insert(pod.to_owned(), sandbox.clone());
                Ok(sandbox)
            }
            Err(error) => {
                self.reaper.bury(self.dead(pod, address));
                Err(error)
            }
        }
    }

    fn make(&self, pod: &str, address: Ipv4Addr) -> Result<Sandbox, Error> {
        let mut record = SandboxRecord { pod: pod.to_owned(), address, complete: false };
        record::write(&self.paths.sandbox(pod), &record)?;
        let sandbox = Sandbox { pod: pod.to_owned(), netns: self.paths.netns(pod), address };
        let mut netns = netns::create(&sandbox.netns)?;
        let name = link::name(&self.instance, &self.ranges, address);
        let pair = link::Pair { name: &name, address, host: self.ranges.host(), mtu: self.mtu };
        link::create(&mut self.wire.lock(), &mut netns, &pair)?;
        host::allow_loopback_replies(&name)?;
        record.complete = true;
        record::write(&self.paths.sandbox(pod), &record)?;
        Ok(sandbox)
    }

    fn detach(&self, sandbox: Sandbox) -> Result<(), Error> {
        let record = SandboxRecord { pod: sandbox.pod.clone(), address: sandbox.address, complete: false };
        record::write(&self.paths.sandbox(&sandbox.pod), &record)?;
        let cut = link::cut(&mut self.wire.lock(), sandbox.address);
        self.reaper.bury(self.dead(&sandbox.pod, sandbox.address));
        cut
    }

    fn dead(&self, pod: &str, address: Ipv4Addr) -> Dead {
        Dead { pod: pod.to_owned(), interface: link::name(&self.instance, &self.ranges, address), address }
    }
}

type Started = (Wire, u32, Arc<Mutex<Pool>>, BTreeMap<String, Sandbox>, Reaper, nft::Rules);

/// The kernel's part of `open`.
fn start(paths: &Paths, instance: &str, ranges: &Ranges) -> Result<Started, Error> {
    record::make_dir(&paths.netns_dir())?;
    record::make_dir(&paths.sandboxes_dir())?;
    let mut wire = Wire::open()?;
    host::prepare(&mut wire, paths, ranges)?;
    let mtu = host::uplink_mtu(&mut wire)?;
    let mut pool = Pool::new(ranges.pods);
    let live = adopt(&mut wire, paths, instance, ranges, mtu)?;
    for sandbox in live.values() {
        pool.adopt(sandbox.address);
    }
    let pool = Arc::new(Mutex::new(pool));
    let reaper = Reaper::start(paths.clone(), pool.clone(), group(instance))?;
    let rules = nft::Rules::open(paths.clone(), instance, ranges)?;
    Ok((wire, mtu, pool, live, reaper, rules))
}

/// Makes records and kernel equal: a sandbox lives if its record is complete and namespace and interface are there; all else goes.
fn adopt(wire: &mut Wire, paths: &Paths, instance: &str, ranges: &Ranges, mtu: u32) -> Result<BTreeMap<String, Sandbox>, Error> {
    let mut interfaces: BTreeMap<String, u32> = ours(wire, instance)?.into_iter().collect();
    let mut live = BTreeMap::new();
    for pod in record::names(&paths.sandboxes_dir())? {
        let record: Option<SandboxRecord> = record::read(&paths.sandbox(&pod))?;
        let netns = paths.netns(&pod);
        let usable = record.filter(|r| r.complete && r.pod == pod && crate::ranges::contains(ranges.pods, r.address) && netns::is_pinned(&netns));
        let found = usable.and_then(|r| {
            let name = link::name(instance, ranges, r.address);
            interfaces.remove(&name).map(|index| (r, name, index))
        });
        let Some((record, name, index)) = found else {
            record::remove(&paths.sandbox(&pod))?;
            continue;
        };
        let pair = link::Pair { name: &name, address: record.address, host: ranges.host(), mtu };
        link::repair(wire, &pair, index)?;
        live.insert(pod.clone(), Sandbox { pod, netns, address: record.address });
    }
    link::delete(wire, &interfaces.into_keys().collect::<Vec<_>>(), group(instance))?;
    let kept: BTreeSet<&String> = live.keys().collect();
    for stray in record::names(&paths.netns_dir())? {
        if !kept.contains(&stray) {
            netns::remove(&paths.netns(&stray))?;
        }
    }
    Ok(live)
}

fn purge(paths: &Paths, instance: &str) -> Result<(), Error> {
    let alone = nft::remove_table(instance)? == 0;
    let mut wire = Wire::open()?;
    let names: Vec<String> = ours(&mut wire, instance)?.into_iter().map(|(name, _)| name).collect();
    link::delete(&mut wire, &names, group(instance))?;
    for pod in record::names(&paths.netns_dir())? {
        netns::remove(&paths.netns(&pod))?;
    }
    if let Some(record) = record::read::<HostRecord>(&paths.host())? {
        host::undo(&mut wire, &record, alone)?;
        if record.docker_user {
            tenants::remove_docker_rules(instance);
        }
    }
    for pod in record::names(&paths.sandboxes_dir())? {
        record::remove(&paths.sandbox(&pod))?;
    }
    record::remove(&paths.rules())?;
    record::remove(&paths.host())?;
    for dir in [paths.netns_dir(), paths.sandboxes_dir()] {
        match std::fs::remove_dir(&dir) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(Error::Record { path: dir, source }),
            _ => {}
        }
    }
    Ok(())
}

/// Interfaces with this instance's prefix.
fn ours(wire: &mut Wire, instance: &str) -> Result<Vec<(String, u32)>, Error> {
    let prefix = link::prefix(instance);
    Ok(link::all(wire)?.into_iter().filter(|(name, ..)| name.starts_with(&prefix)).map(|(name, index, _)| (name, index)).collect())
}

/// Interface group of this instance's dying pairs: deleting a group deletes all that is in it, so it must be no one else's.
fn group(instance: &str) -> u32 {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(instance);
    0x4d53_0000 | (hash & 0xffff) as u32
}

fn check_instance(instance: &str) -> Result<(), Error> {
    let fine = instance.len() <= INSTANCE_LENGTH && instance.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if fine { Ok(()) } else { Err(Error::kernel(format!("name interfaces of instance {instance:?}"), "at most 6 of a-z and 0-9")) }
}

/// Runs blocking work off the runtime's threads. It is carried to its end even if the caller goes away.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(Error::kernel("run in the background", e)))
}
