//! Attempts to place pods, under upstream's names.

use std::sync::LazyLock;

use base::metrics::{HistogramVec, IntCounterVec, counters, exponential, histograms};
use tokio::time::Instant;

static ATTEMPTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[STABLE] Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem.";
    counters("scheduler_schedule_attempts_total", help, &["profile", "result"])
});

static SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[STABLE] Scheduling attempt latency in seconds (scheduling algorithm + binding)";
    let buckets = exponential(0.001, 2.0, 15);
    histograms("scheduler_scheduling_attempt_duration_seconds", help, &["profile", "result"], &buckets)
});

/// An attempt that began then is over. `result`: `scheduled`, `unschedulable`, `error`.
pub(crate) fn attempted(profile: &str, result: &str, began: Instant) {
    ATTEMPTS.with_label_values(&[profile, result]).inc();
    SECONDS.with_label_values(&[profile, result]).observe(began.elapsed().as_secs_f64());
}
