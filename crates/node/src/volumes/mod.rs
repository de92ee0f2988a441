//! Volumes of a pod: each becomes one path on the node that containers bind.
//!
//! Claims and host paths are bound where they are; only what the node itself makes lives below the pod's directories. What comes from objects of
//! the API (`payload`) is written atomically and follows its objects while the pod runs.

mod claim;
mod empty_dir;
mod host_path;
pub(crate) mod ownership;
mod payload;
mod payload_dir;
pub(crate) mod subpath;
mod token;

use crate::Config;
use crate::container::fields::Surroundings;
use crate::container::paths::Paths;
use crate::pod::reference::{PodRef, volumes};
use k8s_openapi::api::core::v1::{Pod, Volume};
use mainstay_client::Cluster;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

pub(crate) use token::Tokens;

/// Where a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    pub(crate) path: PathBuf,
    /// The volume itself forbids writing (a claim mounted `readOnly`, what comes from objects).
    pub(crate) read_only: bool,
}

/// What mounting needs to know.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) cluster: &'a Cluster,
    pub(crate) paths: &'a Paths,
    pub(crate) pod: &'a Pod,
    pub(crate) around: &'a Surroundings,
    pub(crate) tokens: &'a Tokens,
    /// Containers of the pod run or ran: this is an adopted pod, whose volumes are its own by now.
    pub(crate) begun: bool,
}

impl Context<'_> {
    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }
    /// Group that owns what the pod may write.
    fn fs_group(&self) -> Option<u32> {
        let group = self.pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
        u32::try_from(group).ok()
    }
}

/// Mounts every volume, together. The error is the message of a FailedMount event.
pub(crate) async fn mount_all(context: &Context<'_>) -> Result<BTreeMap<String, Mounted>, String> {
    let each = volumes(context.pod).iter().map(|volume| async move {
        let mounted = mount(context, volume).await.map_err(|e| format!("MountVolume.SetUp failed for volume {:?} : {e}", volume.name))?;
        Ok::<_, String>((volume.name.clone(), mounted))
    });
    futures::future::try_join_all(each).await.map(|list| list.into_iter().collect())
}

async fn mount(context: &Context<'_>, volume: &Volume) -> Result<Mounted, String> {
    if payload::is_payload(volume) {
        let path = payload::write(context, volume).await?;
        return Ok(Mounted { path, read_only: true });
    }
    if let Some(source) = &volume.empty_dir {
        return empty_dir::mount(context, &volume.name, source).await;
    }
    if let Some(source) = &volume.host_path {
        return host_path::mount(&source.path, source.type_.as_deref().unwrap_or_default()).await;
    }
    if let Some(source) = &volume.persistent_volume_claim {
        return claim::mount(context, &source.claim_name, source.read_only == Some(true)).await;
    }
    if volume.ephemeral.is_some() {
        let name = PodRef::of(context.pod).name;
        return claim::mount(context, &format!("{name}-{}", volume.name), false).await;
    }
    Err(format!("volumes of type {} are not supported on this node", kind(volume)))
}

/// The name of the set source.
fn kind(volume: &Volume) -> String {
    match serde_json::to_value(volume) {
        Ok(serde_json::Value::Object(map)) => map.keys().find(|k| *k != "name").cloned().unwrap_or_else(|| "unknown".into()),
        _ => "unknown".into(),
    }
}

/// Writes again what has changed in the objects behind the pod's volumes, and renews tokens. Returns when a token needs the next look.
pub(crate) async fn refresh(context: &Context<'_>) -> Result<Option<SystemTime>, String> {
    for volume in volumes(context.pod).iter().filter(|v| payload::is_payload(v)) {
        payload::write(context, volume).await.map_err(|e| format!("MountVolume.SetUp failed for volume {:?} : {e}", volume.name))?;
    }
    Ok(context.tokens.next_refresh())
}
