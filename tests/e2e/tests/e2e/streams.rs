//! Port-forward, and commands over SPDY: what old clients speak, and what forwarded ports are carried in.

use crate::spdy::{Client, Frame};
use mainstay_e2e::{Kubectl, Machine, eventually};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

pub(crate) const TESTS: &[crate::Test] = &[
    ("ports_are_forwarded_from_pods_sets_and_services", forwards),
    ("a_refused_port_and_a_deleted_pod_end_the_forward_in_words", endings),
    ("postgresql_answers_through_a_forwarded_port", postgresql),
    ("spdy_clients_run_commands_and_forward_ports", spdy),
    ("pods_and_services_answer_through_the_server", proxies),
    ("an_older_kubectl_execs_attaches_copies_and_forwards", older),
];

const SET: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: busybox:1.35
        command: ["sh", "-c", "mkdir /w; hostname > /w/index.html; httpd -p 127.0.0.1:8080 -h /w; httpd -p 8082 -h /w; nc -ll -p 8081 -e cat & echo started; trap 'exit 0' TERM; while true; do sleep 0.1; done"]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: own, port: 80, targetPort: 8080}, {name: open, port: 81, targetPort: 8082}]}
"#;

fn web(machine: &Machine, namespace: &str) -> Kubectl {
    let k = machine.namespace(namespace);
    k.apply(SET);
    k.ok(&["rollout", "status", "statefulset/web", "--timeout=60s"]);
    k
}

/// A kubectl that goes on until it is dropped.
struct Background {
    child: Child,
    /// The local port it named.
    port: u16,
    out: BufReader<std::process::ChildStdout>,
}

impl Background {
    /// Runs it until it says `before` and a port.
    fn start(k: &Kubectl, args: &[&str], before: &str) -> Self {
        let mut child = k.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kubectl runs");
        let mut out = BufReader::new(child.stdout.take().expect("it was piped"));
        let mut line = String::new();
        out.read_line(&mut line).expect("kubectl speaks");
        let port = line.split(before).nth(1).and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
        let Some(port) = port else {
            let mut error = String::new();
            let _ = child.kill();
            let _ = child.stderr.take().expect("it was piped").read_to_string(&mut error);
            panic!("kubectl {}: {line}{error}", args.join(" "));
        };
        Self { child, port, out }
    }

