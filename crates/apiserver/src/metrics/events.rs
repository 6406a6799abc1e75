//! What happens in the store's memory, which is what upstream's watch caches are: each change comes in once, and is there for all watchers.

use std::sync::LazyLock;

use base::metrics::{IntCounterVec, IntGaugeVec, counters, gauges};

const LABELS: &[&str] = &["group", "resource"];

/// Received, dispatched.
static EVENTS: LazyLock<[IntCounterVec; 2]> = LazyLock::new(|| {
    ["received", "dispatched"].map(|what| {
        let help = match what {
            "received" => "[ALPHA] Counter of events received in watch cache broken by resource type.",
            _ => "[ALPHA] Counter of events dispatched in watch cache broken by resource type.",
        };
        counters(&format!("apiserver_watch_cache_events_{what}_total"), help, LABELS)
    })
});

static CAPACITY: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges("watch_cache_capacity", "[ALPHA] Total capacity of watch cache broken by resource type.", LABELS)
});

/// So many changes there have been of a resource.
pub(super) fn told(labels: [&str; 2], events: u64) {
    CAPACITY.with_label_values(&labels).set(i64::try_from(store::WINDOW_EVENTS).unwrap_or(i64::MAX));
    if events == 0 {
        return;
    }
    for counters in &*EVENTS {
        let counter = counters.with_label_values(&labels);
        counter.inc_by(events.saturating_sub(counter.get()));
    }
}
