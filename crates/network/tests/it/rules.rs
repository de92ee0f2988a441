//! Services, node ports, host ports, and what has no endpoint.

use crate::support::*;
use mainstay_network::{HostPort, Network, Protocol, Sandbox, ServicePort};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 20);

fn service(endpoints: &[&Sandbox]) -> ServicePort {
    let endpoints = endpoints.iter().map(|p| (p.address, 80)).collect();
    ServicePort { name: "default/web:http".into(), address: VIP, port: 8080, protocol: Protocol::Tcp, external: Vec::new(), node_port: Some(30080), affinity_seconds: None, endpoints }
}

async fn two_servers(network: &Network) -> (Sandbox, Sandbox) {
    let a = network.attach("pod-a").await.unwrap();
    let b = network.attach("pod-b").await.unwrap();
    serve(&a, 80);
    serve(&b, 80);
    (a, b)
}

#[test]
fn a_service_address_leads_from_pods_and_from_the_host_to_every_endpoint() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        let (a, b) = two_servers(&network).await;
        let client = network.attach("client").await.unwrap();
        network.set_services(vec![service(&[&a, &b])]).await.unwrap();
        let from_pod: BTreeSet<String> = (0..30).map(|_| in_pod(&client, || call((VIP, 8080)))).collect();
        assert_eq!(Vec::from_iter(from_pod), ["pod-a saw 10.42.0.4", "pod-b saw 10.42.0.4"]);
        let from_host: BTreeSet<String> = (0..30).map(|_| call((VIP, 8080))).collect();
        assert_eq!(Vec::from_iter(from_host), ["pod-a saw 10.42.0.1", "pod-b saw 10.42.0.1"]);
    });
}

#[test]
fn the_host_reaches_services_without_an_uplink() {
    on_a_host(|dir| async move {
        ip("link delete up0");
        let network = open(dir.path()).await;
        let (a, _) = two_servers(&network).await;
        network.set_services(vec![service(&[&a])]).await.unwrap();
        assert_eq!(call((VIP, 8080)), "pod-a saw 10.42.0.1");
    });
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        let (a, _) = two_servers(&network).await;
        network.set_services(vec![service(&[&a])]).await.unwrap();
        assert_eq!(in_pod(&a, || call((VIP, 8080))), "pod-a saw 10.42.0.1");
    });
}

#[test]
fn without_an_endpoint_a_connection_is_refused_at_once() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        let (a, b) = two_servers(&network).await;
        for services in [vec![], vec![service(&[])], vec![service(&[&a])], vec![service(&[])]] {
            let expected = if services.iter().any(|s| !s.endpoints.is_empty()) { "pod-a saw" } else { "connection refused" };
            network.set_services(services).await.unwrap();
            let start = Instant::now();
            let answers = [in_pod(&b, || call((VIP, 8080))), call((VIP, 8080))];
            assert!(answers.iter().all(|a| a.starts_with(expected)), "{answers:?}");
            assert!(start.elapsed() < Duration::from_millis(500));
        }
        assert_eq!(call((VIP, 9)), "connection refused");
        let refused = in_pod(&b, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.connect((VIP, 53)).unwrap();
            socket.send(b"?").unwrap();
            socket.recv(&mut [0; 8]).unwrap_err().kind().to_string()
        });
        assert_eq!(refused, "connection refused");
    });
}

#[test]
fn a_node_port_answers_on_every_address_of_the_host_and_on_loopback() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        let (a, b) = two_servers(&network).await;
        network.set_services(vec![service(&[&a])]).await.unwrap();
        let host = Ipv4Addr::new(192, 0, 2, 2);
        assert_eq!(call((host, 30080)), "pod-a saw 192.0.2.2");
        assert_eq!(call((Ipv4Addr::LOCALHOST, 30080)), "pod-a saw 10.42.0.1");
        assert_eq!(in_pod(&b, move || call((host, 30080))), "pod-a saw 10.42.0.3");
        // Loopback is the host's own: a pod that forges it is dropped, and the service range has no node ports.
        assert_ne!(in_pod(&b, || call((Ipv4Addr::LOCALHOST, 30080))), "pod-a saw 10.42.0.3");
        assert_eq!(call((Ipv4Addr::new(10, 43, 0, 10), 30080)), "connection refused");
    });
}

