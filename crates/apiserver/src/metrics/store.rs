//! Writes to the store, timed: the embedded one under etcd's names, as who looks for them expects.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use base::metrics::{Histogram, HistogramVec, IntCounter, IntCounterVec, REQUEST_SECONDS, counters, histograms};
use futures::future::BoxFuture;
use parking_lot::RwLock;
use store::{Backend, Committed, Compare, Op, Page, StoreError, Tally, Txn, Versioned, Watch};
use tokio::time::Instant;

const LABELS: &[&str] = &["group", "operation", "resource"];

static SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[ALPHA] Etcd request latency in seconds for each operation and object type.";
    histograms("etcd_request_duration_seconds", help, LABELS, REQUEST_SECONDS)
});

static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Etcd request counts for each operation and object type.";
    counters("etcd_requests_total", help, LABELS)
});

static ERRORS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Etcd failed request counts for each operation and object type.";
    counters("etcd_request_errors_total", help, LABELS)
});

/// A store whose writes are counted. Reads come from memory: they ask nobody.
pub(crate) struct Measured {
    store: Arc<dyn Backend>,
    /// By operation and the keys' first part.
    known: RwLock<HashMap<(&'static str, String), Handles>>,
}

#[derive(Clone)]
struct Handles {
    seconds: Histogram,
    requests: IntCounter,
    errors: IntCounter,
}

impl Measured {
    pub(crate) fn new(store: Arc<dyn Backend>) -> Self {
        Self { store, known: RwLock::default() }
    }
}

impl Measured {
    fn handles(&self, operation: &'static str, key: &str) -> Handles {
        // `pods`, or `example.com/widgets`.
        let mut parts = key.strip_prefix("/registry/").unwrap_or(key).split('/');
        let first = parts.next().unwrap_or("");
        let prefix = match first.contains('.') {
            true => format!("{first}/{}", parts.next().unwrap_or("")),
            false => first.to_owned(),
        };
        if let Some(known) = self.known.read().get(&(operation, prefix.clone())) {
            return known.clone();
        }
        let kind = kinds::table().kinds().iter().find(|kind| kind.storage_prefix.as_deref() == Some(&prefix));
        let (group, resource) = match (kind, prefix.split_once('/')) {
            (Some(kind), _) => (kind.group.as_str(), kind.plural.as_str()),
            (None, Some(parts)) => parts,
            (None, None) => ("", prefix.as_str()),
        };
        let labels = [group, operation, resource];
        let made = Handles {
            seconds: SECONDS.with_label_values(&labels),
            requests: REQUESTS.with_label_values(&labels),
            errors: ERRORS.with_label_values(&labels),
        };
        self.known.write().insert((operation, prefix), made.clone());
        made
    }

    /// What a transaction is, by its first operation.
    fn of(&self, txn: &Txn) -> Option<Handles> {
        Some(match txn.ops.first()? {
            Op::Delete(key) => self.handles("delete", key),
            Op::Put(key, _) => {
                let creates = txn.compares.iter().any(|c| matches!(c, Compare::Absent(absent) if absent == key));
                self.handles(if creates { "create" } else { "update" }, key)
            }
        })
    }
}

#[async_trait]
impl Backend for Measured {
    fn revision(&self) -> u64 {
        self.store.revision()
    }

    fn get(&self, key: &str) -> Option<Versioned> {
        self.store.get(key)
    }

    fn range(&self, prefix: &str, after: Option<&str>, limit: usize, revision: u64) -> Result<Page, StoreError> {
        self.store.range(prefix, after, limit, revision)
    }

    fn tally(&self, prefix: &str) -> Tally {
        self.store.tally(prefix)
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, StoreError> {
        let handles = self.of(&txn);
        let began = Instant::now();
        let outcome = self.store.commit(txn).await;
        if let Some(handles) = handles {
            handles.seconds.observe(began.elapsed().as_secs_f64());
            handles.requests.inc();
            if matches!(&outcome, Err(error) if !matches!(error, StoreError::Conflict { .. })) {
                handles.errors.inc();
            }
        }
        outcome
    }

    fn watch(&self, prefix: &str, after: u64) -> Result<Watch, StoreError> {
        self.store.watch(prefix, after)
    }

    async fn wait(&self, revision: u64) -> Result<(), StoreError> {
        self.store.wait(revision).await
    }

    fn sync(&self) -> Option<BoxFuture<'_, Result<(), StoreError>>> {
        self.store.sync()
    }

    fn bytes(&self) -> Option<u64> {
        self.store.bytes()
    }

    fn unreadable(&self, key: &str) -> Option<(Arc<str>, String)> {
        self.store.unreadable(key)
    }

    fn is_stale(&self, key: &str) -> bool {
        self.store.is_stale(key)
    }

    fn reopen(&self) {
        self.store.reopen();
    }

    fn snapshot(&self, path: &Path) -> Result<(), StoreError> {
        self.store.snapshot(path)
    }
}
