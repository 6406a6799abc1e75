//! A store in an etcd cluster, which several servers share.
//!
//! ```text
//! commit --Txn: compares mod_revision--> etcd --one watch of everything--> feed --> memory --> readers, watchers
//! ```
//! Memory is what the embedded store's is, only that etcd's events fill it. Every revision of etcd has an event, and the
//! watch is over the whole key space, so memory's revision reaches each of etcd's: a consistent read asks etcd for its
//! revision (a linearizable read, one for all who wait) and waits until memory is there. Progress notifications are not
//! needed, which older releases send too early (etcd issue 15220).
//!
//! Values are the objects' JSON without `metadata.resourceVersion`: that is the key's `mod_revision`.
//!
//! Start reading at `feed.rs` (etcd to memory), then `sync` and `commit` here.

mod compact;
mod endpoints;
mod feed;
mod grpc;
mod restore;
mod secret;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::Tasks;
use futures::FutureExt;
use futures::future::BoxFuture;
use object::Draft;
use parking_lot::RwLock;
use protos::etcd::{self as wire, Request, Response};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Committed, Compare, Op, Page, StoreError, Txn, Versioned, Watch};
use crate::embedded::Options;
use crate::memory::Memory;
use crate::tally::Tally;
use crate::transform::Sealing;
use crate::{disk, watching};
pub use endpoints::EtcdOptions;
use endpoints::{Members, Repeat};

/// How long a consistent read may take.
const READ: Duration = Duration::from_secs(10);
/// How long one member may take over a read.
const READ_ATTEMPT: Duration = Duration::from_secs(3);
/// How long a write may take; etcd itself gives up after 7 s.
const WRITE: Duration = Duration::from_secs(20);
/// See [`WRITE`].
const WRITE_ATTEMPT: Duration = Duration::from_secs(8);
/// A feed that is this far behind is on a connection that leads nowhere.
const LAG: Duration = Duration::from_secs(2);
/// Upstream waits this long for a revision that a client has seen elsewhere.
const AHEAD: Duration = Duration::from_secs(3);
/// Consistent reads that may wait to be asked for.
const MOST_WAITING: usize = 4096;

/// The prefix of all objects.
const OBJECTS: &str = "/registry/";
/// The first key after them.
const OBJECTS_END: &str = "/registry0";

/// A store in an etcd cluster.
pub struct Etcd {
    shared: Arc<Shared>,
    asks: mpsc::Sender<Ask>,
    /// Feed, reader and compactor; they end with the store.
    _tasks: Tasks,
}

type Ask = oneshot::Sender<Result<u64, Arc<StoreError>>>;

struct Shared {
    members: Members,
    memory: Arc<RwLock<Memory>>,
    /// Memory's revision.
    visible: watch::Sender<u64>,
    /// The feed looks for another connection when told so.
    stuck: Notify,
    options: Options,
    sealing: Sealing,
}

impl Etcd {
    /// Connects, reads everything, and follows etcd from there on.
    pub async fn connect(etcd: &EtcdOptions, options: Options) -> Result<Self, StoreError> {
        let members = Members::new(etcd)?;
        let shared = Arc::new(Shared {
            members,
            memory: Arc::new(RwLock::new(Memory::new(0, []))),
            visible: watch::Sender::new(0),
            stuck: Notify::new(),
            sealing: Sealing::new(options.transform.clone()),
            options,
        });
        let (revision, objects, closed) = shared.load().await?;
        drop(shared.memory.write().reset(revision, objects));
        shared.memory.write().closed = closed;
        shared.visible.send_replace(revision);
        let mut tasks = Tasks::new(&CancellationToken::new());
        let (asks, asked) = mpsc::channel(MOST_WAITING);
        tasks.spawn("etcd feed", shared.clone().follow());
        tasks.spawn("etcd revision", shared.clone().answer(asked));
        tasks.spawn("etcd compaction", shared.clone().compact());
        Ok(Self { shared, asks, _tasks: tasks })
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.shared.memory.write().close();
    }
}

fn key_bytes(key: &str) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(key.as_bytes())
}

