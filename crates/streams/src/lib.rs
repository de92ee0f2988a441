//! The exec, attach and log protocols of the Kubernetes API: WebSocket v5 channels.
