//! `postStart` and `preStop`.

use crate::probes::{self, http};
use k8s_openapi::api::core::v1::{Container as Spec, LifecycleHandler};
use mainstay_supervisor::Container;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Runs one hook to its end, for at most `limit`. The error is what went wrong, for an event.
pub(crate) async fn run(hook: &LifecycleHandler, spec: &Spec, container: &Container, ip: Ipv4Addr, limit: Duration) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        return probes::command(container, command, limit).await;
    }
    if let Some(get) = &hook.http_get {
        return http::get(get, spec, ip, limit).await;
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0)).min(limit)).await;
        return Ok(());
    }
    if hook.tcp_socket.is_some() {
        return Err("tcpSocket is not supported in lifecycle hooks".to_owned());
    }
    Ok(())
}
