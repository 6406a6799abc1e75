//! Attempts to place pods, under upstream's names.

use std::sync::LazyLock;

use base::metrics::{HistogramVec, IntCounterVec, IntGauge, counters, exponential, gauges, histograms};
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

static PENDING: LazyLock<[IntGauge; 3]> = LazyLock::new(|| {
    let help = "[STABLE] Number of pending pods, by the queue type. 'active' means number of pods in activeQ; 'backoff' means number of pods in backoffQ; 'unschedulable' means number of pods in unschedulablePods that the scheduler attempted to schedule and failed; 'gated' is the number of unschedulable pods that the scheduler never attempted to schedule because they are gated.";
    let all = gauges("scheduler_pending_pods", help, &["queue"]);
    ["active", "backoff", "unschedulable"].map(|queue| all.with_label_values(&[queue]))
});

/// How many pods are to be tried, are to be tried soon, and wait for a change of the cluster.
pub(crate) fn pending(active: usize, backing_off: usize, unschedulable: usize) {
    for (gauge, count) in PENDING.iter().zip([active, backing_off, unschedulable]) {
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// An attempt that began then is over. `result`: `scheduled`, `unschedulable`, `error`.
pub(crate) fn attempted(profile: &str, result: &str, began: Instant) {
    ATTEMPTS.with_label_values(&[profile, result]).inc();
    SECONDS.with_label_values(&[profile, result]).observe(began.elapsed().as_secs_f64());
}
