//! The parts, wired: what `mainstay serve` runs.
//!
//! Order of a start: port → keys → store → API server (`/readyz` answers) → network, containers, images → controllers, scheduler, node, service
//! routing, DNS → ready. Order of an end: the node lets go of its pods (they run on), controllers stop, the server drains, the store closes.

mod endpoints;
mod serve_control;

use crate::data_dir::{DataDir, Locked};
use crate::pki::Pki;
use crate::{kubeconfig, notify, port};
use anyhow::{Context as _, Result, bail};
use endpoints::Sockets;
use mainstay_client::Cluster;
use mainstay_images::Images;
use mainstay_network::{Network, Ranges};
use mainstay_server::{Identity, Server};
use mainstay_store::Store;
use mainstay_supervisor::Containers;
use serve_control::{Stop, Stopping};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// This program's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The Kubernetes whose API is served.
pub(crate) const KUBERNETES: &str = "v1.36.3";
/// Cluster domain.
pub(crate) const DOMAIN: &str = "cluster.local";

/// What `serve` was told.
pub(crate) struct Options {
    pub port: u16,
    pub kubeconfig: Option<PathBuf>,
}

/// Addresses in the service range that this node answers itself.
struct Addresses {
    /// The `kubernetes` service: the API server listens there for pods.
    api: Ipv4Addr,
    /// The `kube-dns` service.
    dns: Ipv4Addr,
}

impl Addresses {
    fn of(ranges: &Ranges) -> Self {
        let first = u32::from(ranges.services.0);
        Self { api: Ipv4Addr::from(first + 1), dns: Ipv4Addr::from(first + 10) }
    }
}

/// What the running engine is made of, for those who ask about it.
pub(crate) struct Engine {
    data: Locked,
    port: u16,
    node: String,
    begun: Instant,
    cluster: Cluster,
    network: Network,
}

/// Runs until SIGTERM, SIGINT or `mainstay down`.
pub(crate) async fn run(data: Locked, options: Options) -> Result<()> {
    let begun = Instant::now();
    port::check(options.port)?;
    let local = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await.with_context(|| format!("listen on port {}", options.port))?;
    data.remember_port(options.port)?;
    // Held until our addresses are on `lo`, where another instance that starts now will see them.
    let choosing = crate::data_dir::choosing_ranges().await?;
    let ranges = data.ranges().await?;
    let addresses = Addresses::of(&ranges);
    let pki = Pki::ensure(data.dir().path(), addresses.api, DOMAIN, &node_name())?;
    let store_dir = data.dir().path().join("store");
    std::fs::create_dir_all(&store_dir).with_context(|| format!("create {}", store_dir.display()))?;
    let opening = store_dir.clone();
    let store = tokio::task::spawn_blocking(move || Store::open(&opening, mainstay_store::Options::default())).await?.with_context(|| format!("open {}", store_dir.display()))?;
    let node = node_config(data.dir(), pki.server()?.ca_certificate);
    let node = mainstay_node::Config { dns: addresses.dns, api: (addresses.api, 443), ..node };
    let server = Server::new(store.clone(), server_config(&pki, &ranges, &addresses)?, Arc::new(Sockets::new(&node)));
    server.bootstrap().await.context("create the system objects")?;
    let (end_server, server_ended) = oneshot::channel::<()>();
    let serving = tokio::spawn({
        let server = server.clone();
        let listeners = vec![local, listen_for_pods(addresses.api)?];
        async move { server.serve(listeners, async { drop(server_ended.await) }).await }
    });
    notify::step(&format!("API server answers on {} after {} ms", kubeconfig::url(options.port), begun.elapsed().as_millis()));

    let network = Network::open(&data.dir().run_dir(), data.dir().instance(), ranges).await.context("make the pod network")?;
    drop(choosing);
    // Looking for the host's other tenants is also what lets pods through Docker's chain.
    let looking = network.clone();
    tokio::spawn(async move {
        for warning in looking.warnings().await {
            tracing::warn!("{warning}");
        }
    });
    let containers = Containers::open(&data.dir().run_dir().join("containers")).context("find containers")?;
    let images = Images::open(&data.dir().path().join("images"))?;
    let client = kube::Client::new(server.local(component()), "default");
    let cluster = Cluster::new(client, "mainstay");
    let mut parts = Parts::start(&cluster, &node, &images, &network, &containers, &addresses);
    parts.ready(begun).await?;
    notify::ready();

    let engine = Arc::new(Engine { data, port: options.port, node: node.name.clone(), begun, cluster: cluster.clone(), network: network.clone() });
    let (stop, mut stopping) = Stop::channel();
    let control = tokio::spawn(serve_control::run(Arc::clone(&engine), stop)?);
    let renewal = tokio::spawn(renew(Arc::clone(&engine), server.clone(), addresses.api, options.kubeconfig));
    let giving_back = tokio::spawn(crate::memory::give_back_when_idle());
    let reason = wait_for_end(&mut parts, &mut stopping).await;
    notify::stopping();
    renewal.abort();
    giving_back.abort();
    let outcome = match reason {
        End::Asked(down) => {
            parts.stop_controllers().await;
            parts.stop_node().await;
            down.step("stopping pods");
            let stopped = mainstay_node::stop_all(&node, &cluster, &containers, down.limit).await;
            down.step("pods stopped");
            parts.shutdown().await;
            finish(end_server, serving, store).await;
            down.done().await;
            stopped.context("stop the pods")
        }
        End::Signal => {
            parts.stop_controllers().await;
            parts.stop_node().await;
            parts.shutdown().await;
            finish(end_server, serving, store).await;
            Ok(())
        }
        End::Broken(error) => {
            finish(end_server, serving, store).await;
            Err(error)
        }
    };
    control.abort();
    let _ = std::fs::remove_file(crate::control::socket(engine.data.dir()));
    outcome
}

