//! `examples/web`: identity, order, volumes, DNS.

use mainstay_e2e::{Machine, repository};

pub(crate) const TESTS: &[crate::Test] = &[("three_replicas_have_names_volumes_and_records", identity), ("scaling_is_ordered_and_claims_stay", scaling)];

fn example() -> String {
    repository().join("examples/web").to_string_lossy().into_owned()
}

fn identity(machine: &Machine) {
    let k = machine.namespace("web-identity");
    k.ok(&["apply", "-f", &example()]);
    k.ok(&["rollout", "status", "statefulset/web", "--timeout=120s"]);
    assert_eq!(k.ok(&["get", "pods", "-l", "app=nginx", "-o", "jsonpath={.items[*].metadata.name}"]), "web-0 web-1 web-2");
    assert_eq!(k.ok(&["get", "pvc", "-o", "jsonpath={.items[*].metadata.name}"]), "www-web-0 www-web-1 www-web-2");
    let page = k.ok(&["run", "test", "--rm", "-i", "--quiet", "--restart=Never", "--image=curlimages/curl", "--image-pull-policy=IfNotPresent", "--", "-s", "http://web-1.nginx-headless"]);
    assert_eq!(page.trim(), "web-1");
    k.ok(&["exec", "web-1", "--", "sh", "-c", "echo kept > /usr/share/nginx/html/kept.txt"]);
    let before = k.field("pod/web-1", "{.metadata.uid}");
    k.ok(&["delete", "pod", "web-1"]);
    k.until("statefulset/web", "{.status.readyReplicas}", "3", 60);
    assert_ne!(k.field("pod/web-1", "{.metadata.uid}"), before);
    assert_eq!(k.ok(&["exec", "web-1", "--", "cat", "/usr/share/nginx/html/kept.txt"]), "kept");
    k.ok(&["delete", "-f", &example(), "--wait=false"]);
}

fn scaling(machine: &Machine) {
    let k = machine.namespace("web-scaling");
    k.ok(&["apply", "-f", &example()]);
    k.ok(&["rollout", "status", "statefulset/web", "--timeout=120s"]);
    k.ok(&["scale", "statefulset/web", "--replicas=1"]);
    k.ok(&["wait", "--for=delete", "pod/web-1", "pod/web-2", "--timeout=60s"]);
    assert_eq!(k.ok(&["get", "pvc", "-o", "jsonpath={.items[*].metadata.name}"]), "www-web-0 www-web-1 www-web-2");
    k.ok(&["scale", "statefulset/web", "--replicas=3"]);
    k.until("statefulset/web", "{.status.readyReplicas}", "3", 60);
    k.ok(&["delete", "-f", &example(), "--wait=false"]);
}
