//! Whole packets, over real sockets and past them.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::answer::{name, tests::zone};
use proptest::prelude::*;
use std::time::Instant;

const CLUSTER: &str = "
    default/web 10.43.0.20 http:80/tcp = 10.42.0.5
    default/db None pg:5432/tcp = 10.42.0.7~db-0 10.42.0.8~db-1
    default/docs example.org
";

fn question(text: &str, kind: RecordType) -> Message {
    let mut message = Message::new(random::number() as u16, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(text).unwrap(), kind));
    message
}

/// Without any upstream: an address no one can be at, refused at once.
async fn start(upstreams: Vec<SocketAddr>) -> (SocketAddr, tokio::task::JoinHandle<io::Result<()>>) {
    start_with(zone(CLUSTER), upstreams).await
}

async fn start_with(zone: SharedZone, upstreams: Vec<SocketAddr>) -> (SocketAddr, tokio::task::JoinHandle<io::Result<()>>) {
    let config = Config { domain: "cluster.local".into(), listen: ([127, 0, 0, 1], 0).into(), upstreams, host: None };
    let server = Server::bind(&config, zone).await.unwrap();
    (server.address(), tokio::spawn(server.serve()))
}

async fn ask_raw(server: SocketAddr, packet: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(packet, server).await.unwrap();
    let mut buffer = vec![0; 65535];
    let length = tokio::time::timeout(Duration::from_secs(3), socket.recv(&mut buffer)).await.expect("an answer").unwrap();
    buffer.truncate(length);
    buffer
}

async fn ask(server: SocketAddr, question: &Message) -> Message {
    Message::from_vec(&ask_raw(server, &question.to_vec().unwrap()).await).unwrap()
}

#[tokio::test]
async fn an_answer_is_authoritative_and_repeats_the_question_as_it_was_written() {
    let (server, _task) = start(vec![]).await;
    let asked = question("wEb.DEFAULT.svc.cluster.LOCAL", RecordType::A);
    let reply = ask(server, &asked).await;
    assert_eq!((reply.metadata.id, reply.metadata.response_code), (asked.metadata.id, ResponseCode::NoError));
    assert!(reply.metadata.authoritative && reply.metadata.recursion_available && reply.metadata.recursion_desired);
    assert_eq!(reply.queries[0].name().to_ascii(), "wEb.DEFAULT.svc.cluster.LOCAL.");
    assert_eq!(reply.answers[0].name.to_ascii(), "wEb.DEFAULT.svc.cluster.LOCAL.");
}

#[tokio::test]
async fn nothing_that_is_missing_may_be_remembered() {
    let (server, _task) = start(vec![]).await;
    for (asked, kind, code) in [
        ("nope.default.svc.cluster.local", RecordType::A, ResponseCode::NXDomain),
        ("web.default.svc.cluster.local", RecordType::AAAA, ResponseCode::NoError),
    ] {
        let reply = ask(server, &question(asked, kind)).await;
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (code, 0));
        assert!(reply.metadata.authoritative);
        assert!(reply.authorities[0].data.to_string().ends_with(" 86400 0"), "{}", reply.authorities[0].data);
        assert_eq!(reply.authorities[0].ttl, 0);
    }
}

#[tokio::test]
async fn without_upstreams_other_names_fail_at_once() {
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (server, _task) = start(vec![nobody]).await;
    let start = Instant::now();
    assert_eq!(ask(server, &question("example.org", RecordType::A)).await.metadata.response_code, ResponseCode::ServFail);
    assert!(start.elapsed() < Duration::from_secs(1));
    let alias = ask(server, &question("docs.default.svc.cluster.local", RecordType::A)).await;
    assert_eq!((alias.metadata.response_code, alias.answers.len()), (ResponseCode::NoError, 1));
}

