//! From `mainstay up` on an empty data directory.

use crate::api::{Api, Connection};
use crate::dns::Resolver;
use crate::figure::{Figure, Target, Unit};
use crate::lab::{Lab, PATIENCE};
use crate::watch::{Objects, ready};
use anyhow::{Context as _, Result, bail};
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::{Duration, Instant};

pub(crate) async fn run(lab: &Lab) -> Result<Vec<Figure>> {
    let (mut api, mut node, mut dns) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..lab.runs(20) {
        let times = once(lab).await?;
        api.push(times[0]);
        node.push(times[1]);
        dns.push(times[2]);
    }
    let f = &lab.floors;
    // `up` and the engine are each a process; three files of keys and a first transaction are synced before anyone can be answered.
    let floor = 2.0 * f.program_ms + 4.0 * f.fsync_ms + f.tls_ms;
    let bound = "two starts of the program, 4 fdatasync, a TLS answer; bound by keys and the first transaction";
    Ok(vec![
        Figure::new("start → `/readyz` 200", Unit::Milliseconds, api).target(Target::AtMost(100.0)).real("4.3 s").floor(floor, bound).note(
            "from the spawn of `mainstay up` on an empty data directory: both processes' start, keys and certificates are in it",
        ),
        Figure::new("start → node Ready", Unit::Milliseconds, node).target(Target::AtMost(200.0)).real("4.8 s").floor(floor, "the same; bound by the network's setup and the first status"),
        Figure::new("start → DNS answering", Unit::Milliseconds, dns).target(Target::AtMost(200.0)).real("13.8 s").floor(floor, "the same; bound by the service address being there"),
    ])
}

/// Milliseconds to each of the three.
async fn once(lab: &Lab) -> Result<[f64; 3]> {
    let machine = lab.other_machine("start")?;
    let begun = Instant::now();
    let mut up = machine.up_command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let times = async {
        let (api, mut connection) = readyz(&machine.data_dir(), machine.port).await?;
        let at_readyz = begun.elapsed();
        let (at_node, at_dns) = tokio::try_join!(node_ready(&api), dns_answers(&mut connection))?;
        Ok::<_, anyhow::Error>([at_readyz, at_node - begun, at_dns - begun].map(|t| t.as_secs_f64() * 1e3))
    };
    let times = times.await;
    let ended = tokio::task::spawn_blocking(move || up.wait_with_output_bounded()).await??;
    machine.purge()?;
    if !ended.is_empty() {
        bail!("mainstay up: {ended}");
    }
    times
}

/// The end of `mainstay up`.
trait Bounded {
    fn wait_with_output_bounded(&mut self) -> Result<String>;
}

impl Bounded for std::process::Child {
    /// Its words if it failed.
    fn wait_with_output_bounded(&mut self) -> Result<String> {
        let status = self.wait()?;
        let mut words = String::new();
        if !status.success()
            && let Some(mut stream) = self.stderr.take()
        {
            std::io::Read::read_to_string(&mut stream, &mut words)?;
        }
        Ok(words)
    }
}

/// Asks until the answer is 200; keys appear in the data directory before the server answers.
async fn readyz(data: &std::path::Path, port: u16) -> Result<(Api, Connection)> {
    let begun = Instant::now();
    loop {
        let tried = async {
            let api = Api::from_data_dir(data, port)?;
            let mut connection = api.connect().await?;
            let (status, _) = connection.send(crate::api::request(hyper::Method::GET, "/readyz", bytes::Bytes::new())).await?;
            anyhow::ensure!(status == 200, "/readyz: {status}");
            Ok((api, connection))
        };
        match tried.await {
            Ok(found) => return Ok(found),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_micros(500)).await,
        }
    }
}

async fn node_ready(api: &Api) -> Result<Instant> {
    Objects::watch(api, "/api/v1/nodes").await?.until("node Ready", PATIENCE, |nodes| nodes.values().any(ready)).await
}

async fn dns_answers(connection: &mut Connection) -> Result<Instant> {
    let address = dns_address(connection).await?;
    Resolver::open(address).await?.until_answered("kubernetes.default.svc.cluster.local", PATIENCE).await
}

/// The address of the service `kube-dns`.
pub(crate) async fn dns_address(connection: &mut Connection) -> Result<Ipv4Addr> {
    let begun = Instant::now();
    loop {
        match connection.get("/api/v1/namespaces/kube-system/services/kube-dns").await {
            Ok(service) => return service["spec"]["clusterIP"].as_str().unwrap_or_default().parse().context("clusterIP of kube-dns"),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_micros(500)).await,
        }
    }
}
