//! The store: one MVCC state in memory over a durable log, with etcd's meaning of revisions.
//!
//! ```text
//! commit --sequencer: compares, assigns the revision, seals--> queue --writer thread: one redb transaction, one fsync-->
//!        --memory: becomes visible, wakes watchers--> reply
//! ```
//! Reads never touch the disk. A write is invisible until it is durable; conflicts are found against pending writes too.
//! History is a window of events per resource: watches read it, and a list at an older revision is the present undone by it.
//!
//! With an etcd cluster as the store ([`Etcd`]) the same memory is fed by one watch, and several servers share it.
//!
//! What belongs here: keys, revisions, transactions, snapshots, watches, durability. What does not: any knowledge of
//! kinds; requests; HTTP. Only `apiserver` opens a store.
//!
//! Start reading at [`Backend`], then `embedded.rs`; `etcd.rs` for several servers.

pub mod backend;
mod disk;
mod embedded;
mod etcd;
mod lock;
mod memory;
mod parallel;
mod snapshot;
mod tally;
mod transform;
mod watching;

pub use backend::{Backend, Committed, Compare, Event, EventKind, Op, Page, StoreError, Txn, Versioned, Watch};
pub use embedded::{Embedded, Options};
pub use etcd::{Etcd, EtcdOptions};
pub use memory::WINDOW_EVENTS;
pub use snapshot::Snapshot;
pub use tally::Tally;
pub use transform::Transform;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod testing;
