//! Pods' namespaces, addresses and routes.

use crate::support::*;
use mainstay_network::{Network, choose_ranges};
use std::net::Ipv4Addr;
use std::time::Instant;

#[test]
fn pods_reach_each_other_and_the_host_and_the_host_reaches_them() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        let a = network.attach("pod-a").await.unwrap();
        let b = network.attach("pod-b").await.unwrap();
        assert_eq!([a.address, b.address], [Ipv4Addr::new(10, 42, 0, 2), Ipv4Addr::new(10, 42, 0, 3)]);
        serve(&b, 80);
        let to = (b.address, 80);
        assert_eq!(in_pod(&a, move || call(to)), "pod-b saw 10.42.0.2");
        assert_eq!(call(to), "pod-b saw 10.42.0.1");
        let listener = std::net::TcpListener::bind((Ipv4Addr::new(10, 43, 0, 1), 443)).unwrap();
        let answer = std::thread::spawn(move || std::io::Write::write_all(&mut listener.accept().unwrap().0, b"kubernetes").unwrap());
        assert_eq!(in_pod(&a, || call((Ipv4Addr::new(10, 43, 0, 1), 443))), "kubernetes");
        answer.join().unwrap();
    });
}

#[test]
fn a_pod_has_lo_and_eth0_with_the_uplinks_mtu_and_no_ipv6_but_loopback() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        let pod = network.attach("pod-a").await.unwrap();
        let seen = in_pod(&pod, || (ip("-br link"), ip("-br address"), ip("route")));
        assert!(seen.0.contains("lo ") && seen.0.contains("eth0@") && seen.0.contains("02:00:0a:2a:00:02"), "{}", seen.0);
        assert!(in_pod(&pod, || ip("link show eth0")).contains("mtu 1400"));
        let addresses: Vec<&str> = seen.1.split_whitespace().filter(|w| w.contains('/')).collect();
        assert_eq!(addresses, ["127.0.0.1/8", "::1/128", "10.42.0.2/32"]);
        assert!(seen.2.contains("default via 169.254.1.1 dev eth0 proto static onlink"), "{}", seen.2);
        // Unprivileged ports: nothing below 1024 is reserved.
        let first = in_pod(&pod, || std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap());
        assert_eq!(first.trim(), "0");
    });
}

#[test]
fn attaching_twice_gives_the_same_sandbox() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        let (first, second) = tokio::join!(network.attach("pod-a"), network.attach("pod-a"));
        assert_eq!(first.unwrap().address, second.unwrap().address);
        assert_eq!(network.sandboxes().len(), 1);
    });
}

#[test]
fn a_detached_address_is_gone_at_once_and_rests() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        let pod = network.attach("pod-a").await.unwrap();
        network.detach("pod-a").await.unwrap();
        assert!(!ip("route").contains(&format!("{} dev", pod.address)));
        network.idle().await;
        assert!(!ip("-br link").contains("mst-"));
        let again = network.attach("pod-a").await.unwrap();
        assert_eq!(again.address, Ipv4Addr::new(10, 42, 0, 3));
        network.detach("pod-b").await.unwrap();
    });
}

#[test]
fn a_start_adopts_live_sandboxes_and_undoes_half_made_ones() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        let a = network.attach("pod-a").await.unwrap();
        let b = network.attach("pod-b").await.unwrap();
        serve(&a, 80);
        drop(network);
        // As a kill between the record and its completion leaves it.
        let record = dir.path().join("sandboxes/pod-b.json");
        let half = std::fs::read_to_string(&record).unwrap().replace("true", "false");
        std::fs::write(&record, half).unwrap();
        ip(&format!("route delete {}", a.address));
        ip("link add mst-fe type veth peer name gone0");
        let network = open(dir.path()).await;
        let names: Vec<String> = network.sandboxes().into_iter().map(|s| s.pod).collect();
        assert_eq!(names, ["pod-a"]);
        assert_eq!(call((a.address, 80)), "pod-a saw 10.42.0.1");
        assert!(!b.netns.exists() && !record.exists());
        let links = ip("-br link");
        assert!(links.contains("mst-2") && !links.contains("mst-3") && !links.contains("mst-fe"), "{links}");
        assert_eq!(network.attach("pod-c").await.unwrap().address, Ipv4Addr::new(10, 42, 0, 3));
    });
}

#[test]
fn two_instances_live_side_by_side() {
    on_a_host(|dir| async move {
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let first = choose_ranges().await.unwrap();
        let a = Network::open(&one, "a", first.clone()).await.unwrap();
        let second = choose_ranges().await.unwrap();
        assert_ne!(first, second);
        let b = Network::open(&two, "ab", second).await.unwrap();
        let pod_a = a.attach("pod").await.unwrap();
        let pod_b = b.attach("pod").await.unwrap();
        serve(&pod_b, 80);
        let to = (pod_b.address, 80);
        assert!(in_pod(&pod_a, move || call(to)).starts_with("pod saw "));
        drop(a);
        Network::purge(&one, "a").await.unwrap();
        assert_eq!(call(to), format!("pod saw {}", b.ranges().host()));
    });
}

#[test]
fn purge_leaves_nothing() {
    on_a_host(|dir| async move {
        let state = || {
            let forwarding = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
            let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
            format!("{}\n{}\n{}\n{}\n{forwarding}{mounts}", ip("-br link"), ip("-br address"), ip("route show table all"), run("nft", "list ruleset"))
        };
        let before = state();
        let network = open(dir.path()).await;
        network.attach("pod-a").await.unwrap();
        network.attach("pod-b").await.unwrap();
        network.detach("pod-b").await.unwrap();
        network.idle().await;
        drop(network);
        assert_ne!(state(), before);
        Network::purge(dir.path(), "t").await.unwrap();
        assert_eq!(state(), before);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        Network::purge(dir.path(), "t").await.unwrap();
    });
}

#[test]
fn figures() {
    on_a_host(|dir| async move {
        let network = open(dir.path()).await;
        let mut times = Vec::new();
        for n in 0..40 {
            let start = Instant::now();
            network.attach(&format!("pod-{n}")).await.unwrap();
            times.push(start.elapsed());
        }
        times.sort();
        let mut detach = Vec::new();
        for n in 0..40 {
            let start = Instant::now();
            network.detach(&format!("pod-{n}")).await.unwrap();
            detach.push(start.elapsed());
        }
        let start = Instant::now();
        network.idle().await;
        detach.sort();
        eprintln!("attach: median {:?}, worst {:?}; detach: median {:?}, worst {:?}; all 40 gone {:?} later", times[20], times[39], detach[20], detach[39], start.elapsed());
    });
}
