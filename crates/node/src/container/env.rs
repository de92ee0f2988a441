//! A container's environment: service variables, `envFrom`, `env`, and the expansion of `$(NAME)`.

use super::fields::{self, Surroundings};
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, Pod, Secret, Service};
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The objects the environment refers to, by name in the pod's namespace; what is absent does not exist.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    pub(crate) config_maps: BTreeMap<String, Arc<ConfigMap>>,
    pub(crate) secrets: BTreeMap<String, Arc<Secret>>,
    pub(crate) services: Vec<Arc<Service>>,
}

/// Names and values in order, the later of two equal names winning in the earlier's place.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    pub(crate) variables: Vec<(String, String)>,
    index: HashMap<String, usize>,
}

impl Environment {
    pub(crate) fn set(&mut self, name: &str, value: String) {
        match self.index.get(name) {
            Some(at) => self.variables[*at].1 = value,
            None => {
                self.index.insert(name.to_owned(), self.variables.len());
                self.variables.push((name.to_owned(), value));
            }
        }
    }
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.index.get(name).map(|at| self.variables[*at].1.as_str())
    }
}

/// Upstream: `makeEnvironmentVariables` (pkg/kubelet/kubelet_pods.go). The error is the message of a CreateContainerConfigError; it names no value.
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    around: &Surroundings,
    api: (Ipv4Addr, u16),
) -> Result<Environment, String> {
    let mut env = Environment::default();
    for (name, value) in service_variables(pod, sources, api) {
        env.set(&name, value);
    }
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            match sources.config_maps.get(&reference.name) {
                Some(map) => map.data.iter().flatten().for_each(|(k, v)| env.set(&format!("{prefix}{k}"), v.clone())),
                None if reference.optional == Some(true) => {}
                None => return Err(format!("configmap {:?} not found", reference.name)),
            }
        }
        if let Some(reference) = &from.secret_ref {
            match sources.secrets.get(&reference.name) {
                Some(secret) => {
                    secret.data.iter().flatten().for_each(|(k, v)| env.set(&format!("{prefix}{k}"), String::from_utf8_lossy(&v.0).into_owned()));
                }
                None if reference.optional == Some(true) => {}
                None => return Err(format!("secret {:?} not found", reference.name)),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) if !value.is_empty() => Some(expand(value, &|name| env.get(name).map(str::to_owned))),
            (_, Some(_)) => referred(pod, container, variable, sources, around)?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            env.set(&variable.name, value);
        }
    }
    Ok(env)
}

