//! The metrics of a queue that has a name, under upstream's names.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::LazyLock;

use base::metrics::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, counters, exponential, gauges,
    histograms,
};
use tokio::time::Instant;

static DEPTH: LazyLock<IntGaugeVec> =
    LazyLock::new(|| gauges("workqueue_depth", "[BETA] Current depth of workqueue", &["name"]));

static ADDS: LazyLock<IntCounterVec> =
    LazyLock::new(|| counters("workqueue_adds_total", "[BETA] Total number of adds handled by workqueue", &["name"]));

static RETRIES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters("workqueue_retries_total", "[BETA] Total number of retries handled by workqueue", &["name"])
});

static WAITS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[BETA] How long in seconds an item stays in workqueue before being requested.";
    histograms("workqueue_queue_duration_seconds", help, &["name"], &exponential(1e-8, 10.0, 10))
});

static WORK: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[BETA] How long in seconds processing an item from workqueue takes.";
    histograms("workqueue_work_duration_seconds", help, &["name"], &exponential(1e-8, 10.0, 10))
});

/// Counts what happens to keys.
pub(super) struct Counted<K> {
    depth: IntGauge,
    adds: IntCounter,
    retries: IntCounter,
    waits: Histogram,
    work: Histogram,
    added: HashMap<K, Instant>,
    begun: HashMap<K, Instant>,
}

impl<K: Clone + Eq + Hash> Counted<K> {
    pub(super) fn new(name: &str) -> Self {
        let labels = [name];
        Self {
            depth: DEPTH.with_label_values(&labels),
            adds: ADDS.with_label_values(&labels),
            retries: RETRIES.with_label_values(&labels),
            waits: WAITS.with_label_values(&labels),
            work: WORK.with_label_values(&labels),
            added: HashMap::new(),
            begun: HashMap::new(),
        }
    }

    /// The key is to be processed.
    pub(super) fn added(&mut self, key: &K) {
        self.adds.inc();
        self.added.entry(key.clone()).or_insert_with(Instant::now);
    }

    /// The key can be got.
    pub(super) fn ready(&self) {
        self.depth.inc();
    }

    /// A worker has it.
    pub(super) fn begun(&mut self, key: &K) {
        self.depth.dec();
        if let Some(added) = self.added.remove(key) {
            self.waits.observe(added.elapsed().as_secs_f64());
        }
        self.begun.insert(key.clone(), Instant::now());
    }

    /// The worker is done with it.
    pub(super) fn done(&mut self, key: &K) {
        if let Some(begun) = self.begun.remove(key) {
            self.work.observe(begun.elapsed().as_secs_f64());
        }
    }

    /// It comes again after a back-off.
    pub(super) fn retried(&self) {
        self.retries.inc();
    }
}
