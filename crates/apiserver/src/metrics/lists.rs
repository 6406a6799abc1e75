//! Lists: all are served from memory, which is what upstream's watch cache is.

use std::sync::LazyLock;
use std::time::Duration;

use base::metrics::{HistogramVec, IntCounterVec, counters, histograms};
use kinds::Kind;

static TOTAL: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Number of LIST requests served from watch cache";
    counters("apiserver_cache_list_total", help, &["group", "index", "resource"])
});

static FETCHED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Number of objects read from watch cache in the course of serving a LIST request";
    counters("apiserver_cache_list_fetched_objects_total", help, &["group", "index", "resource"])
});

static RETURNED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Number of objects returned for a LIST request from watch cache";
    counters("apiserver_cache_list_returned_objects_total", help, &["group", "resource"])
});

static INITIAL: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[BETA] Response latency distribution in seconds for watch list requests broken by group, version, resource and scope.";
    let seconds = [0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0];
    histograms("apiserver_watch_list_duration_seconds", help, &["group", "resource", "scope", "version"], &seconds)
});

/// A watch has sent the state that it began with.
pub(crate) fn began(kind: &Kind, scope: &str, took: Duration) {
    let labels = [kind.group.as_str(), kind.plural.as_str(), scope, kind.version.as_str()];
    INITIAL.with_label_values(&labels).observe(took.as_secs_f64());
}

/// One list: how many objects were looked at, how many are in it.
#[derive(Default)]
pub(crate) struct Lists {
    pub(crate) fetched: usize,
    pub(crate) returned: usize,
}

impl Lists {
    pub(crate) fn count(&self, kind: &Kind) {
        let labels = [kind.group.as_str(), "", kind.plural.as_str()];
        TOTAL.with_label_values(&labels).inc();
        FETCHED.with_label_values(&labels).inc_by(self.fetched as u64);
        RETURNED.with_label_values(&[kind.group.as_str(), kind.plural.as_str()]).inc_by(self.returned as u64);
    }
}
