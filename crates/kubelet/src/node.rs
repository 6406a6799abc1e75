//! The node: who it is, what it can carry, how it feels; its object, its status, its lease.

pub(crate) mod facts;
mod keeper;
pub(crate) mod status;

pub(crate) use keeper::Keeper;