/// `None`: an optional source is absent.
fn referred(pod: &Pod, container: &Container, variable: &EnvVar, sources: &Sources, around: &Surroundings) -> Result<Option<String>, String> {
    let Some(from) = &variable.value_from else { return Ok(None) };
    let place = || format!("{}/{}", pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default());
    if let Some(selector) = &from.field_ref {
        return fields::field(pod, selector, around).map(Some);
    }
    if let Some(selector) = &from.resource_field_ref {
        return fields::resource(pod, &container.name, selector, around).map(Some);
    }
    if let Some(selector) = &from.config_map_key_ref {
        let optional = selector.optional == Some(true);
        let Some(map) = sources.config_maps.get(&selector.name) else {
            return if optional { Ok(None) } else { Err(format!("configmap {:?} not found", selector.name)) };
        };
        return match map.data.as_ref().and_then(|d| d.get(&selector.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(format!("couldn't find key {} in ConfigMap {}", selector.key, place_of(&place(), &selector.name))),
        };
    }
    if let Some(selector) = &from.secret_key_ref {
        let optional = selector.optional == Some(true);
        let Some(secret) = sources.secrets.get(&selector.name) else {
            return if optional { Ok(None) } else { Err(format!("secret {:?} not found", selector.name)) };
        };
        return match secret.data.as_ref().and_then(|d| d.get(&selector.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => Err(format!("couldn't find key {} in Secret {}", selector.key, place_of(&place(), &selector.name))),
        };
    }
    Err(format!("env {}: this source is not supported on this node", variable.name))
}

fn place_of(pod: &str, name: &str) -> String {
    format!("{}/{name}", pod.split('/').next().unwrap_or_default())
}

/// Upstream: `FromServices` (pkg/kubelet/envvars/envvars.go). The `kubernetes` service always; those of the namespace unless `enableServiceLinks: false`.
fn service_variables(pod: &Pod, sources: &Sources, api: (Ipv4Addr, u16)) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let links = pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    for service in sources.services.iter().filter(|_| links) {
        let Some(spec) = &service.spec else { continue };
        let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { continue };
        let ports: Vec<_> = spec
            .ports
            .iter()
            .flatten()
            .map(|p| (p.name.clone().unwrap_or_default(), p.port, p.protocol.clone().unwrap_or_else(|| "TCP".into())))
            .collect();
        push_service(&mut out, service.metadata.name.as_deref().unwrap_or_default(), ip, &ports);
    }
    push_service(&mut out, "kubernetes", &api.0.to_string(), &[("https".into(), i32::from(api.1), "TCP".into())]);
    out
}

fn push_service(out: &mut Vec<(String, String)>, name: &str, ip: &str, ports: &[(String, i32, String)]) {
    let Some((_, first, first_protocol)) = ports.first() else { return };
    let name = name.to_uppercase().replace('-', "_");
    out.push((format!("{name}_SERVICE_HOST"), ip.to_owned()));
    out.push((format!("{name}_SERVICE_PORT"), first.to_string()));
    for (port_name, port, _) in ports.iter().filter(|(n, ..)| !n.is_empty()) {
        out.push((format!("{name}_SERVICE_PORT_{}", port_name.to_uppercase().replace('-', "_")), port.to_string()));
    }
    out.push((format!("{name}_PORT"), format!("{}://{ip}:{first}", first_protocol.to_lowercase())));
    for (_, port, protocol) in ports {
        let prefix = format!("{name}_PORT_{port}_{}", protocol.to_uppercase());
        let lower = protocol.to_lowercase();
        out.push((prefix.clone(), format!("{lower}://{ip}:{port}")));
        out.push((format!("{prefix}_PROTO"), lower));
        out.push((format!("{prefix}_PORT"), port.to_string()));
        out.push((format!("{prefix}_ADDR"), ip.to_owned()));
    }
}

/// `$(NAME)` becomes its value, or stays as it is when there is none; `$$` is a dollar sign. Upstream: third_party/forked/golang/expansion.
pub(crate) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|a| a.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollar_parentheses_expand_and_double_dollars_escape() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, want) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$", "$"),
            ("$$$(A)", "$1"),
        ] {
            assert_eq!(expand(text, &lookup), want, "{text}");
        }
    }

    #[test]
    fn a_service_gives_the_variables_docker_links_gave() {
        let mut out = Vec::new();
        push_service(&mut out, "my-db", "10.0.0.1", &[("pg".into(), 5432, "TCP".into())]);
        let names: Vec<_> = out.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            names,
            [
                "MY_DB_SERVICE_HOST=10.0.0.1",
                "MY_DB_SERVICE_PORT=5432",
                "MY_DB_SERVICE_PORT_PG=5432",
                "MY_DB_PORT=tcp://10.0.0.1:5432",
                "MY_DB_PORT_5432_TCP=tcp://10.0.0.1:5432",
                "MY_DB_PORT_5432_TCP_PROTO=tcp",
                "MY_DB_PORT_5432_TCP_PORT=5432",
                "MY_DB_PORT_5432_TCP_ADDR=10.0.0.1",
            ]
        );
    }

    #[test]
    fn env_sees_what_came_before_it_and_wins_over_env_from() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"app": "x"}},
            "spec": {"enableServiceLinks": false, "containers": [{
                "name": "c",
                "resources": {"limits": {"memory": "64Mi"}},
                "envFrom": [{"prefix": "CM_", "configMapRef": {"name": "m"}}, {"secretRef": {"name": "none", "optional": true}}],
                "env": [
                    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "CM_a", "value": "own"},
                    {"name": "URL", "value": "$(POD).$(CM_b).$(MISSING)"},
                    {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                    {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                    {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}},
                ]}]}
        }))
        .unwrap();
        let mut sources = Sources::default();
        let map: ConfigMap = serde_json::from_value(serde_json::json!({"metadata": {}, "data": {"a": "1", "b": "2"}})).unwrap();
        sources.config_maps.insert("m".into(), Arc::new(map));
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let api = (Ipv4Addr::new(10, 43, 0, 1), 443);
        let env = environment(&pod, container, &sources, &Surroundings::default(), api).unwrap();
        let text: Vec<_> = env.variables.iter().filter(|(k, _)| !k.starts_with("KUBERNETES")).map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(text, ["CM_a=own", "CM_b=2", "POD=p", "URL=p.2.$(MISSING)", "APP=x", "MEM=64"]);
        assert_eq!(env.get("KUBERNETES_SERVICE_HOST"), Some("10.43.0.1"));

        let mut broken = container.clone();
        broken.env_from.as_mut().unwrap()[1].secret_ref.as_mut().unwrap().optional = None;
        let error = environment(&pod, &broken, &sources, &Surroundings::default(), api).unwrap_err();
        assert_eq!(error, "secret \"none\" not found");
    }
}
