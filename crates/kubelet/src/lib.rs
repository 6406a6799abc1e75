//! The node agent: it makes the pods that are bound to its node run, and tells the API how they are.
//!
//! ```text
//!                 API server                                   CRI runtime
//!   pods of this node |      ^ status, events, lease     events |    ^ run, create, start, stop
//!                     v      |                                  v    |
//!        manager --> one worker per pod: observe -> plan -> act -> status
//!                     ^            ^           ^
//!        watched ConfigMaps,    probes     volumes, images, hooks, environment
//!        Secrets, Services
//! ```
//! - [`Kubelet`] puts the parts together; [`KubeletServer`] is the kubelet's own API, with or without a socket.
//! - `pods`: `plan` and `status` decide (pure, tested by tables), `worker` and its helpers do.
//! - `config`: from a pod to CRI configurations. `volumes`, `probes`, `node`, `gc`: a room each.
//! - `objects` watches just the ConfigMaps and Secrets that pods of this node name.
//! - `pleg` turns what happens in the runtime into wake-ups, and ends pods that the API no longer knows.
//!
//! What never happens here: a pod's containers are never touched because the API server is away or this process restarts;
//! a worker never waits for the API to take a status; a container is never started before its volumes are set up; nothing
//! is removed from a directory in which something is still mounted.
//!
//! What belongs elsewhere: how containers run (`runtime`, behind `protos::cri`), what flows over an exec's connection
//! (`streaming`, behind [`server::StreamServer`]), where pods go (`scheduler`).
//!
//! Start reading at `pods/worker.rs`, then `pods/plan.rs` and `pods/status.rs`.

mod api;
mod clock;
mod config;
mod events;
mod gc;
mod images;
mod kubelet;
mod labels;
mod logs;
mod node;
mod objects;
mod pleg;
mod pods;
mod probes;
mod qos;
pub mod server;
mod shared;
mod volumes;

pub use kubelet::{Config, Kubelet, StartError};
pub use server::KubeletServer;

/// The Kubernetes version whose kubelet this one behaves as.
pub const VERSION: &str = "v1.36.2";
const MAJOR: &str = "1";
const MINOR: &str = "36";

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