/// The node's configuration that follows from the data directory alone; addresses are filled in by `run`.
pub(crate) fn node_config(data: &DataDir, ca_certificate: String) -> mainstay_node::Config {
    mainstay_node::Config {
        name: node_name(),
        data_dir: data.path().to_owned(),
        run_dir: data.run_dir(),
        instance: data.instance().to_owned(),
        dns: Ipv4Addr::UNSPECIFIED,
        domain: DOMAIN.to_owned(),
        api: (Ipv4Addr::UNSPECIFIED, 443),
        ca_certificate,
    }
}

/// The host's name, as a node may be called.
fn node_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|n| n.into_string().ok()).unwrap_or_default().to_lowercase();
    let clean: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.')).take(63).collect();
    let clean = clean.trim_matches(['-', '.']);
    if clean.is_empty() { "mainstay".to_owned() } else { clean.to_owned() }
}

/// Components in this process may do everything; who they are travels as an extension of the request.
fn component() -> Identity {
    Identity { user: "system:mainstay".into(), groups: vec!["system:masters".into(), "system:authenticated".into()], uid: None, extra: Vec::new() }
}

fn server_config(pki: &Pki, ranges: &Ranges, addresses: &Addresses) -> Result<mainstay_server::Config> {
    Ok(mainstay_server::Config {
        pki: pki.server()?,
        settings: mainstay_api::Settings { service_range: ranges.services, node_ports: (30000, 32767), domain: DOMAIN.to_owned() },
        git_version: format!("{KUBERNETES}+mainstay-{VERSION}"),
        body_limit_bytes: 3 << 20,
        inflight_limit: 1024,
        api_endpoint: (addresses.api, 443),
        dns_endpoint: (addresses.dns, 53),
    })
}

/// The `kubernetes` service's own address. It is put on `lo` a moment later, hence IP_FREEBIND.
fn listen_for_pods(address: Ipv4Addr) -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::IpFreebind, &true).context("IP_FREEBIND")?;
    socket.bind((address, 443).into()).with_context(|| format!("listen on {address}:443"))?;
    Ok(socket.listen(1024)?)
}

async fn finish(end_server: oneshot::Sender<()>, serving: tokio::task::JoinHandle<std::io::Result<()>>, store: Store) {
    drop(end_server);
    if tokio::time::timeout(Duration::from_secs(5), serving).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
    store.close().await;
}

enum End {
    Signal,
    Asked(Stopping),
    Broken(anyhow::Error),
}

async fn wait_for_end(parts: &mut Parts, stopping: &mut tokio::sync::mpsc::Receiver<Stopping>) -> End {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return End::Broken(anyhow::anyhow!("cannot listen for signals"));
    };
    tokio::select! {
        _ = terminate.recv() => End::Signal,
        _ = interrupt.recv() => End::Signal,
        Some(stopping) = stopping.recv() => End::Asked(stopping),
        ended = parts.watch() => End::Broken(ended),
    }
}

