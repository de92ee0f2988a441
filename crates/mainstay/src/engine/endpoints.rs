//! Where the node's service listens.

use mainstay_server::NodeEndpoints;
use std::path::PathBuf;

/// One node: this machine.
pub(crate) struct Sockets {
    node: String,
    socket: PathBuf,
}

impl Sockets {
    pub(crate) fn new(node: &mainstay_node::Config) -> Self {
        Self { node: node.name.clone(), socket: node.run_dir.join("node.sock") }
    }
}

impl NodeEndpoints for Sockets {
    fn socket(&self, node: &str) -> Option<PathBuf> {
        (node == self.node).then(|| self.socket.clone())
    }
}
