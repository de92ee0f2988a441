//! A host to test on: a thread in its own namespaces, with a runtime.

use mainstay_network::{Network, Ranges, Sandbox};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

pub fn ranges() -> Ranges {
    Ranges { pods: (Ipv4Addr::new(10, 42, 0, 0), 24), services: (Ipv4Addr::new(10, 43, 0, 0), 20) }
}

/// Runs `test` on a fresh host: `lo` up, an uplink `up0` 192.0.2.2/24 with a default route and MTU 1400.
pub fn on_a_host<F: Future<Output = ()>>(test: impl FnOnce(tempfile::TempDir) -> F + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: network namespaces need root");
        return;
    }
    let host = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        // The uplink's own IPv6 address appears seconds later, which a test that compares everything would see.
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        ip("link set lo up");
        ip("link add up0 mtu 1400 type veth peer name wire0");
        ip("address add 192.0.2.2/24 dev up0");
        ip("link set up0 up");
        ip("link set wire0 up");
        ip("route add default via 192.0.2.1");
        let deadline = Instant::now() + Duration::from_secs(5);
        while ip("-br link show up0").split_whitespace().nth(1) != Some("UP") {
            assert!(Instant::now() < deadline, "the uplink does not come up");
            std::thread::yield_now();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(tempfile::tempdir().unwrap()));
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

pub async fn open(dir: &Path) -> Network {
    Network::open(dir, "t", ranges()).await.unwrap()
}

/// `ip` on the host.
pub fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

pub fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs in a pod.
pub fn in_pod<T: Send + 'static>(pod: &Sandbox, work: impl FnOnce() -> T + Send + 'static) -> T {
    let netns = pod.netns.clone();
    let thread = std::thread::spawn(move || {
        setns(File::open(netns).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        work()
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A server in a pod that answers each connection with its name and the address it saw, until the test ends.
pub fn serve(pod: &Sandbox, port: u16) {
    let name = pod.pod.clone();
    let listener = in_pod(pod, move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let peer = stream.peer_addr().map(|a| a.ip().to_string()).unwrap_or_default();
            let _ = write!(stream, "{name} saw {peer}");
        }
    });
}

/// What a connection answers, or why there is none.
pub fn call(to: (impl Into<std::net::IpAddr>, u16)) -> String {
    let mut text = String::new();
    match TcpStream::connect_timeout(&SocketAddr::new(to.0.into(), to.1), Duration::from_secs(2)) {
        Ok(mut stream) => match stream.read_to_string(&mut text) {
            Ok(_) => text,
            Err(e) => e.kind().to_string(),
        },
        Err(e) => e.kind().to_string(),
    }
}
