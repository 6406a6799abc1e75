//! The service proxy: virtual IPs and node ports by nftables, so that a change costs what the change is worth.
//!
//! ```text
//! Service + EndpointSlices --fronts::of--> fronts and their backends (pure)
//!                          --table::Table::replace--> Delta (pure: what the kernel must forget and learn)
//!                          --kernel::--> one netfilter batch
//! ```
//! Rules do not grow with services: a front (virtual IP, protocol, port) is one element of a verdict map and leads to a chain
//! that is shared by all fronts with as many backends; that chain draws a number and looks the backend up in a second map.
//!
//! What belongs here: kube-proxy's job (KEP-3866 has upstream's nftables backend). What does not: network policies, load
//! balancer addresses, DNS.

mod fronts;
mod kernel;
mod run;
mod table;

pub use fronts::{Backend, Front, Protocol, Target};
pub use kernel::purge;
pub use run::{Config, ProxyError, run};
