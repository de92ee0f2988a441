//! What kube-proxy does: services and endpoint slices into the network's rules.
//!
//! [`rules`] decides, purely; [`run`] keeps the network as it says.

mod rules;
mod run;

pub use rules::rules;
pub use run::run;
