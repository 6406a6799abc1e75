//! The node agent: it makes the pods that are bound to its node run, and tells the API how they are.

mod api;
mod clock;
mod config;
mod events;
mod images;
mod labels;
mod logs;
mod objects;
mod pods;
mod probes;
mod qos;
mod shared;
mod volumes;

/// The Kubernetes version whose kubelet this one behaves as.
pub const VERSION: &str = "v1.36.2";
const MAJOR: &str = "1";
const MINOR: &str = "36";
