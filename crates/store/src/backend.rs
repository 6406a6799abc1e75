//! What a store is to the API server: the trait that the embedded store and an etcd cluster both fulfil.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use object::{Draft, Object};

use crate::tally::Tally;

/// An object as of some revision.
#[derive(Clone, Debug)]
pub struct Versioned {
    /// `/registry/pods/default/web`.
    pub key: Arc<str>,
    /// The revision of the write that produced it; equal to `object.head.resource_version`.
    pub mod_revision: u64,
    /// The object.
    pub object: Arc<Object>,
}

/// A page of a range read, and the revision of the snapshot that it was read from.
#[derive(Clone, Debug)]
pub struct Page {
    /// The snapshot's revision (the one asked for, or the newest).
    pub revision: u64,
    /// In key order.
    pub items: Vec<Versioned>,
    /// True when keys remain after the last item.
    pub more: bool,
    /// How many keys remain after the last item.
    pub remaining: usize,
}

/// A condition of a transaction.
#[derive(Clone, Debug)]
pub enum Compare {
    /// The key's latest write has this revision.
    ModRevision(Arc<str>, u64),
    /// The key does not exist.
    Absent(Arc<str>),
}

/// One effect of a transaction.
#[derive(Clone, Debug)]
pub enum Op {
    /// Sets the key to the draft, sealed with the transaction's revision.
    Put(Arc<str>, Draft),
    /// Removes the key; a missing key is no effect.
    Delete(Arc<str>),
}

/// All compares hold, then all ops happen under one new revision; or nothing does.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// Conditions.
    pub compares: Vec<Compare>,
    /// Effects.
    pub ops: Vec<Op>,
}

/// The outcome of a durable transaction.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its revision.
    pub revision: u64,
    /// The sealed objects of its puts, and the objects that its deletes removed (at the transaction's revision), in op order.
    pub objects: Vec<Option<Arc<Object>>>,
}

/// What a watch delivers, in revision order, each revision whole.
#[derive(Clone, Debug)]
pub struct Event {
    /// The revision of the transaction.
    pub revision: u64,
    /// What happened.
    pub kind: EventKind,
    /// The key.
    pub key: Arc<str>,
    /// The new object; for a delete, the last state under the deletion's revision.
    pub object: Arc<Object>,
    /// The object before, if there was one: selectors turn changes into ADDED and DELETED with it.
    pub previous: Option<Arc<Object>>,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EventKind {
    Put,
    Delete,
}

/// A live watch. Batches keep one wake-up per commit group cheap. The stream ends with `Err(StoreError::Compacted)` when a
/// reader falls so far behind that the history window has passed it.
pub type Watch = BoxStream<'static, Result<Vec<Event>, StoreError>>;

/// Why a store call failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A compare did not hold: the key that failed and what is there now.
    #[error("precondition failed on {key}")]
    Conflict {
        /// The key of the failed compare.
        key: Arc<str>,
        /// Its present value.
        current: Option<Versioned>,
    },
    /// The revision asked for lies before the history window.
    #[error("revision {wanted} is compacted, the oldest is {oldest}")]
    Compacted {
        /// What was asked for.
        wanted: u64,
        /// The oldest revision that can be read.
        oldest: u64,
    },
    /// The revision asked for lies in the future.
    #[error("revision {wanted} is in the future, the newest is {newest}")]
    Future {
        /// What was asked for.
        wanted: u64,
        /// The newest revision.
        newest: u64,
    },
    /// Another process has the data directory.
    #[error("the data directory is in use by another process")]
    Locked,
    /// The files are damaged: the start is refused.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// A value is stored in a form that nobody here can read.
    #[error("{key} cannot be read: {why}")]
    Unreadable {
        /// Whose value.
        key: Arc<str>,
        /// What is missing.
        why: String,
    },
    /// The disk is full or failed; nothing of the transaction is kept.
    #[error("the store cannot write: {operation}")]
    Io {
        /// What was attempted.
        operation: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// No member of the etcd cluster takes requests; nothing was done.
    #[error("etcd is not available: {0}")]
    Unavailable(String),
    /// etcd has not answered in time. Whether a write took effect is not known.
    #[error("etcd does not answer in time: {0}")]
    TimedOut(String),
    /// The address of a store, or a file that it needs, is of no use.
    #[error("{0}")]
    Configuration(String),
    /// The store shuts down.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// The same error for one more of those who wait for one outcome.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Unavailable(why) => Self::Unavailable(why.clone()),
            Self::TimedOut(why) => Self::TimedOut(why.clone()),
            Self::Closed => Self::Closed,
            other => Self::Io { operation: "ask the store".into(), source: std::io::Error::other(other.to_string()) },
        }
    }
}

/// A consistent, durable, watchable map from keys to objects.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The newest revision that reads see. Every acknowledged transaction is at or below it.
    fn revision(&self) -> u64;
    /// The newest value of a key.
    fn get(&self, key: &str) -> Option<Versioned>;
    /// Keys that start with `prefix` and are greater than `after` (when given), at most `limit` (0: all), as of
    /// `revision` (0: newest). Costs O(page), and shares the objects.
    fn range(&self, prefix: &str, after: Option<&str>, limit: usize, revision: u64) -> Result<Page, StoreError>;
    /// What is under `prefix` now: at once for the folder of a resource.
    fn tally(&self, prefix: &str) -> Tally;
    /// Number of keys under `prefix` now.
    fn count(&self, prefix: &str) -> usize {
        self.tally(prefix).objects
    }
    /// Commits: returns once the transaction is durable and visible. A dropped future does not undo it.
    async fn commit(&self, txn: Txn) -> Result<Committed, StoreError>;
    /// Events of keys under `prefix` with revision greater than `after`.
    fn watch(&self, prefix: &str, after: u64) -> Result<Watch, StoreError>;
    /// Waits until reads see `revision` (trivial for the embedded store), a few seconds at most.
    async fn wait(&self, revision: u64) -> Result<(), StoreError>;
    /// How much room the store takes on disk; `None` where another program keeps it.
    fn bytes(&self) -> Option<u64> {
        None
    }
    /// Brings reads up to every write that was acknowledged before the call, by whichever server. `None`: they always
    /// are, since no other server writes to this store.
    fn sync(&self) -> Option<BoxFuture<'_, Result<(), StoreError>>> {
        None
    }
    /// A key whose value cannot be read, and why: `key` itself, or, when it ends with a slash, the first one under it.
    fn unreadable(&self, key: &str) -> Option<(Arc<str>, String)>;
    /// True when a write would store the key in another form than it has now, even if nothing else changed.
    fn is_stale(&self, key: &str) -> bool;
    /// Tries to read again what could not be read.
    fn reopen(&self);
    /// Writes a consistent copy of the present state into the new file `path`, while the store goes on. Blocks.
    fn snapshot(&self, path: &Path) -> Result<(), StoreError>;
}
