//! What a Pod means; the parts that work on a `PodSpec` serve every kind that has a pod template.

pub(crate) mod admit;
pub(crate) mod columns;
pub(crate) mod default;
pub(crate) mod qos;
pub(crate) mod update;
pub(crate) mod validate;
pub(crate) mod warnings;
