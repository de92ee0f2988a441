//! Pod to node: filters and scores, pure, and the runner that binds.

use mainstay_client::Cluster;

/// Runs the scheduler until the future is dropped.
pub async fn run(_cluster: Cluster) {
    todo!()
}
