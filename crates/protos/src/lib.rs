//! Wire types that Navarch shares with foreign programs, and the service traits that let one of ours take the place of
//! one of theirs. Today: the Container Runtime Interface and etcd. CSI comes with the part that needs it.
//!
//! What belongs here: message types generated from public protocol definitions, traits with one method per call, and
//! conversions that every user of the protocol needs. What does not: any behaviour, any socket.

pub mod cri;
pub mod etcd;