fn revision_of(header: Option<&wire::ResponseHeader>) -> u64 {
    header.map_or(0, |h| u64::try_from(h.revision).unwrap_or(0))
}

fn number(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn range(key: &str, range_end: &str) -> wire::RangeRequest {
    wire::RangeRequest { key: key_bytes(key), range_end: key_bytes(range_end), ..Default::default() }
}

fn op(request: Request) -> wire::RequestOp {
    wire::RequestOp { request: Some(request) }
}

fn unchanged(key: &str, mod_revision: u64) -> wire::Compare {
    let wanted = Some(wire::Wanted::ModRevision(number(mod_revision)));
    wire::Compare { target: wire::CompareTarget::Mod as i32, key: key_bytes(key), wanted }
}

impl Shared {
    async fn call<A: prost::Message + Default>(
        &self,
        path: &str,
        request: &impl prost::Message,
        repeat: Repeat,
    ) -> Result<A, StoreError> {
        let (patience, most) = match repeat {
            Repeat::Always => (READ_ATTEMPT, READ),
            Repeat::IfNotDone => (WRITE_ATTEMPT, WRITE),
        };
        self.members.call(path, request, repeat, patience, Instant::now() + most).await
    }

    async fn range(&self, request: &wire::RangeRequest) -> Result<wire::RangeResponse, StoreError> {
        self.call("/etcdserverpb.KV/Range", request, Repeat::Always).await
    }

    async fn txn(&self, request: &wire::TxnRequest, repeat: Repeat) -> Result<wire::TxnResponse, StoreError> {
        self.call("/etcdserverpb.KV/Txn", request, repeat).await
    }

    /// etcd's revision: everything acknowledged before this call is at or below it.
    async fn newest(&self) -> Result<u64, StoreError> {
        // Which key does not matter; a read that is not marked serializable goes through the leader.
        let request = wire::RangeRequest { count_only: true, ..range(OBJECTS, "") };
        Ok(revision_of(self.range(&request).await?.header.as_ref()))
    }

    /// Answers all who wait with one question to etcd, again and again.
    async fn answer(self: Arc<Self>, mut asked: mpsc::Receiver<Ask>) {
        let mut asks = Vec::new();
        while asked.recv_many(&mut asks, MOST_WAITING).await > 0 {
            let newest = self.newest().await.map_err(Arc::new);
            for ask in asks.drain(..) {
                // Who went away needs no answer.
                let _ = ask.send(newest.clone());
            }
        }
    }

    /// Waits until reads see `revision`.
    async fn reach(&self, revision: u64, patience: Duration) -> Result<(), StoreError> {
        let mut visible = self.visible.subscribe();
        let deadline = Instant::now() + patience;
        loop {
            let until = deadline.min(Instant::now() + LAG);
            match tokio::time::timeout_at(until, visible.wait_for(|v| *v >= revision)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(_)) => return Err(StoreError::Closed),
                Err(_) => self.stuck.notify_one(),
            }
            if Instant::now() >= deadline {
                let text = format!("revision {revision} of etcd did not arrive within {patience:?}");
                return Err(StoreError::TimedOut(text));
            }
        }
    }

    /// The object in an etcd value.
    fn object(&self, kv: &wire::KeyValue) -> Result<Versioned, StoreError> {
        let key = String::from_utf8_lossy(&kv.key);
        let value = self.sealing.open(&key, kv.value.clone());
        let value = value.map_err(|why| StoreError::Unreadable { key: key.as_ref().into(), why })?;
        let draft = Draft::from_bytes(&value)
            .map_err(|e| StoreError::Corrupt(format!("{key} in etcd: {e} (is this another program's data?)")))?;
        let mod_revision = u64::try_from(kv.mod_revision).unwrap_or(0);
        let mut object = draft.seal(mod_revision);
        object.head.fields = (self.options.fields)(&object);
        Ok(Versioned { key: key.into(), mod_revision, object: Arc::new(object) })
    }
}

