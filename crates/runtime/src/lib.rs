//! The embedded container runtime: the CRI, over one small shim process per pod sandbox.
//!
//! ```text
//! kubelet --CRI trait--> EmbeddedRuntime (async, in the agent) --unix socket, JSON lines, passed descriptors--> shim (single thread)
//!                                                                                     shim --fork--> container processes
//! ```
//! The shim is this same binary, re-executed and detached. It holds the sandbox's namespaces, is the parent of the containers, writes
//! their logs and exit codes. So the agent can be killed, and started again, under running containers: everything it needs to
//! know is in files.
//!
//! What belongs here: sandboxes and containers as the CRI means them. What does not: images (behind [`Rootfs`]), networks (behind
//! [`Network`]), pods.
//!
//! Start reading at `spec.rs` (what a container is), then `shim.rs`, then `service.rs`.
#![allow(unsafe_code)]

mod convert;
mod link;
mod service;
mod shim;
mod spec;
mod state;
mod streams;
mod terminal;

pub use service::{EmbeddedRuntime, ImageConfig, Network, Options, Prepared, Rootfs};
pub use shim::main as shim_main;
