//! Getting a container's image: pull policies, pull secrets, and the words for what goes wrong.

use base64::{Engine, engine::general_purpose::STANDARD};
use crate::context::Node;
use crate::objects;
use crate::pod::events::Events;
use crate::pod::launch::Failure;
use k8s_openapi::api::core::v1::{Container, Pod};
use mainstay_images::{Credentials, Error, Image};
use std::time::Instant;

/// The image, pulled if its policy says so. Upstream: `EnsureImageExists` (pkg/kubelet/images/image_manager.go).
pub(crate) async fn ensure(node: &Node, pod: &Pod, container: &Container, events: &Events) -> Result<Image, Failure> {
    let name = container.image.clone().unwrap_or_default();
    if let Err(error) = mainstay_images::canonical(&name) {
        let message = format!("Failed to apply default image tag {name:?}: {error}");
        events.warn_container(pod, &container.name, "InspectFailed", message.clone());
        events.warn_container(pod, &container.name, "Failed", "Error: InvalidImageName");
        return Err(Failure::image("InvalidImageName", message));
    }
    let here = node.images.find(&name);
    let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
    match (policy, here) {
        // An imported image came from no registry, so that there is no newer one to ask for.
        ("Always", Some(image)) if image.digests.is_empty() => Ok(present(pod, container, &name, events, image)),
        ("Always", _) | ("IfNotPresent", None) => pull(node, pod, container, &name, events).await,
        ("Never", None) => {
            let message = format!("Container image {name:?} is not present with pull policy of Never");
            events.warn_container(pod, &container.name, "ErrImageNeverPull", message.clone());
            events.warn_container(pod, &container.name, "Failed", "Error: ErrImageNeverPull");
            Err(Failure::image("ErrImageNeverPull", message))
        }
        (_, Some(image)) => Ok(present(pod, container, &name, events, image)),
        (_, None) => pull(node, pod, container, &name, events).await,
    }
}

fn present(pod: &Pod, container: &Container, name: &str, events: &Events, image: Image) -> Image {
    let message = format!("Container image {name:?} already present on machine and can be accessed by the pod");
    events.container(pod, &container.name, "Pulled", message);
    image
}

async fn pull(node: &Node, pod: &Pod, container: &Container, name: &str, events: &Events) -> Result<Image, Failure> {
    events.container(pod, &container.name, "Pulling", format!("Pulling image {name:?}"));
    let started = Instant::now();
    match node.images.pull(name, &credentials(node, pod).await).await {
        Ok(image) => {
            let took = format!("{:.3}s", started.elapsed().as_secs_f64());
            let message = format!("Successfully pulled image {name:?} in {took} ({took} including waiting). Image size: {} bytes.", image.size_bytes);
            events.container(pod, &container.name, "Pulled", message);
            Ok(image)
        }
        Err(error) => {
            let text = match error {
                Error::Name { .. } | Error::Pull { .. } => error.to_string(),
                other => format!("failed to pull image {name:?}: {other}"),
            };
            events.warn_container(pod, &container.name, "Failed", format!("Failed to pull image {name:?}: {text}"));
            events.warn_container(pod, &container.name, "Failed", "Error: ErrImagePull");
            Err(Failure::image("ErrImagePull", text))
        }
    }
}

/// From the pod's imagePullSecrets; one that is missing or damaged is no reason not to try without (as upstream).
async fn credentials(node: &Node, pod: &Pod) -> Vec<Credentials> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut all = Vec::new();
    for reference in pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten()) {
        match objects::secret(&node.cluster, namespace, &reference.name).await {
            Ok(Some(secret)) => {
                for (key, value) in secret.data.iter().flatten() {
                    match key.as_str() {
                        ".dockerconfigjson" => all.extend(parse(&value.0, true)),
                        ".dockercfg" => all.extend(parse(&value.0, false)),
                        _ => {}
                    }
                }
            }
            Ok(None) => tracing::warn!(namespace, secret = reference.name, "the pod's imagePullSecret does not exist"),
            Err(error) => tracing::warn!(namespace, secret = reference.name, error, "the pod's imagePullSecret cannot be read"),
        }
    }
    all
}

/// docker's `config.json`, or the older form without `auths` around it.
fn parse(bytes: &[u8], wrapped: bool) -> Vec<Credentials> {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else { return Vec::new() };
    let auths = if wrapped { &value["auths"] } else { &value };
    let mut all = Vec::new();
    for (registry, entry) in auths.as_object().into_iter().flatten() {
        let plain = entry["username"].as_str().zip(entry["password"].as_str()).map(|(u, p)| (u.to_owned(), p.to_owned()));
        let encoded = || {
            let bytes = STANDARD.decode(entry["auth"].as_str()?).ok()?;
            let text = String::from_utf8(bytes).ok()?;
            text.split_once(':').map(|(u, p)| (u.to_owned(), p.trim_end_matches('\0').to_owned()))
        };
        if let Some((user, password)) = plain.or_else(encoded) {
            all.push(Credentials { registry: registry.clone(), user, password });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_docker_config_gives_user_and_password_in_either_form() {
        let config = br#"{"auths":{"r.example":{"auth":"dTpwOnE="},"s.example":{"username":"a","password":"b"},"t.example":{}}}"#;
        let found: Vec<_> = parse(config, true).into_iter().map(|c| format!("{} {} {}", c.registry, c.user, c.password)).collect();
        assert_eq!(found, ["r.example u p:q", "s.example a b"]);
        assert!(parse(b"not json", true).is_empty());
    }
}