#[test]
fn a_host_port_leads_to_its_pod_on_all_addresses_or_on_one() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        let (a, b) = two_servers(&network).await;
        let port = |pod: &Sandbox, address, port| HostPort { pod: pod.pod.clone(), host: (address, port), target: (pod.address, 80), protocol: Protocol::Tcp };
        let host = Ipv4Addr::new(192, 0, 2, 2);
        network.set_host_ports(vec![port(&a, None, 5432), port(&b, Some(Ipv4Addr::LOCALHOST), 5433)]).await.unwrap();
        assert_eq!(call((host, 5432)), "pod-a saw 192.0.2.2");
        assert_eq!(call((Ipv4Addr::LOCALHOST, 5432)), "pod-a saw 10.42.0.1");
        assert_eq!(call((Ipv4Addr::LOCALHOST, 5433)), "pod-b saw 10.42.0.1");
        assert_eq!(call((host, 5433)), "connection refused");
        network.set_host_ports(vec![]).await.unwrap();
        assert_eq!(call((host, 5432)), "connection refused");
    });
}

#[test]
fn a_client_with_affinity_stays_with_its_endpoint() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        let (a, b) = two_servers(&network).await;
        let client = network.attach("client").await.unwrap();
        let sticky = |endpoints: &[&Sandbox]| ServicePort { affinity_seconds: Some(10800), ..service(endpoints) };
        network.set_services(vec![sticky(&[&a, &b])]).await.unwrap();
        let answers = |n| (0..n).map(|_| in_pod(&client, || call((VIP, 8080)))).collect::<BTreeSet<String>>();
        let first = answers(20);
        assert_eq!(first.len(), 1, "{first:?}");
        // The other endpoint goes and comes back: the client does not move.
        let (stays, goes) = if first.iter().next().unwrap().starts_with("pod-a") { (&a, &b) } else { (&b, &a) };
        network.set_services(vec![sticky(&[stays])]).await.unwrap();
        network.set_services(vec![sticky(&[stays, goes])]).await.unwrap();
        assert_eq!(answers(20), first);
    });
}

#[test]
fn rules_survive_a_restart_and_a_flushed_ruleset() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        let (a, b) = two_servers(&network).await;
        network.set_services(vec![service(&[&a])]).await.unwrap();
        network.idle().await;
        drop(network);
        let network = open(dir.path()).await;
        assert_eq!(call((VIP, 8080)), "pod-a saw 10.42.0.1");
        run("nft", "flush ruleset");
        network.set_services(vec![service(&[&b])]).await.unwrap();
        assert_eq!(call((VIP, 8080)), "pod-b saw 10.42.0.1");
        drop(network);
        Network::purge(dir.path(), "t").await.unwrap();
        assert_eq!(run("nft", "list ruleset"), "");
    });
}

#[test]
fn an_external_address_leads_to_the_endpoints_from_the_host_and_from_pods() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        let (a, b) = two_servers(&network).await;
        let outside = Ipv4Addr::new(203, 0, 113, 9);
        network.set_services(vec![ServicePort { external: vec![outside], ..service(&[&a]) }]).await.unwrap();
        ip("route add 203.0.113.9/32 via 192.0.2.1 dev up0");
        assert_eq!(call((outside, 8080)), "pod-a saw 192.0.2.2");
        assert_eq!(in_pod(&b, move || call((outside, 8080))), "pod-a saw 10.42.0.3");
    });
}

#[test]
fn a_flushed_ruleset_is_noticed_and_put_back() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        let (a, _) = two_servers(&network).await;
        network.set_services(vec![service(&[&a])]).await.unwrap();
        assert!(!network.repair_rules().await.unwrap(), "nothing was wrong");
        for flush in ["flush ruleset", "flush table ip mainstay-t"] {
            run("nft", flush);
            assert_ne!(call((VIP, 8080)), "pod-a saw 10.42.0.1");
            assert!(network.repair_rules().await.unwrap(), "after {flush}");
            assert_eq!(call((VIP, 8080)), "pod-a saw 10.42.0.1", "after {flush}");
        }
        run("nft", "add table ip another");
        assert!(!network.repair_rules().await.unwrap(), "a table of someone else's is no matter of ours");
    });
}