/// The last operation on each key, and the last draft of each: etcd takes one operation per key, and what a transaction
/// puts and removes again is only removed.
fn last_ops(ops: &[Op]) -> Vec<&Op> {
    let key = |op: &Op| match op {
        Op::Put(key, _) | Op::Delete(key) => key.clone(),
    };
    let last: HashMap<Arc<str>, usize> = ops.iter().enumerate().map(|(at, op)| (key(op), at)).collect();
    ops.iter().enumerate().filter(|(at, op)| last[&key(op)] == *at).map(|(_, op)| op).collect()
}

/// The transaction as etcd takes it.
fn request(txn: &Txn, ops: &[&Op], sealing: &Sealing) -> Result<wire::TxnRequest, StoreError> {
    let key = |compare: &Compare| match compare {
        Compare::ModRevision(key, _) | Compare::Absent(key) => key.clone(),
    };
    let compare = txn.compares.iter().map(|c| match c {
        Compare::ModRevision(key, revision) => unchanged(key, *revision),
        Compare::Absent(key) => unchanged(key, 0),
    });
    let success = ops.iter().map(|o| match o {
        Op::Put(key, draft) => {
            let value = draft.unsealed();
            let sealed = sealing.seal(key, &value).map_err(|why| disk::seal_error(key, why))?;
            let value = match sealed {
                Cow::Owned(sealed) => sealed.into(),
                Cow::Borrowed(_) => value,
            };
            Ok(op(Request::Put(wire::PutRequest { key: key_bytes(key), value })))
        }
        Op::Delete(key) => {
            let delete = wire::DeleteRangeRequest { key: key_bytes(key), prev_kv: true };
            Ok(op(Request::DeleteRange(delete)))
        }
    });
    let success = success.collect::<Result<_, StoreError>>()?;
    let failure = txn.compares.iter().map(|c| op(Request::Range(range(&key(c), ""))));
    Ok(wire::TxnRequest { compare: compare.collect(), success, failure: failure.collect() })
}

impl Etcd {
    /// What came out of a transaction whose compares held.
    async fn committed(&self, txn: Txn, answer: &wire::TxnResponse) -> Committed {
        let revision = revision_of(answer.header.as_ref());
        // It is durable whether or not we see it in time.
        if let Err(error) = self.shared.reach(revision, READ).await {
            tracing::warn!(error = %base::Chain(&error), "a write is not visible yet");
        }
        let mut removed: HashMap<&[u8], &wire::KeyValue> = HashMap::new();
        for response in &answer.responses {
            if let Some(Response::DeleteRange(deleted)) = &response.response {
                removed.extend(deleted.prev_kvs.iter().map(|kv| (&kv.key[..], kv)));
            }
        }
        let object = |op: &Op| match op {
            Op::Put(key, draft) => {
                // The very object that readers see, unless a later write has replaced it already.
                let seen = self.shared.memory.read().get(key).filter(|v| v.mod_revision == revision).map(|v| v.object);
                Some(seen.unwrap_or_else(|| Arc::new(draft.clone().seal(revision))))
            }
            Op::Delete(key) => {
                let kv = removed.get(key.as_bytes())?;
                let last = self.shared.object(&wire::KeyValue { mod_revision: number(revision), ..(*kv).clone() });
                last.ok().map(|v| v.object)
            }
        };
        let objects = txn.ops.iter().map(object).collect();
        Committed { revision, objects }
    }

    /// Which compare did not hold, or an earlier attempt of the same transaction that did.
    fn refused(
        &self,
        txn: &Txn,
        wanted: &wire::TxnRequest,
        answer: &wire::TxnResponse,
        repeated: bool,
    ) -> Result<u64, StoreError> {
        let mut conflict = None;
        for (compare, response) in txn.compares.iter().zip(&answer.responses) {
            let Some(Response::Range(found)) = &response.response else { continue };
            let found = found.kvs.first();
            let current = || found.and_then(|kv| self.shared.object(kv).ok());
            let (key, holds) = match compare {
                Compare::ModRevision(key, revision) => {
                    (key, found.is_some_and(|kv| kv.mod_revision == number(*revision)))
                }
                Compare::Absent(key) => (key, found.is_none()),
            };
            if holds {
                continue;
            }
            // Of an attempt whose answer was lost: our very bytes are there.
            let ours = wanted.success.iter().find_map(|o| match &o.request {
                Some(Request::Put(put)) if put.key == key.as_bytes() => Some(put.value.clone()),
                _ => None,
            });
            match (found, ours) {
                (Some(kv), Some(ours)) if repeated && kv.value == ours => {
                    return Ok(u64::try_from(kv.mod_revision).unwrap_or(0));
                }
                _ => {
                    conflict.get_or_insert_with(|| StoreError::Conflict { key: key.clone(), current: current() });
                }
            }
        }
        Err(conflict
            .unwrap_or_else(|| StoreError::TimedOut("a transaction failed for no reason that etcd names".into())))
    }
}