/// The clients of the API server, and how they are ended.
struct Parts {
    controllers: JoinSet<(&'static str, Result<()>)>,
    node: JoinSet<(&'static str, Result<()>)>,
    end_node: Option<oneshot::Sender<()>>,
    ready: watch::Receiver<u8>,
}

/// Node and DNS.
const READY: u8 = 2;

impl Parts {
    fn start(cluster: &Cluster, node: &mainstay_node::Config, images: &Images, network: &Network, containers: &Containers, addresses: &Addresses) -> Self {
        let host = network.ranges().host();
        let (tell, ready) = watch::channel(0);
        let tell = Arc::new(tell);
        let told = |tell: &Arc<watch::Sender<u8>>| {
            let tell = Arc::clone(tell);
            move || tell.send_modify(|n| *n += 1)
        };
        let mut controllers = JoinSet::new();
        let config = mainstay_controllers::Config { volumes_dir: node.data_dir.join("volumes"), node: node.name.clone(), ca_certificate: node.ca_certificate.clone() };
        let of = cluster.clone();
        controllers.spawn(async move { ("controllers", { mainstay_controllers::run(config, of).await; Ok(()) }) });
        let of = cluster.named("default-scheduler");
        controllers.spawn(async move { ("scheduler", { mainstay_scheduler::run(of).await; Ok(()) }) });
        let mut parts = JoinSet::new();
        let (end_node, node_ends) = oneshot::channel::<()>();
        let run = mainstay_node::run(node.clone(), cluster.named("kubelet"), images.clone(), network.clone(), containers.clone(), told(&tell), async { drop(node_ends.await) });
        parts.spawn(async move { ("node", run.await.map_err(Into::into)) });
        let (of, net) = (cluster.named("kube-proxy"), network.clone());
        parts.spawn(async move { ("service routing", { mainstay_proxy::run(of, net).await; Ok(()) }) });
        let dns = mainstay_dns::Config { domain: DOMAIN.to_owned(), listen: (addresses.dns, 53).into(), upstreams: Vec::new(), host: Some(host) };
        let (of, dns_ready) = (cluster.named("dns"), told(&tell));
        parts.spawn(async move { ("DNS", mainstay_dns::run(dns, of, dns_ready).await.context("DNS")) });
        Self { controllers, node: parts, end_node: Some(end_node), ready }
    }

    async fn ready(&mut self, begun: Instant) -> Result<()> {
        let mut ready = self.ready.clone();
        tokio::select! {
            ended = self.watch() => return Err(ended),
            told = ready.wait_for(|n| *n >= READY) => { told.context("parts ended")?; }
            () = tokio::time::sleep(Duration::from_secs(60)) => bail!("the node was not ready after 60 s"),
        }
        notify::step(&format!("node Ready and DNS answering after {} ms", begun.elapsed().as_millis()));
        Ok(())
    }

    /// Returns when a part ends by itself, which none should.
    async fn watch(&mut self) -> anyhow::Error {
        let ended = tokio::select! {
            Some(ended) = self.controllers.join_next() => ended,
            Some(ended) = self.node.join_next() => ended,
        };
        match ended {
            Ok((name, Ok(()))) => anyhow::anyhow!("{name} ended"),
            Ok((name, Err(error))) => error.context(name),
            Err(error) => anyhow::anyhow!("a part failed: {error}"),
        }
    }

    async fn stop_controllers(&mut self) {
        self.controllers.shutdown().await;
    }

    /// Asks the node to let go of its pods, and waits for it.
    async fn stop_node(&mut self) {
        drop(self.end_node.take());
        let ended = tokio::time::timeout(Duration::from_secs(10), async {
            while let Some(ended) = self.node.join_next().await {
                if matches!(ended, Ok(("node", _))) {
                    break;
                }
            }
        });
        if ended.await.is_err() {
            tracing::warn!("the node did not end in time");
        }
    }

    /// Ends the rest.
    async fn shutdown(&mut self) {
        self.node.shutdown().await;
    }
}

/// Looks twice a day whether a certificate is about to expire.
async fn renew(engine: Arc<Engine>, server: Server, api: Ipv4Addr, kubeconfig: Option<PathBuf>) {
    let mut timer = tokio::time::interval(Duration::from_secs(12 * 3600));
    // The start has just looked, and `up` is about to write the kubeconfig.
    timer.tick().await;
    loop {
        timer.tick().await;
        let data = engine.data.dir();
        let renewed = Pki::ensure(data.path(), api, DOMAIN, &engine.node).and_then(|pki| pki.server());
        match renewed {
            Ok(pki) => server.renew(&pki),
            Err(error) => tracing::error!("renew certificates: {error:#}"),
        }
        if let Some(path) = &kubeconfig
            && let Err(error) = kubeconfig::refresh(data, path)
        {
            tracing::error!("renew the certificate in {}: {error:#}", path.display());
        }
    }
}