    fn forward(k: &Kubectl, target: &str, port: &str) -> Self {
        Self::start(k, &["port-forward", "--address=127.0.0.1", target, port], "127.0.0.1:")
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("kubectl listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream
    }

    fn get(&self) -> Result<String, String> {
        let mut stream = self.connect();
        let mut answer = String::new();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(|error| error.to_string())?;
        stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
        answer.split("\r\n\r\n").nth(1).map(str::to_owned).ok_or(answer)
    }

    /// Waits until it ends by itself; what it said on standard error.
    fn ended(mut self) -> String {
        let mut error = String::new();
        let _ = self.child.stderr.take().expect("it was piped").read_to_string(&mut error);
        let _ = self.child.wait();
        error
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn forwards(machine: &Machine) {
    let k = web(machine, "streams-forward");
    for (target, port) in [("pod/web-0", ":8080"), ("statefulset/web", ":8080"), ("service/web", ":80")] {
        let forward = Background::forward(&k, target, port);
        assert_eq!(forward.get().as_deref(), Ok("web-0\n"), "{target}");
    }
    let forward = Background::forward(&k, "pod/web-0", ":8080");
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..40).map(|_| scope.spawn(|| forward.get())).collect();
        for one in all {
            assert_eq!(one.join().expect("no panic").as_deref(), Ok("web-0\n"));
        }
    });
    // Each way by itself: the echo ends only when it is told that its input has.
    let forward = Background::forward(&k, "pod/web-0", ":8081");
    let mut stream = forward.connect();
    let sent: Vec<u8> = (0..4_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut writer = stream.try_clone().expect("a socket can be shared");
    let input = sent.clone();
    let writing = std::thread::spawn(move || writer.write_all(&input).and_then(|()| writer.shutdown(std::net::Shutdown::Write)));
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("the echo comes back");
    assert!(back == sent, "{} of {} bytes came back", back.len(), sent.len());
    writing.join().expect("no panic").expect("all was taken");
    k.ok(&["delete", "statefulset", "web", "--wait=false"]);
}

fn endings(machine: &Machine) {
    let k = web(machine, "streams-endings");
    let forward = Background::forward(&k, "pod/web-0", ":9999");
    let refused = forward.get();
    assert!(refused.as_deref().unwrap_or_default().is_empty(), "{refused:?}");
    let said = forward.ended();
    assert!(said.contains("an error occurred forwarding") && said.contains("-> 9999") && said.contains("connection refused"), "{said}");
    let idle = Background::forward(&k, "pod/web-0", ":8080");
    assert_eq!(idle.get().as_deref(), Ok("web-0\n"));
    k.ok(&["delete", "statefulset", "web"]);
    k.ok(&["wait", "--for=delete", "pod/web-0", "--timeout=30s"]);
    let said = idle.ended();
    assert!(said.contains("lost connection to pod"), "{said}");
}

fn postgresql(machine: &Machine) {
    let k = machine.namespace("streams-postgres");
    let run = ["run", "p", "--image=postgres:15", "--env=POSTGRES_PASSWORD=secret", "--port=5432"];
    k.ok(&run);
    k.ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=60s"]);
    // kubectl gives a forward up at the first refused connection, so each try is a new one.
    eventually("PostgreSQL lets in who comes from its own loopback, as a forward does", Duration::from_secs(90), || {
        let forward = Background::forward(&k, "pod/p", ":5432");
        let mut stream = forward.connect();
        let words = b"user\0postgres\0database\0postgres\0\0";
        let mut startup = (words.len() as u32 + 8).to_be_bytes().to_vec();
        startup.extend_from_slice(&196_608u32.to_be_bytes());
        startup.extend_from_slice(words);
        stream.write_all(&startup).map_err(|error| error.to_string())?;
        let mut answer = [0; 9];
        stream.read_exact(&mut answer).map_err(|error| error.to_string())?;
        // AuthenticationOk, code 0: initdb trusts 127.0.0.1.
        if answer[0] == b'R' && answer[5..9] == [0, 0, 0, 0] { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    k.ok(&["delete", "pod", "p", "--wait=false", "--grace-period=1"]);
}

fn spdy(machine: &Machine) {
    let k = web(machine, "streams-spdy");
    // It does TLS and the certificate, and passes upgrades on.
    let mut proxy = Background::start(&k, &["proxy", "--port=0", "--reject-paths=^$"], "127.0.0.1:");
    let exec = |protocol: &str, query: &str, types: &[&str]| {
        let mut client = Client::upgrade(proxy.port, &format!("/api/v1/namespaces/streams-spdy/pods/web-0/exec?container=c&{query}"), protocol);
        for (id, kind) in (1..).step_by(2).zip(types) {
            client.open(id, &[("streamtype", kind)]);
        }
        client
    };
    let mut client = exec("v4.channel.k8s.io", "command=cat&stdin=true&stdout=true&stderr=true", &["error", "stdin", "stdout", "stderr"]);
    client.data(3, b"over spdy", true);
    let frames = client.rest();
    assert_eq!((text(&frames, 5), text(&frames, 1)), ("over spdy".into(), r#"{"metadata":{},"status":"Success"}"#.into()));
    let mut client = exec("v2.channel.k8s.io", "command=sh&command=-c&command=exit+5&stdout=true&stderr=true", &["error", "stdout", "stderr"]);
    assert_eq!(text(&client.rest(), 1), "command terminated with non-zero exit code: exit status 5");
    let mut client = exec("v4.channel.k8s.io", "command=sh&stdin=true&stdout=true&tty=true", &["error", "stdin", "stdout", "resize"]);
    client.data(7, br#"{"Width":123,"Height":45}"#, false);
    client.data(3, b"until [ \"$(stty size)\" = '45 123' ]; do sleep 0.1; done; exit 6\n", false);
    assert!(text(&client.rest(), 1).contains(r#""message":"6""#));
    let mut client = Client::upgrade(proxy.port, "/api/v1/namespaces/streams-spdy/pods/web-0/portforward", "portforward.k8s.io");
    client.open(1, &[("streamtype", "error"), ("port", "8080"), ("requestid", "0")]);
    client.open(3, &[("streamtype", "data"), ("port", "8080"), ("requestid", "0")]);
    client.data(3, b"GET / HTTP/1.0\r\n\r\n", true);
    let mut answer = String::new();
    loop {
        match client.next().expect("the pod answers before the connection ends") {
            Frame::Data(3, data, last) => {
                answer += &String::from_utf8_lossy(&data);
                if last {
                    break;
                }
            }
            other => assert!(!matches!(other, Frame::Data(1, ref data, _) if !data.is_empty()), "{other:?}"),
        }
    }
    assert!(answer.ends_with("web-0\n"), "{answer}");
    k.ok(&["delete", "statefulset", "web", "--wait=false"]);
    let _ = proxy.child.kill();
    let _ = proxy.out.read_to_string(&mut String::new());
}

fn proxies(machine: &Machine) {
    let k = web(machine, "streams-proxy");
    let path = |rest: &str| format!("/api/v1/namespaces/streams-proxy/{rest}");
    for rest in ["pods/web-0:8082/proxy/", "pods/web-0:8082/proxy/index.html", "services/web:81/proxy/", "services/web:open/proxy/", "services/http:web:81/proxy/"] {
        eventually(rest, Duration::from_secs(10), || match k.run(&["get", "--raw", &path(rest)]) {
            answer if answer.out == "web-0\n" => Ok(()),
            answer => Err(format!("{answer:?}")),
        });
    }
    for (rest, words) in [
        ("pods/web-0:8082/proxy/none", "the server could not find the requested resource"),
        ("pods/web-0:9999/proxy/", "error trying to reach service"),
        ("pods/web-1/proxy/", "pods \"web-1\" not found"),
        ("services/web:82/proxy/", "no service port \"82\" found for service \"web\""),
    ] {
        k.fails(&["get", "--raw", &path(rest)], words);
    }
    k.ok(&["delete", "statefulset", "web", "--wait=false"]);
}

fn text(frames: &[Frame], id: u32) -> String {
    let parts = frames.iter().filter_map(|frame| if let Frame::Data(of, data, _) = frame && *of == id { Some(&data[..]) } else { None });
    String::from_utf8_lossy(&parts.collect::<Vec<_>>().concat()).into_owned()
}

fn older(machine: &Machine) {
    let Some(program) = std::env::var_os("KUBECTL_OLD") else {
        return println!("skipped: KUBECTL_OLD names no kubectl that speaks only SPDY (1.29 or older)");
    };
    let newer = web(machine, "streams-older");
    let k = newer.using(&program);
    assert_eq!(k.ok(&["exec", "web-0", "--", "hostname"]), "web-0");
    assert_eq!(k.run(&["exec", "web-0", "--", "sh", "-c", "exit 7"]).code, 7);
    assert_eq!(k.with_input(&["exec", "-i", "web-0", "--", "cat"], "one\ntwo\n").out, "one\ntwo\n");
    let both = k.run(&["exec", "web-0", "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((both.out.as_str(), both.err.trim_end()), ("out\n", "err"));
    k.fails(&["exec", "web-0", "--", "no-such-command"], "no-such-command");
    let run = k.run(&["run", "r", "--rm", "-i", "--restart=Never", "--image=busybox:1.35", "--", "sh", "-c", "sleep 0.5; echo hello there; exit 3"]);
    assert!(run.code == 3 && run.out.contains("hello there"), "{run:?}");
    let directory = machine.data_dir.parent().expect("a directory");
    let (there, back) = (directory.join("older-there"), directory.join("older-back"));
    let bytes: Vec<u8> = (0..2_000_000u32).map(|n| (n % 253) as u8).collect();
    std::fs::write(&there, &bytes).expect("write");
    k.ok(&["cp", &there.to_string_lossy(), "web-0:/tmp/there"]);
    k.ok(&["cp", "web-0:/tmp/there", &back.to_string_lossy()]);
    assert!(std::fs::read(&back).expect("read") == bytes);
    let forward = Background::forward(&k, "service/web", ":80");
    for _ in 0..3 {
        assert_eq!(forward.get().as_deref(), Ok("web-0\n"));
    }
    newer.ok(&["delete", "statefulset", "web", "--wait=false"]);
}
