//! One container: from the pod's words to the runtime's.

pub(crate) mod cgroup;
pub(crate) mod env;
pub(crate) mod etc;
pub(crate) mod fields;
pub(crate) mod paths;
pub(crate) mod rootfs;
pub(crate) mod spec;
pub(crate) mod termination;
pub(crate) mod user;
pub(crate) mod warmth;
