//! The built-in pod network: a bridge, a veth pair per sandbox, addresses from the node's pod CIDR. And the network namespace
//! in which `navarch up` keeps a whole node.
//!
//! What belongs here: links, addresses, routes, namespaces (over rtnetlink). What does not: services and policies (`proxy`,
//! `netpol`: nftables); what a pod is.
//!
//! Everything happens in the network namespace of the process, except what is said to happen in a sandbox's.

mod bridge;
mod ipam;
pub mod namespace;
mod netlink;
mod uplink;

pub use bridge::{Bridge, Config};
pub use ipam::Cidr;
pub use uplink::{Uplink, free_uplink};

use std::io;

/// Why a network operation failed.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// A link, address or route could not be changed.
    #[error("cannot {operation}")]
    Netlink {
        /// What was attempted.
        operation: String,
        /// The kernel's word.
        #[source]
        source: rtnetlink::Error,
    },
    /// A file or namespace could not be used.
    #[error("cannot {operation}")]
    Io {
        /// What was attempted.
        operation: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The pod CIDR has no free address left.
    #[error("no free address in {cidr}: all {in_use} are taken")]
    Exhausted {
        /// The range.
        cidr: String,
        /// How many are taken.
        in_use: usize,
    },
    /// Not a network like `10.42.0.0/24`.
    #[error("not an IPv4 network: {0:?}")]
    Cidr(String),
    /// A link that was just made, or should be there, is not.
    #[error("there is no network interface {0}")]
    NoLink(String),
}

impl CniError {
    pub(crate) fn io(operation: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let operation = operation.into();
        move |source| Self::Io { operation, source }
    }
}

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, CniError>;
