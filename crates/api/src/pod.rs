//! What a Pod means; the parts that work on a `PodSpec` serve every kind that has a pod template.

pub(crate) mod admit;
pub(crate) mod columns;
mod containers;
pub(crate) mod default;
mod fields;
pub(crate) mod probes;
pub(crate) mod qos;
mod resources;
pub(crate) mod scheduling;
mod security;
pub(crate) mod update;
pub(crate) mod validate;
pub(crate) mod volumes;
pub(crate) mod warnings;

pub(crate) use fields::no_backsteps;