/// True when a second attempt cannot do what the first has done already: every key that is written is compared.
fn is_guarded(txn: &Txn) -> bool {
    let compared = |wanted: &Arc<str>| {
        txn.compares.iter().any(|c| match c {
            Compare::ModRevision(key, _) | Compare::Absent(key) => key == wanted,
        })
    };
    txn.ops.iter().all(|op| matches!(op, Op::Put(key, _) if compared(key)))
}

#[async_trait]
impl Backend for Etcd {
    fn revision(&self) -> u64 {
        self.shared.memory.read().revision
    }

    fn get(&self, key: &str) -> Option<Versioned> {
        self.shared.memory.read().get(key)
    }

    fn range(&self, prefix: &str, after: Option<&str>, limit: usize, revision: u64) -> Result<Page, StoreError> {
        self.shared.memory.read().range(prefix, after, limit, revision)
    }

    fn tally(&self, prefix: &str) -> Tally {
        self.shared.memory.read().tally(prefix)
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, StoreError> {
        let ops = last_ops(&txn.ops);
        let wanted = request(&txn, &ops, &self.shared.sealing)?;
        drop(ops);
        let deadline = Instant::now() + WRITE;
        let mut repeated = false;
        let answer = loop {
            match self.shared.txn(&wanted, Repeat::IfNotDone).await {
                // Nobody knows whether it took effect. It is asked again only where the answer tells.
                Err(StoreError::TimedOut(_) | StoreError::Unavailable(_))
                    if is_guarded(&txn) && Instant::now() < deadline =>
                {
                    repeated = true;
                }
                Err(error) => return Err(error),
                Ok(answer) => break answer,
            }
        };
        if answer.succeeded {
            return Ok(self.committed(txn, &answer).await);
        }
        let revision = self.refused(&txn, &wanted, &answer, repeated)?;
        let header = Some(wire::ResponseHeader { revision: number(revision), ..Default::default() });
        Ok(self.committed(txn, &wire::TxnResponse { header, ..Default::default() }).await)
    }

    fn watch(&self, prefix: &str, after: u64) -> Result<Watch, StoreError> {
        watching::watch(&self.shared.memory, prefix, after)
    }

    async fn wait(&self, revision: u64) -> Result<(), StoreError> {
        match self.shared.reach(revision, AHEAD).await {
            Err(StoreError::TimedOut(_)) => Err(StoreError::Future { wanted: revision, newest: self.revision() }),
            other => other,
        }
    }

    fn sync(&self) -> Option<BoxFuture<'_, Result<(), StoreError>>> {
        let sync = async {
            let (ask, answer) = oneshot::channel();
            self.asks.send(ask).await.map_err(|_| StoreError::Closed)?;
            let newest = answer.await.map_err(|_| StoreError::Closed)?;
            self.shared.reach(newest.map_err(|e| e.again())?, READ).await
        };
        Some(sync.boxed())
    }

    fn unreadable(&self, key: &str) -> Option<(Arc<str>, String)> {
        self.shared.memory.read().unreadable(key)
    }

    fn is_stale(&self, key: &str) -> bool {
        self.shared.sealing.is_stale(key)
    }

    fn reopen(&self) {
        self.shared.reopen();
    }

    fn snapshot(&self, path: &Path) -> Result<(), StoreError> {
        let (revision, objects, closed) = self.shared.memory.read().everything();
        disk::snapshot(path, revision, &objects, &closed, &self.shared.sealing)
    }
}
