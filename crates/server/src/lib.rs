//! The API server: the only writer of the store.
//!
//! authentication → authorization → admission → the kind's row → store. One generic handler serves every kind.
//!
//! | file | idea |
//! |---|---|
//! | `tls`, `authenticate`, `impersonate`, `authorize` | who is asking, over what, and may they |
//! | `handler`, `route`, `negotiate`, `decode` | from bytes to a call: path, query, what the client accepts, what it sent |
//! | `rows`, `object`, `select`, `write`, `view` | from a call to the store: rows of the table of kinds, stored bytes, selectors, the write pipeline |
//! | `verbs/` | one file a verb |
//! | `table`, `render`, `status`, `body` | from the store to bytes |
//! | `discovery`, `openapi`, `health`, `metrics`, `absent` | what is no object |
//! | `tokens`, `reviews`, `proxy`, `http_proxy`, `namespaces`, `bootstrap` | ServiceAccount tokens, reviews, the way to the node, and to pods, namespace life, what exists from the start |

mod absent;
mod authenticate;
mod authorize;
mod body;
mod bootstrap;
mod config;
mod decode;
mod discovery;
mod handler;
mod health;
mod http_proxy;
mod identity;
mod impersonate;
mod metrics;
mod namespaces;
mod negotiate;
mod object;
mod openapi;
mod proxy;
mod render;
mod reviews;
mod route;
mod rows;
mod select;
mod server;
mod status;
mod table;
mod tls;
mod tokens;
mod verbs;
mod view;
mod write;

pub use bootstrap::BootstrapError;
pub use config::{Config, Limits, NodeEndpoints, Pki};
pub use identity::Identity;
pub use server::{Body, Local, Server};
