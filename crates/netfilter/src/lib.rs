//! nftables over netlink: atomic transactions of tables, chains, rules, maps and elements, without the `nft` tool.
//!
//! [`Batch`] encodes a transaction (everything in it happens, or nothing); [`expr`] has the expressions that rules are made of.
//! The kernel interface is `linux/netfilter/nf_tables.h`; the numbers here are its enumerations.
//!
//! What belongs here: encoding and sending. What does not: what the rules mean (that is `proxy` and `netpol`).
//! A batch goes to the network namespace of the calling thread.

mod attributes;
mod batch;
pub mod expr;

pub use batch::{Batch, Element, Hook, NetfilterError, Set, Value, Verdict};
