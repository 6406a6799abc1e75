//! Priority and fairness: `flow.rs` counts by these handles and knows no names of metrics. Make a [`Pair`] of each FlowSchema
//! and its PriorityLevelConfiguration when those are read, and keep it beside them. Of a request:
//! - `let waiting = pair.waiting()` when it asks for a seat;
//! - `let executing = waiting.dispatched(seats)` when it gets them: drop that when the request is answered (a watch: when it begins);
//! - `waiting.rejected("queue-full" | "concurrency-limit" | "time-out" | "cancelled")` when it gets none.

use std::sync::LazyLock;

use base::metrics::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, counters, gauges, histograms,
};
use tokio::time::Instant;

const LABELS: &[&str] = &["flow_schema", "priority_level"];

static IN_QUEUE: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "[BETA] Number of requests currently pending in queues of the API Priority and Fairness subsystem";
    gauges("apiserver_flowcontrol_current_inqueue_requests", help, LABELS)
});

static SEATS_IN_QUEUE: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "[ALPHA] Number of seats currently pending in queues of the API Priority and Fairness subsystem";
    gauges("apiserver_flowcontrol_current_inqueue_seats", help, LABELS)
});

static EXECUTING: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "[BETA] Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem";
    gauges("apiserver_flowcontrol_current_executing_requests", help, LABELS)
});

static DISPATCHED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[BETA] Number of requests executed by API Priority and Fairness subsystem";
    counters("apiserver_flowcontrol_dispatched_requests_total", help, LABELS)
});

static REJECTED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[BETA] Number of requests rejected by API Priority and Fairness subsystem";
    let labels = ["flow_schema", "priority_level", "reason"];
    counters("apiserver_flowcontrol_rejected_requests_total", help, &labels)
});

static WAITS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[BETA] Length of time a request spent waiting in its queue";
    let buckets = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
    let labels = ["execute", "flow_schema", "priority_level"];
    histograms("apiserver_flowcontrol_request_wait_duration_seconds", help, &labels, &buckets)
});

static NOMINAL: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "[BETA] Nominal number of execution seats configured for each priority level";
    gauges("apiserver_flowcontrol_nominal_limit_seats", help, &["priority_level"])
});

static LOWER: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "[ALPHA] Configured lower bound on number of execution seats available to each priority level";
    gauges("apiserver_flowcontrol_lower_limit_seats", help, &["priority_level"])
});

static UPPER: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "[ALPHA] Configured upper bound on number of execution seats available to each priority level";
    gauges("apiserver_flowcontrol_upper_limit_seats", help, &["priority_level"])
});

static CURRENT: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "[ALPHA] current derived number of execution seats available to each priority level";
    gauges("apiserver_flowcontrol_current_limit_seats", help, &["priority_level"])
});

static SEATS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "[BETA] Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem";
    gauges("apiserver_flowcontrol_current_executing_seats", help, LABELS)
});

static ESTIMATES: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[ALPHA] Number of estimated seats (maximum of initial and final seats) associated with requests in API Priority and Fairness";
    let buckets = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0];
    histograms("apiserver_flowcontrol_work_estimated_seats", help, LABELS, &buckets)
});

static EXECUTIONS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[ALPHA] Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API Priority and Fairness subsystem";
    let buckets = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
    let labels = ["flow_schema", "priority_level", "type"];
    histograms("apiserver_flowcontrol_request_execution_seconds", help, &labels, &buckets)
});

/// How many seats a level has: its own, at least, at most, and now.
pub(crate) struct Limits {
    pub(crate) nominal: usize,
    pub(crate) lower: usize,
    pub(crate) upper: usize,
    pub(crate) current: usize,
}

/// Tells the limits of a level.
pub(crate) fn limits(level: &str, limits: &Limits) {
    let all =
        [(&*NOMINAL, limits.nominal), (&*LOWER, limits.lower), (&*UPPER, limits.upper), (&*CURRENT, limits.current)];
    for (gauge, seats) in all {
        gauge.with_label_values(&[level]).set(i64::try_from(seats).unwrap_or(i64::MAX));
    }
}

/// The metrics of one FlowSchema at its level.
#[derive(Clone)]
pub(crate) struct Pair {
    names: [String; 2],
    in_queue: IntGauge,
    seats_in_queue: IntGauge,
    executing: IntGauge,
    dispatched: IntCounter,
    waits: Histogram,
    seats: IntGauge,
    estimates: Histogram,
    /// Of watches, of others.
    executions: [Histogram; 2],
}

impl Pair {
    pub(crate) fn of(schema: &str, level: &str) -> Self {
        let labels = [schema, level];
        Self {
            names: labels.map(str::to_owned),
            in_queue: IN_QUEUE.with_label_values(&labels),
            seats_in_queue: SEATS_IN_QUEUE.with_label_values(&labels),
            executing: EXECUTING.with_label_values(&labels),
            dispatched: DISPATCHED.with_label_values(&labels),
            waits: WAITS.with_label_values(&["true", schema, level]),
            seats: SEATS.with_label_values(&labels),
            estimates: ESTIMATES.with_label_values(&labels),
            executions: ["watch", "regular"].map(|kind| EXECUTIONS.with_label_values(&[schema, level, kind])),
        }
    }

    /// A request asks for a seat.
    pub(crate) fn waiting(&self) -> Waiting<'_> {
        self.in_queue.inc();
        Waiting { pair: self, since: Instant::now(), seats: 0 }
    }
}

/// A request that has no seat yet.
pub(crate) struct Waiting<'p> {
    pair: &'p Pair,
    since: Instant,
    /// Of one that is in a queue: how many it waits for.
    seats: i64,
}

impl Waiting<'_> {
    /// It is in a queue, for so many seats.
    pub(crate) fn queued(&mut self, seats: usize) {
        self.seats = i64::try_from(seats).unwrap_or(i64::MAX);
        self.pair.seats_in_queue.add(self.seats);
    }

    /// It goes on, with so many seats.
    pub(crate) fn dispatched(self, seats: usize, watches: bool) -> Executing {
        let pair = self.pair;
        pair.waits.observe(self.since.elapsed().as_secs_f64());
        pair.dispatched.inc();
        pair.executing.inc();
        pair.estimates.observe(seats as f64);
        let taken = i64::try_from(seats).unwrap_or(i64::MAX);
        pair.seats.add(taken);
        let [watching, regular] = &pair.executions;
        let took = if watches { watching } else { regular }.clone();
        Executing { requests: pair.executing.clone(), seats: (pair.seats.clone(), taken), took, since: Instant::now() }
    }

    /// It is told to come again.
    pub(crate) fn rejected(self, reason: &str) {
        let [schema, level] = &self.pair.names;
        WAITS.with_label_values(&["false", schema, level]).observe(self.since.elapsed().as_secs_f64());
        REJECTED.with_label_values(&[schema.as_str(), level, reason]).inc();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pair.in_queue.dec();
        self.pair.seats_in_queue.sub(self.seats);
    }
}

/// A request that goes on.
pub(crate) struct Executing {
    requests: IntGauge,
    seats: (IntGauge, i64),
    took: Histogram,
    since: Instant,
}

impl Drop for Executing {
    fn drop(&mut self) {
        self.requests.dec();
        let (seats, taken) = &self.seats;
        seats.sub(*taken);
        self.took.observe(self.since.elapsed().as_secs_f64());
    }
}
