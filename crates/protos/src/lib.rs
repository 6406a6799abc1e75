//! Wire types that Navarch shares with foreign programs, and the service traits that let one of ours take the place of
//! one of theirs. Today: the Container Runtime Interface. CSI, etcd and the Kubernetes protobuf envelope come with the
//! parts that need them.
//!
//! What belongs here: message types generated from public protocol definitions, traits with one method per call, and
//! conversions that every user of the protocol needs. What does not: any behaviour, any socket.

pub mod cri;