#[test]
fn a_udp_flow_moves_when_its_endpoint_goes() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        let a = network.attach("pod-a").await.unwrap();
        let b = network.attach("pod-b").await.unwrap();
        for pod in [&a, &b] {
            let name = pod.pod.clone();
            let socket = in_pod(pod, || UdpSocket::bind("0.0.0.0:53").unwrap());
            std::thread::spawn(move || {
                let mut buffer = [0; 16];
                while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(name.as_bytes(), from);
                }
            });
        }
        let client = network.attach("client").await.unwrap();
        let dns = |pod: &Sandbox| ServicePort { port: 53, protocol: Protocol::Udp, node_port: None, endpoints: vec![(pod.address, 53)], ..service(&[]) };
        network.set_services(vec![dns(&a)]).await.unwrap();
        let socket = in_pod(&client, || UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let ask = |when: &str| {
            let mut buffer = [0; 16];
            socket.send_to(b"?", (VIP, 53)).unwrap();
            let n = socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{when}: {e}"));
            String::from_utf8_lossy(&buffer[..n]).into_owned()
        };
        assert_eq!(ask("at first"), "pod-a");
        network.set_services(vec![dns(&b)]).await.unwrap();
        assert_eq!(ask("after the change"), "pod-b");
    });
}

#[test]
fn other_firewalls_are_named_with_what_to_run() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        assert!(network.warnings().await.is_empty());
        run("nft", "add table inet mine");
        run("nft", "add chain inet mine forward { type filter hook forward priority 0 ; policy drop ; }");
        let words = network.warnings().await;
        assert!(words.len() == 1 && words[0].contains("nft insert rule inet mine forward iifname \"mst-*\" accept"), "{words:?}");
        run("nft", "insert rule inet mine forward iifname \"mst-*\" accept");
        assert!(network.warnings().await.is_empty());
    });
}

#[test]
fn figures() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        let many = |count: u32, endpoint: u8| -> Vec<ServicePort> {
            let one = |n: u32| ServicePort {
                name: format!("default/web-{n}:http"),
                address: Ipv4Addr::from(u32::from(VIP) + n),
                node_port: None,
                endpoints: (0..3).map(|e| (Ipv4Addr::new(10, 42, 0, endpoint + e), 80)).collect(),
                ..service(&[])
            };
            (0..count).map(one).collect()
        };
        for count in [1, 100, 1000] {
            let mut times = Vec::new();
            for round in 0..20 {
                network.set_services(many(count, 2 + round % 2)).await.unwrap();
                let mut next = many(count, 2 + round % 2);
                next[0].endpoints.pop();
                let start = Instant::now();
                network.set_services(next).await.unwrap();
                times.push(start.elapsed());
            }
            times.sort();
            let start = Instant::now();
            network.set_services(vec![]).await.unwrap();
            let removed = start.elapsed();
            let start = Instant::now();
            network.set_services(many(count, 9)).await.unwrap();
            eprintln!("{count} services of 3 endpoints: all added {:?}, all removed {removed:?}, one changed {:?}", start.elapsed(), times[10]);
            network.set_services(vec![]).await.unwrap();
        }
    });
}

#[test]
fn traffic_to_the_outside_carries_the_hosts_address() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        let pod = network.attach("pod-a").await.unwrap();
        // The other end of the uplink, in a namespace of its own.
        let outside = network.attach("outside").await.unwrap();
        ip(&format!("link set wire0 netns {}", outside.netns.display()));
        let socket = in_pod(&outside, || {
            ip("address add 192.0.2.1/24 dev wire0");
            ip("link set wire0 up");
            let socket = UdpSocket::bind("192.0.2.1:9000").unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
            socket
        });
        in_pod(&pod, || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"hello", "192.0.2.1:9000").unwrap());
        let mut buffer = [0; 16];
        let (_, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(from.ip().to_string(), "192.0.2.2");
    });
}

