//! The store: one MVCC state in memory over a durable log, with etcd's meaning of revisions.
//!
//! What belongs here: keys, revisions, transactions, snapshots, watches, durability. What does not: any knowledge of
//! kinds; requests; HTTP. Only `apiserver` opens a store.

pub mod backend;

pub use backend::{Backend, Committed, Compare, Event, EventKind, Op, Page, StoreError, Txn, Versioned, Watch};
