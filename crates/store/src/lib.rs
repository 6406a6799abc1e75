//! The store: one MVCC state in memory over a durable log, with etcd's meaning of revisions.
//!
//! ```text
//! commit --sequencer: compares, assigns the revision, seals--> queue --writer thread: one redb transaction, one fsync-->
//!        --memory: becomes visible, wakes watchers--> reply
//! ```
//! Reads never touch the disk. A write is invisible until it is durable; conflicts are found against pending writes too.
//! History is a window of events per resource: watches read it, and a list at an older revision is the present undone by it.
//!
//! What belongs here: keys, revisions, transactions, snapshots, watches, durability. What does not: any knowledge of
//! kinds; requests; HTTP. Only `apiserver` opens a store.
//!
//! Start reading at [`Backend`], then `embedded.rs`.

pub mod backend;
mod disk;
mod embedded;
mod memory;
mod parallel;

pub use backend::{Backend, Committed, Compare, Event, EventKind, Op, Page, StoreError, Txn, Versioned, Watch};
pub use embedded::{Embedded, Options};

#[cfg(test)]
mod contract;
#[cfg(test)]
mod crash;