/// Answers every question with 192.0.2.80, after a forged answer of another id.
async fn upstream() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let mut reply = Message::from_vec(&buffer[..length]).unwrap().into_response();
            let id = reply.metadata.id;
            let asked = reply.queries[0].name().clone();
            for (id, last) in [(id ^ 1, 66), (id, 80)] {
                reply.metadata.id = id;
                let data = hickory_proto::rr::RData::A(hickory_proto::rr::rdata::A([192, 0, 2, last].into()));
                reply.answers = vec![Record::from_rdata(asked.clone(), 60, data)];
                socket.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
            }
        }
    });
    address
}

#[tokio::test]
async fn other_names_are_asked_upstream_and_forged_answers_are_not_heard() {
    let (server, _task) = start(vec![upstream().await]).await;
    let reply = ask(server, &question("example.org", RecordType::A)).await;
    assert_eq!(reply.answers[0].data.to_string(), "192.0.2.80");
    assert!(!reply.metadata.authoritative);
    let reply = ask(server, &question("docs.default.svc.cluster.local", RecordType::A)).await;
    let answers: Vec<String> = reply.answers.iter().map(|r| format!("{} {}", r.name, r.data)).collect();
    assert_eq!(answers, ["docs.default.svc.cluster.local. example.org.", "example.org. 192.0.2.80"]);
}

#[tokio::test]
async fn a_long_answer_is_cut_over_udp_and_whole_over_tcp() {
    let many: String = (0..200).map(|i| format!(" 10.42.1.{i}")).collect();
    let (server, _task) = start_with(zone(&format!("default/db None pg:5432/tcp ={many}")), vec![]).await;
    let mut asked = question("db.default.svc.cluster.local", RecordType::A);
    for (payload, limit) in [(None, 512), (Some(1232), 1232), (Some(65535), 1232)] {
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            asked.set_edns(edns);
        }
        let packet = ask_raw(server, &asked.to_vec().unwrap()).await;
        let reply = Message::from_vec(&packet).unwrap();
        assert!(packet.len() <= limit && reply.metadata.truncation && !reply.answers.is_empty());
        assert_eq!(reply.edns.is_some(), payload.is_some());
    }
    let mut stream = TcpStream::connect(server).await.unwrap();
    for _ in 0..2 {
        let bytes = asked.to_vec().unwrap();
        stream.write_u16(bytes.len() as u16).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut packet = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut packet).await.unwrap();
        let reply = Message::from_vec(&packet).unwrap();
        assert!(!reply.metadata.truncation);
        assert_eq!(reply.answers.len(), 200);
    }
}

