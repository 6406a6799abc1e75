//! The API server: the only way to the state.
//!
//! ```text
//! HTTPS --http: TLS, authn, route--\                             /--read: store's objects, spliced
//!                                    > authz -> Api (one method per verb)
//! in process --inprocess-----------/                             \--write: decode, patch, default, admit, validate, commit
//! ```
//! Stored objects are bytes; a read copies them out. Only [`write`] produces new ones.
//!
//! What belongs here: requests, authentication, authorization, admission, the write path, watches, discovery. What does not:
//! rules of a kind (`kinds`), durability (`store`), decisions of any controller.
//!
//! Start reading at `api.rs`, then `write.rs`.

mod admission;
mod aggregation;
mod answers;
mod api;
mod audit;
mod authn;
mod authz;
mod bootstrap;
mod connection;
mod conversion;
mod converted;
mod decode;
mod definitions;
mod delete;
mod discovery;
mod egress;
mod encryption;
mod eviction;
mod expiry;
mod flow;
#[cfg(fuzzing)]
pub mod fuzzing;
mod health;
mod http;
mod impersonate;
mod inprocess;
mod media;
mod metrics;
mod node_proxy;
mod owed;
mod read;
mod registry;
mod reload;
mod reviews;
mod security;
mod server;
mod servers;
mod subresources;
mod table;
mod turns;
mod user;
mod warned;
mod watch;
mod webhook;
mod write;

pub use api::Api;
pub use audit::AuditOptions;
pub use connection::Limits;
pub use encryption::{Encryption, EncryptionError};
pub use http::{Body, Debug, Verbosity, go_duration};
pub use inprocess::InProcess;
pub use node_proxy::NodeProxy;
pub use security::{AdmissionOptions, AuthorizationOptions, OidcOptions, Security, SecurityError, TokenWebhookOptions};
pub use server::{Config, Server, StartError};
pub use servers::SERVER_RECORDS;
pub use user::User;
