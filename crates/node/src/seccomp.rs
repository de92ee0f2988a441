//! The default seccomp profile, which the supervisor's crate keeps beside the runtime it is for.

use oci_spec::runtime::LinuxSeccomp;

/// RuntimeDefault.
pub(crate) fn default_profile() -> Option<LinuxSeccomp> {
    None
}
