//! Pulling from a registry.

use crate::layer::Hashing;
use crate::store::Blob;
use crate::{Credentials, Error, Image, Images};
use futures::StreamExt as _;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// Layers that come in at once.
const PARALLEL_LAYERS: usize = 3;

/// Pulls, checking every digest; the image is recorded last.
pub(crate) async fn pull(images: &Images, reference: &Reference, credentials: &[Credentials]) -> Result<Image, Error> {
    let mut last = None;
    for (endpoint, protocol) in endpoints(images.directory(), reference.registry()) {
        let at = Reference::try_from(reference.whole().replacen(reference.registry(), &endpoint, 1)).unwrap_or_else(|_| reference.clone());
        let client = Client::new(ClientConfig {
            protocol,
            connect_timeout: Some(Duration::from_secs(10)),
            read_timeout: Some(Duration::from_secs(60)),
            user_agent: concat!("mainstay/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        });
        for auth in candidates(reference, &endpoint, credentials) {
            match one(images, &client, reference, &at, &auth).await {
                Ok(image) => return Ok(image),
                Err(error) => last = Some(error),
            }
        }
    }
    Err(last.unwrap_or_else(|| Error::Pull { image: reference.whole(), reason: "no endpoint".into() }))
}

async fn one(images: &Images, client: &Client, reference: &Reference, at: &Reference, auth: &RegistryAuth) -> Result<Image, Error> {
    let failed = |reason: String| Error::Pull { image: reference.whole(), reason };
    let (manifest, digest, config) = client.pull_manifest_and_config(at, auth).await.map_err(|e| failed(words(&e)))?;
    let parsed: oci_spec::image::ImageConfiguration = serde_json::from_str(&config).map_err(|e| failed(format!("image configuration: {e}")))?;
    let diff_ids = parsed.rootfs().diff_ids().clone();
    if diff_ids.len() != manifest.layers.len() {
        return Err(failed(format!("{} layers, but the configuration names {}", manifest.layers.len(), diff_ids.len())));
    }
    let wanted: Vec<_> = manifest.layers.iter().cloned().zip(diff_ids).filter(|(_, diff_id)| !images.has_layer(diff_id)).collect();
    let results: Vec<Result<(), Error>> = futures::stream::iter(wanted)
        .map(|(layer, diff_id)| {
            let (images, failed) = (images.clone(), &failed);
            async move {
                let blob = Blob { path: images.temporary() };
                let fetched = fetch(client, at, &layer, &blob.path).await.map_err(|e| failed(words(&e)));
                let taken = match fetched {
                    Ok(()) => {
                        let store = images.clone();
                        let (path, digest) = (blob.path.clone(), layer.digest.clone());
                        tokio::task::spawn_blocking(move || {
                            verify(&path, &digest).map_err(|reason| Error::Archive { archive: digest, reason })?;
                            store.add_layer(&Blob { path }, &diff_id)
                        })
                        .await
                        .unwrap_or_else(|e| Err(failed(e.to_string())))
                    }
                    Err(error) => Err(error),
                };
                images.discard(&blob.path);
                taken
            }
        })
        .buffer_unordered(PARALLEL_LAYERS)
        .collect()
        .await;
    results.into_iter().collect::<Result<(), _>>()?;
    let by_digest = format!("{}/{}@{digest}", reference.registry(), reference.repository());
    images.add_image(config.as_bytes(), &[reference.whole()], Some(by_digest))
}

async fn fetch(client: &Client, at: &Reference, layer: &oci_client::manifest::OciDescriptor, path: &Path) -> Result<(), OciDistributionError> {
    let mut stream = client.pull_blob_stream(at, layer).await?.stream;
    let mut file = tokio::fs::File::create(path).await?;
    while let Some(chunk) = stream.next().await {
        file.write_all(&chunk?).await?;
    }
    file.flush().await?;
    Ok(())
}

fn verify(path: &Path, digest: &str) -> Result<(), String> {
    let mut hashing = Hashing::new(File::open(path).map_err(|e| e.to_string())?);
    io::copy(&mut hashing, &mut io::sink()).map_err(|e| e.to_string())?;
    let found = hashing.finish();
    if found == digest { Ok(()) } else { Err(format!("layer {digest} arrived with digest {found}")) }
}

/// Mirrors of a registry first, then itself. `registries.json` beside the image directory: `{"docker.io": ["http://127.0.0.1:5000"]}`.
/// A registry on this machine's loopback may speak plain HTTP, as docker allows.
fn endpoints(images_dir: &Path, registry: &str) -> Vec<(String, ClientProtocol)> {
    let mirrors: BTreeMap<String, Vec<String>> = images_dir
        .parent()
        .and_then(|dir| std::fs::read(dir.join("registries.json")).ok())
        .and_then(|bytes| serde_json::from_slice(&bytes).inspect_err(|e| tracing::warn!("registries.json: {e}")).ok())
        .unwrap_or_default();
    let mut all: Vec<(String, ClientProtocol)> = mirrors
        .get(registry)
        .into_iter()
        .flatten()
        .map(|m| match m.strip_prefix("http://") {
            Some(host) => (host.trim_end_matches('/').to_owned(), ClientProtocol::Http),
            None => (m.trim_start_matches("https://").trim_end_matches('/').to_owned(), ClientProtocol::Https),
        })
        .collect();
    let host = registry.split(':').next().unwrap_or(registry);
    let local = host == "localhost" || host.starts_with("127.");
    all.push((registry.to_owned(), if local { ClientProtocol::Http } else { ClientProtocol::Https }));
    all
}

/// Credentials that are for this registry, then none.
fn candidates(reference: &Reference, endpoint: &str, credentials: &[Credentials]) -> Vec<RegistryAuth> {
    let is_for = |c: &&Credentials| {
        let host = c.registry.trim_start_matches("https://").trim_start_matches("http://").split('/').next().unwrap_or_default();
        host == endpoint || host == reference.registry() || (reference.registry() == "docker.io" && matches!(host, "index.docker.io" | "registry-1.docker.io"))
    };
    credentials.iter().filter(is_for).map(|c| RegistryAuth::Basic(c.user.clone(), c.password.clone())).chain([RegistryAuth::Anonymous]).collect()
}

/// What the registry said, in few words, with the cause of a transport error.
fn words(error: &OciDistributionError) -> String {
    match error {
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => "unauthorized: authentication required".into(),
        OciDistributionError::ImageManifestNotFoundError(_) => "not found".into(),
        OciDistributionError::RegistryError { envelope, .. } => envelope.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(inner) = cause {
                text = format!("{text}: {inner}");
                cause = inner.source();
            }
            text
        }
    }
}
