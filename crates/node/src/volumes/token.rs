//! ServiceAccount tokens for projected volumes: asked for by TokenRequest, bound to the pod, renewed at 80% of their life.

use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use mainstay_client::Cluster;
use parking_lot::Mutex;
use serde_json::json;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

/// The tokens of one pod, by volume and source.
#[derive(Default)]
pub(crate) struct Tokens {
    by_source: Mutex<HashMap<String, Token>>,
}

#[derive(Clone)]
struct Token {
    token: String,
    refresh_at: SystemTime,
}

impl Tokens {
    /// The current token, a new one if the current is old. A renewal that fails keeps the current while it is valid.
    pub(crate) async fn get(&self, cluster: &Cluster, pod: &Pod, key: &str, source: &ServiceAccountTokenProjection) -> Result<String, String> {
        let current = self.by_source.lock().get(key).cloned();
        if let Some(token) = current.as_ref().filter(|t| t.refresh_at > SystemTime::now()) {
            return Ok(token.token.clone());
        }
        match request(cluster, pod, source).await {
            Ok(token) => {
                self.by_source.lock().insert(key.to_owned(), token.clone());
                Ok(token.token)
            }
            Err(error) => match current {
                Some(mut token) => {
                    tracing::warn!(pod = %crate::pod::reference::PodRef::of(pod), %error, "a service account token could not be renewed; trying again in a minute");
                    token.refresh_at = SystemTime::now() + Duration::from_secs(60);
                    let text = token.token.clone();
                    self.by_source.lock().insert(key.to_owned(), token);
                    Ok(text)
                }
                None => Err(error),
            },
        }
    }

    pub(crate) fn next_refresh(&self) -> Option<SystemTime> {
        self.by_source.lock().values().map(|t| t.refresh_at).min()
    }
}

async fn request(cluster: &Cluster, pod: &Pod, source: &ServiceAccountTokenProjection) -> Result<Token, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let account = pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref()).filter(|n| !n.is_empty()).unwrap_or("default");
    let seconds = source.expiration_seconds.unwrap_or(3600).clamp(600, 1 << 32);
    let audiences: Vec<&str> = source.audience.as_deref().filter(|a| !a.is_empty()).into_iter().collect();
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": audiences,
            "expirationSeconds": seconds,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid},
        },
    });
    let answer = cluster.post_subresource::<ServiceAccount>(namespace, account, "token", &body).await.map_err(|e| format!("failed to fetch token: {e}"))?;
    let token = answer["status"]["token"].as_str().ok_or("failed to fetch token: the answer holds none")?.to_owned();
    let life = Duration::from_secs(u64::try_from(seconds).unwrap_or(3600));
    Ok(Token { token, refresh_at: SystemTime::now() + life.mul_f64(0.8).min(Duration::from_secs(24 * 3600)) })
}
