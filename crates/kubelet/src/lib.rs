//! The node agent: it makes the pods that are bound to its node run, and tells the API how they are.

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
