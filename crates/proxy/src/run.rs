//! The caches' changes into the network.

use crate::rules;
use mainstay_client::Cluster;
use mainstay_network::Network;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError, error::TryRecvError};

/// Changes this close together become one transaction.
const GATHER: Duration = Duration::from_millis(1);
/// The kernel said no: again after this, or with the next change.
const RETRY: Duration = Duration::from_secs(1);

/// How often someone else's `nft flush ruleset` is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Keeps the network's service rules as services and endpoint slices say, until the caches end. The network itself writes only what changed.
pub async fn run(cluster: Cluster, network: Network) {
    let (services, slices) = (cluster.services(), cluster.endpoint_slices());
    let (mut service_changes, mut slice_changes) = (services.subscribe(), slices.subscribe());
    tokio::join!(services.synced(), slices.synced());
    loop {
        drain(&mut service_changes);
        drain(&mut slice_changes);
        let (all, of_them) = (services.list(), slices.list());
        let wanted = rules(all.iter().map(AsRef::as_ref), of_them.iter().map(AsRef::as_ref));
        let applied = network.set_services(wanted).await.inspect_err(|error| tracing::error!(%error, "service rules not applied"));
        let again = async {
            match applied {
                Ok(()) => std::future::pending().await,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        };
        let looking = async {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                if let Err(error) = network.repair_rules().await {
                    tracing::error!(%error, "removed rules could not be put back");
                }
            }
        };
        let goes_on = tokio::select! {
            change = service_changes.recv() => change.is_ok() || matches!(change, Err(RecvError::Lagged(_))),
            change = slice_changes.recv() => change.is_ok() || matches!(change, Err(RecvError::Lagged(_))),
            () = again => true,
            () = looking => true,
        };
        if !goes_on {
            return;
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// What is queued is in the caches already.
fn drain<T: Clone>(changes: &mut Receiver<T>) {
    while matches!(changes.try_recv(), Ok(_) | Err(TryRecvError::Lagged(_))) {}
}
