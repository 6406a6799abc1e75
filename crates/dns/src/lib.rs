//! Cluster DNS in the node agent: answers from the informers' caches, on the cluster DNS address of every node.
//!
//! ```text
//! packet --server--> question --zone (pure: Services and EndpointSlices)--> records | no such name | not ours --> upstream
//! ```
//! The names are those of the "Kubernetes DNS-Based Service Discovery" specification, version 1.1.0.
//!
//! What belongs here: names of services and pods, forwarding of the rest. What does not: resolv.conf of pods (kubelet).

mod forward;
mod server;
mod zone;

pub use forward::Sockets;
#[cfg(fuzzing)]
pub use server::answer;
pub use server::{Config, DnsError, run};
pub use zone::{Answer, Zone};
