//! The node agent: pods to sandboxes, volumes and containers, and its kubelet-like service.
