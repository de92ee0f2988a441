//! The files every pod gets: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`.

use crate::Config;
use crate::pod::reference::host_network;
use k8s_openapi::api::core::v1::Pod;
use std::path::Path;

/// Upstream: `GeneratePodHostNameAndDomain` (pkg/kubelet/kubelet_pods.go). Host name and, for a pod of a headless service, its domain.
pub(crate) fn hostname(pod: &Pod, config: &Config) -> (String, Option<String>) {
    let spec = pod.spec.as_ref();
    if host_network(pod) {
        return (config.name.clone(), None);
    }
    if let Some(name) = spec.and_then(|s| s.hostname_override.clone()) {
        return (name, None);
    }
    let set = |v: Option<&String>| v.filter(|v| !v.is_empty()).cloned();
    let mut host = set(spec.and_then(|s| s.hostname.as_ref())).or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    host.truncate(63);
    let host = host.trim_end_matches(['-', '.']).to_owned();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = set(spec.and_then(|s| s.subdomain.as_ref())).map(|sub| format!("{sub}.{namespace}.svc.{}", config.domain));
    (host, domain)
}

/// The name `uname` shows: the full one with `setHostnameAsFQDN`.
pub(crate) fn kernel_hostname(pod: &Pod, config: &Config) -> String {
    let (host, domain) = hostname(pod, config);
    match domain {
        Some(domain) if pod.spec.as_ref().and_then(|s| s.set_hostname_as_fqdn) == Some(true) => format!("{host}.{domain}"),
        _ => host,
    }
}

pub(crate) fn hosts(pod: &Pod, config: &Config, ip: &str) -> String {
    let mut out = if host_network(pod) {
        std::fs::read_to_string("/etc/hosts").unwrap_or_default()
    } else {
        let mut text = String::from(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let (host, domain) = hostname(pod, config);
        match domain {
            Some(domain) => text.push_str(&format!("{ip}\t{host}.{domain}\t{host}\n")),
            None => text.push_str(&format!("{ip}\t{host}\n")),
        }
        text
    };
    let aliases = pod.spec.iter().flat_map(|s| s.host_aliases.iter().flatten());
    for (at, alias) in aliases.enumerate() {
        if at == 0 {
            out.push_str("\n# Entries added by HostAliases.\n");
        }
        out.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join("\t")));
    }
    out
}

/// Name servers, search domains and options of a resolver configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Resolver {
    pub(crate) servers: Vec<String>,
    pub(crate) searches: Vec<String>,
    pub(crate) options: Vec<String>,
}

impl Resolver {
    pub(crate) fn parse(text: &str) -> Self {
        let mut out = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => out.servers.extend(words.next().map(str::to_owned)),
                Some("search") => out.searches = words.map(str::to_owned).collect(),
                Some("options") => out.options = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        out
    }

    fn text(&self) -> String {
        let mut out = String::new();
        if !self.searches.is_empty() {
            out.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        self.servers.iter().for_each(|s| out.push_str(&format!("nameserver {s}\n")));
        if !self.options.is_empty() {
            out.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        out
    }
}

/// What the host itself resolves with; behind a local stub (systemd-resolved) the servers it asks, since pods cannot reach its loopback address.
pub(crate) fn host_resolver() -> Resolver {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).map(|t| Resolver::parse(&t)).unwrap_or_default();
    let own = read("/etc/resolv.conf");
    if own.servers.iter().any(|s| s == "127.0.0.53") { read("/run/systemd/resolve/resolv.conf") } else { own }
}

/// Upstream: `GetPodDNS` (pkg/kubelet/network/dns/dns.go): at most 3 servers and 32 search domains.
pub(crate) fn resolv_conf(pod: &Pod, config: &Config, host: &Resolver) -> String {
    let spec = pod.spec.as_ref();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let cluster = || {
        let domain = &config.domain;
        let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
        searches.extend(host.searches.iter().cloned());
        Resolver { servers: vec![config.dns.to_string()], searches, options: vec!["ndots:5".into()] }
    };
    let mut resolver = match spec.and_then(|s| s.dns_policy.as_deref()) {
        Some("None") => Resolver::default(),
        Some("Default") => host.clone(),
        Some("ClusterFirstWithHostNet") => cluster(),
        _ if host_network(pod) => host.clone(),
        _ => cluster(),
    };
    if let Some(dns) = spec.and_then(|s| s.dns_config.as_ref()) {
        resolver.servers.extend(dns.nameservers.iter().flatten().cloned());
        resolver.searches.extend(dns.searches.iter().flatten().cloned());
        for option in dns.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            resolver.options.retain(|o| *o != name && !o.starts_with(&format!("{name}:")));
            resolver.options.push(option.value.as_ref().map_or_else(|| name.clone(), |v| format!("{name}:{v}")));
        }
    }
    unique(&mut resolver.servers);
    unique(&mut resolver.searches);
    resolver.servers.truncate(3);
    resolver.searches.truncate(32);
    resolver.text()
}

fn unique(list: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn config() -> Config {
        Config {
            name: "node-1".into(),
            data_dir: "/d".into(),
            run_dir: "/r".into(),
            instance: "t".into(),
            dns: Ipv4Addr::new(10, 43, 0, 10),
            domain: "cluster.local".into(),
            api: (Ipv4Addr::new(10, 43, 0, 1), 443),
            ca_certificate: String::new(),
        }
    }

    fn pod(spec: serde_json::Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = serde_json::json!([]);
        serde_json::from_value(serde_json::json!({"metadata": {"name": "web-0", "namespace": "shop"}, "spec": spec})).unwrap()
    }

    #[test]
    fn each_dns_policy_has_its_own_resolv_conf() {
        let host = Resolver { servers: vec!["192.0.2.1".into()], searches: vec!["example.com".into()], options: vec![] };
        for (spec, want) in [
            (
                serde_json::json!({}),
                "search shop.svc.cluster.local svc.cluster.local cluster.local example.com\nnameserver 10.43.0.10\noptions ndots:5\n",
            ),
            (serde_json::json!({"dnsPolicy": "Default"}), "search example.com\nnameserver 192.0.2.1\n"),
            (serde_json::json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}), "search example.com\nnameserver 192.0.2.1\n"),
            (
                serde_json::json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"], "searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
                "search a.b\nnameserver 9.9.9.9\noptions ndots:2 edns0\n",
            ),
        ] {
            assert_eq!(resolv_conf(&pod(spec.clone()), &config(), &host), want, "{spec}");
        }
    }

    #[test]
    fn a_pod_of_a_headless_service_finds_its_full_name_in_hosts() {
        let text = hosts(&pod(serde_json::json!({"hostname": "web-0", "subdomain": "web"})), &config(), "10.42.0.7");
        assert!(text.contains("10.42.0.7\tweb-0.web.shop.svc.cluster.local\tweb-0\n"), "{text}");
        let text = hosts(&pod(serde_json::json!({"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]})), &config(), "10.42.0.7");
        assert!(text.ends_with("10.42.0.7\tweb-0\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
    }
}
