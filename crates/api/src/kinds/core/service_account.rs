//! ServiceAccount.

use crate::columns::{AGE, NAME};
use crate::value::Access;
use crate::{Column, Subresource};

pub(super) const COLUMNS: &[Column] = &[NAME, Column::new("Secrets", "string", "How many secrets it lists.", |o, _| o.list("secrets").len().into()), AGE];

/// Tokens are made by the server, which holds the key.
pub(super) const SUBRESOURCES: &[Subresource] =
    &[Subresource { name: "token", body: ("authentication.k8s.io", "v1", "TokenRequest"), verbs: &["create"], post: None }];
