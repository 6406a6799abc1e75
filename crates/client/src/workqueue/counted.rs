//! The metrics of a queue that has a name, under upstream's names.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, LazyLock, Weak};

use base::metrics::{
    GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, counters, exponential, gauges,
    histograms, measured,
};
use parking_lot::Mutex;
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

/// When the keys that are being worked on were begun.
type Begun = Mutex<Vec<Instant>>;
/// A queue's name and its work.
type Named = (String, Weak<Begun>);

/// What the queues are at, by their names, for the gauges that grow while nothing happens.
static AT_WORK: LazyLock<Mutex<Vec<Named>>> = LazyLock::new(|| {
    let help = "[BETA] How many seconds of work has done that is in progress and hasn't been observed by work_duration. \
                Large values indicate stuck threads. One can deduce the number of stuck threads by observing the rate at which \
                this increases.";
    measured("workqueue_unfinished_work_seconds", help, &["name"], |gauges| measure(gauges, |at_work| at_work.sum()));
    let help = "[BETA] How many seconds has the longest running processor for workqueue been running.";
    measured("workqueue_longest_running_processor_seconds", help, &["name"], |gauges| {
        measure(gauges, |at_work| at_work.fold(0.0, f64::max));
    });
    Mutex::default()
});

/// Sets each queue's gauge to what `of` makes of the seconds that its keys have taken so far.
fn measure(gauges: &GaugeVec, of: fn(&mut dyn Iterator<Item = f64>) -> f64) {
    AT_WORK.lock().retain(|(name, begun)| {
        let begun = begun.upgrade();
        let seconds =
            begun.as_ref().map_or(0.0, |begun| of(&mut begun.lock().iter().map(|b| b.elapsed().as_secs_f64())));
        gauges.with_label_values(&[name.as_str()]).set(seconds);
        begun.is_some()
    });
}

/// Counts what happens to keys.
pub(super) struct Counted<K> {
    depth: IntGauge,
    adds: IntCounter,
    retries: IntCounter,
    waits: Histogram,
    work: Histogram,
    added: HashMap<K, Instant>,
    begun: HashMap<K, Instant>,
    at_work: Arc<Begun>,
}

impl<K: Clone + Eq + Hash> Counted<K> {
    pub(super) fn new(name: &str) -> Self {
        let labels = [name];
        let at_work = Arc::<Begun>::default();
        AT_WORK.lock().push((name.to_owned(), Arc::downgrade(&at_work)));
        Self {
            depth: DEPTH.with_label_values(&labels),
            adds: ADDS.with_label_values(&labels),
            retries: RETRIES.with_label_values(&labels),
            waits: WAITS.with_label_values(&labels),
            work: WORK.with_label_values(&labels),
            added: HashMap::new(),
            begun: HashMap::new(),
            at_work,
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
        let now = Instant::now();
        self.begun.insert(key.clone(), now);
        self.at_work.lock().push(now);
    }

    /// The worker is done with it.
    pub(super) fn done(&mut self, key: &K) {
        if let Some(begun) = self.begun.remove(key) {
            self.work.observe(begun.elapsed().as_secs_f64());
            let mut at_work = self.at_work.lock();
            if let Some(at) = at_work.iter().position(|at| *at == begun) {
                at_work.swap_remove(at);
            }
        }
    }

    /// It comes again after a back-off.
    pub(super) fn retried(&self) {
        self.retries.inc();
    }
}
