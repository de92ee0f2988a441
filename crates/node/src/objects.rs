//! ConfigMaps and Secrets by name, from the API: the caches say only that one changed, and keep no contents but those of the ConfigMap that
//! every pod mounts.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use mainstay_client::{Cluster, ROOT_CA};
use std::sync::Arc;

/// `None`: there is none.
pub(crate) async fn config_map(cluster: &Cluster, namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, String> {
    if name == ROOT_CA
        && let Some(found) = cluster.config_maps().get(namespace, name)
    {
        return Ok(Some(found));
    }
    absent(cluster.get::<ConfigMap>(namespace, name).await)
}

/// `None`: there is none.
pub(crate) async fn secret(cluster: &Cluster, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, String> {
    absent(cluster.get::<Secret>(namespace, name).await)
}

fn absent<K>(answer: Result<K, mainstay_client::Error>) -> Result<Option<Arc<K>>, String> {
    match answer {
        Ok(object) => Ok(Some(Arc::new(object))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}
