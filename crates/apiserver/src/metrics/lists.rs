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

static BEGINNINGS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Counter of init events processed in watch cache broken by resource type.";
    counters("apiserver_init_events_total", help, &["group", "resource"])
});

static CONSISTENT: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Counter for consistent reads from cache.";
    counters("apiserver_watch_cache_consistent_read_total", help, &["fallback", "group", "resource", "success"])
});

static WAITS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[ALPHA] Histogram of time spent waiting for a watch cache to become fresh.";
    let seconds = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0];
    histograms("apiserver_watch_cache_read_wait_seconds", help, &["group", "resource"], &seconds)
});

/// A list has waited for memory to be as new as it needs it: as the newest revision, where it is `consistent`.
pub(crate) fn waited(kind: &Kind, consistent: bool, succeeded: bool, took: Duration) {
    let [group, resource] = [kind.group.as_str(), kind.plural.as_str()];
    WAITS.with_label_values(&[group, resource]).observe(took.as_secs_f64());
    if consistent {
        let success = if succeeded { "true" } else { "false" };
        CONSISTENT.with_label_values(&["false", group, resource, success]).inc();
    }
}

/// A watch begins with so many objects.
pub(crate) fn begins(kind: &Kind, objects: usize) {
    if objects > 0 {
        BEGINNINGS.with_label_values(&[kind.group.as_str(), kind.plural.as_str()]).inc_by(objects as u64);
    }
}

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
