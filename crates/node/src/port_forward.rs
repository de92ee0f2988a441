//! Connections to a pod's ports, made inside its network, for a client of the API.

use crate::context::Node;
use crate::pod::reference::host_network;
use crate::registry::Entry;
use crate::service::plain;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use mainstay_streams::{Forward, Forwards, accept_forwards};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// How long a server in the pod may leave a connection in its backlog.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Forwards ports until the client goes, or the pod.
pub(crate) fn serve(node: &Node, entry: &Arc<Entry>, query: &[(String, String)], request: Request<Incoming>) -> Response<String> {
    let network = match host_network(&entry.view().pod) {
        true => None,
        false => match node.network.sandbox(&entry.pod.uid) {
            Some(sandbox) => Some(sandbox.netns),
            None => return plain(StatusCode::INTERNAL_SERVER_ERROR, format!("unable to forward port because pod {} has no network", entry.pod.name)),
        },
    };
    // The kubelet's own interface calls it `port`, the API's `ports`.
    let asked = query.iter().filter(|(name, _)| name == "ports" || name == "port").map(|(_, value)| value.as_str());
    let entry = entry.clone();
    accept_forwards(request, asked, move |forwards| run(entry, network, forwards))
}

async fn run(entry: Arc<Entry>, network: Option<PathBuf>, mut forwards: Forwards) {
    let mut object = entry.object.subscribe();
    let network = network.map(Arc::<Path>::from);
    // How many there may be at once is bounded by the streams of a connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            next = forwards.next() => match next {
                Some(forward) => {
                    connections.spawn(forward_one(entry.clone(), network.clone(), forward));
                }
                None => return,
            },
            Some(_) = connections.join_next() => {
                if forwards.is_fixed() && connections.is_empty() {
                    break;
                }
            }
            // An error: nobody looks after the pod any more.
            _ = object.wait_for(Option::is_none) => break,
        }
    }
    connections.abort_all();
    forwards.close().await;
}

async fn forward_one(entry: Arc<Entry>, network: Option<Arc<Path>>, forward: Forward) {
    let connected = tokio::select! {
        connected = connect(network.as_ref(), forward.port) => connected,
        () = forward.given_up() => return,
    };
    match connected {
        Ok(stream) => forward.join(stream).await,
        Err(why) => {
            let message = format!("error forwarding port {} to pod {}, uid {}: {why}", forward.port, entry.pod.name, entry.pod.uid);
            tracing::debug!(pod = entry.pod.name, "{message}");
            forward.fail(message).await;
        }
    }
}

/// To a server that listens on the pod's loopback: IPv4 first, as upstream's runtimes do.
async fn connect(network: Option<&Arc<Path>>, port: u16) -> Result<TcpStream, String> {
    let mut failures = Vec::new();
    for (family, address) in [("4", IpAddr::V4(Ipv4Addr::LOCALHOST)), ("6", IpAddr::V6(Ipv6Addr::LOCALHOST))] {
        let address = SocketAddr::new(address, port);
        let connecting = async { socket(network.cloned(), address.is_ipv6()).await?.connect(address).await };
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                // Queries and their answers are small, and each waits for the other.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => failures.push(format!("IPv{family}: dial tcp{family} {address}: connect: {}", words(&error))),
        }
    }
    Err(format!("failed to connect to localhost:{port} inside the pod: {}", failures.join(" ")))
}

/// `connection refused`.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// A socket belongs to the network namespace in which it is made, whoever uses it then. The thread that makes it ends: it needs no way back.
async fn socket(network: Option<Arc<Path>>, v6: bool) -> io::Result<TcpSocket> {
    let make = move || if v6 { TcpSocket::new_v6() } else { TcpSocket::new_v4() };
    let Some(network) = network else { return make() };
    let (made, socket) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("forward".into()).stack_size(64 * 1024).spawn(move || {
        let joined = File::open(&network).and_then(|namespace| Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?));
        // Nobody waits any more: the client has given up.
        let _ = made.send(joined.and_then(|()| make()));
    })?;
    socket.await.unwrap_or_else(|_| Err(io::Error::other("the thread that makes a socket ended early")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refused_connection_is_told_in_words_that_users_know() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(connect(None, port).await.is_ok());
        drop(listener);
        let why = connect(None, port).await.unwrap_err();
        assert!(why.starts_with(&format!("failed to connect to localhost:{port} inside the pod: IPv4: dial tcp4 127.0.0.1:{port}: connect: connection refused")), "{why}");
    }

    #[tokio::test]
    async fn a_namespace_that_is_gone_is_an_error() {
        let missing: Arc<Path> = Path::new("/nonexistent/netns").into();
        let why = connect(Some(&missing), 80).await.unwrap_err();
        assert!(why.contains("no such file or directory"), "{why}");
    }
}