#[tokio::test]
async fn what_is_no_question_gets_an_error_or_nothing() {
    let (server, _task) = start(vec![]).await;
    let mut update = question("web.default.svc.cluster.local", RecordType::A);
    update.metadata.op_code = OpCode::Notify;
    assert_eq!(ask(server, &update).await.metadata.response_code, ResponseCode::NotImp);
    let mut two = question("web.default.svc.cluster.local", RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(ask(server, &two).await.metadata.response_code, ResponseCode::FormErr);
    let mut chaos = question("version.bind", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(ask(server, &chaos).await.metadata.response_code, ResponseCode::Refused);
    let mut cut = question("web.default.svc.cluster.local", RecordType::A).to_vec().unwrap();
    cut.truncate(20);
    assert_eq!(Message::from_vec(&ask_raw(server, &cut).await).unwrap().metadata.response_code, ResponseCode::FormErr);
    let response = question("web.default.svc.cluster.local", RecordType::A).into_response().to_vec().unwrap();
    assert!(matches!(handle(&zone(CLUSTER), &response), Verdict::Ignore));
}

#[test]
fn answers_come_in_changing_order() {
    let zone = zone(CLUSTER);
    let packet = question("db.default.svc.cluster.local", RecordType::A).to_vec().unwrap();
    let first = || match handle(&zone, &packet) {
        Verdict::Reply(reply) => reply.answers[0].data.to_string(),
        _ => String::new(),
    };
    let firsts: std::collections::BTreeSet<String> = (0..64).map(|_| first()).collect();
    assert_eq!(firsts.len(), 2);
}

proptest! {
    #[test]
    fn no_packet_makes_the_server_panic(packet in proptest::collection::vec(any::<u8>(), 0..600)) {
        let zone = zone(CLUSTER);
        if let Verdict::Reply(reply) = handle(&zone, &packet) {
            encode(&reply, 512);
        }
    }

    #[test]
    fn no_damaged_question_makes_the_server_panic(at in 0usize..60, with in any::<u8>(), cut in 0usize..60) {
        let zone = zone(CLUSTER);
        let mut packet = question("_pg._tcp.db.default.svc.cluster.local", RecordType::SRV).to_vec().unwrap();
        let at = at % packet.len();
        packet[at] = with;
        packet.truncate(packet.len() - cut % packet.len());
        if let Verdict::Reply(reply) = handle(&zone, &packet) {
            encode(&reply, 512);
        }
    }
}

#[test]
fn figures() {
    let zone = zone(CLUSTER);
    for (asked, kind) in [("web.default.svc.cluster.local", RecordType::A), ("_pg._tcp.db.default.svc.cluster.local", RecordType::SRV), ("example.com.default.svc.cluster.local", RecordType::A)] {
        let packet = question(asked, kind).to_vec().unwrap();
        let rounds = 20_000;
        let start = Instant::now();
        for _ in 0..rounds {
            if let Verdict::Reply(reply) = handle(&zone, &packet) {
                std::hint::black_box(encode(&reply, 1232));
            }
        }
        eprintln!("{kind} {asked}: {:.2} µs from packet to packet", start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
    }
}

/// The whole of it: objects appear in the API, names appear here.
#[tokio::test]
async fn names_follow_the_cluster() {
    use http::Method;
    use serde_json::json;
    let api = mainstay_client::fake::Api::new();
    let cluster = mainstay_client::Cluster::new(api.client(), "dns");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "default"},
        "spec": {"clusterIP": "None", "ports": [{"name": "pg", "port": 5432}]}});
    api.apply(Method::POST, "/api/v1/namespaces/default/services", &service).unwrap();
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = Config { domain: "cluster.local".into(), listen: port, upstreams: vec![port], host: None };
    let (ready, told) = tokio::sync::oneshot::channel();
    tokio::spawn(crate::run(config, cluster, move || ready.send(()).unwrap()));
    told.await.unwrap();
    let resolve = async |text: &str| {
        let reply = ask(port, &question(text, RecordType::A)).await;
        let mut found: Vec<String> = reply.answers.iter().map(|r| r.data.to_string()).collect();
        found.sort();
        format!("{} {}", reply.metadata.response_code, found.join(" "))
    };
    assert_eq!(resolve("db.default.svc.cluster.local").await, "No Error ");
    let slice = |endpoints: serde_json::Value| {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "db-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "db"}},
            "ports": [{"name": "pg", "port": 5432, "protocol": "TCP"}], "endpoints": endpoints})
    };
    let until = async |text: &str, expected: &str| {
        let start = Instant::now();
        loop {
            let found = resolve(text).await;
            if found == expected {
                return start.elapsed();
            }
            assert!(start.elapsed() < Duration::from_secs(5), "{text}: {found}");
        }
    };
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let one = slice(json!([{"addresses": ["10.42.0.7"], "hostname": "db-0", "conditions": {"ready": true}}]));
    api.apply(Method::POST, path, &one).unwrap();
    let there = until("db-0.db.default.svc.cluster.local", "No Error 10.42.0.7").await;
    let none = slice(json!([{"addresses": ["10.42.0.7"], "hostname": "db-0", "conditions": {"ready": false}}]));
    api.apply(Method::PUT, &format!("{path}/db-1"), &none).unwrap();
    let gone = until("db-0.db.default.svc.cluster.local", "Non-Existent Domain ").await;
    eprintln!("a record is there {there:?} after its slice, and gone {gone:?} after");
    api.apply(Method::DELETE, "/api/v1/namespaces/default/services/db", &json!({})).unwrap();
    until("db.default.svc.cluster.local", "Non-Existent Domain ").await;
}
