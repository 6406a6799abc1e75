//! What the server counts, under upstream's names; `/metrics` shows it beside what other parts of the process count.
//!
//! A request costs one look into a map that is never locked, and a few additions.

mod requests;
mod store;

use std::sync::LazyLock;
use std::time::Duration;

use crate::admission::Operation;
use crate::api::Api;
use base::metrics::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, counter, counters, gauges, histograms,
};

pub(crate) use requests::{Asked, InFlight, WatchEvents, series};
pub(crate) use store::Measured;

/// TLS handshakes that failed.
pub(crate) static HANDSHAKE_ERRORS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "apiserver_tls_handshake_errors_total",
        "[ALPHA] Number of requests dropped with 'TLS handshake error from' error",
    )
});

/// Events that the audit log was given.
pub(crate) static AUDIT_EVENTS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter("apiserver_audit_event_total", "[ALPHA] Counter of audit events generated and sent to the audit backend.")
});

/// How requests proved who sends them: `success`, `failure`, `error`.
pub(crate) static AUTHENTICATIONS: LazyLock<(IntCounter, IntCounter)> = LazyLock::new(|| {
    let all: IntCounterVec =
        counters("authentication_attempts", "[ALPHA] Counter of authenticated attempts.", &["result"]);
    (all.with_label_values(&["success"]), all.with_label_values(&["failure"]))
});

static STEPS: LazyLock<HistogramVec> = LazyLock::new(|| {
    histograms(
        "apiserver_admission_step_admission_duration_seconds",
        "[STABLE] Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).",
        &["operation", "rejected", "type"],
        ADMISSION_SECONDS,
    )
});

const ADMISSION_SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];

/// A step of admission (`admit`, `validate`) that took so long.
pub(crate) fn admission_step(step: AdmissionStep, operation: Operation, rejected: bool, took: Duration) {
    /// By step, operation, outcome.
    static HANDLES: LazyLock<Vec<Histogram>> = LazyLock::new(|| {
        let mut all = Vec::new();
        for step in ["admit", "validate"] {
            for operation in OPERATIONS {
                for rejected in ["false", "true"] {
                    all.push(STEPS.with_label_values(&[operation.name(), rejected, step]));
                }
            }
        }
        all
    });
    let index = (step as usize * OPERATIONS.len() + operation as usize) * 2 + usize::from(rejected);
    if let Some(histogram) = HANDLES.get(index) {
        histogram.observe(took.as_secs_f64());
    }
}

/// Which step of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdmissionStep {
    Admit,
    Validate,
}

/// In the order in which they are declared.
const OPERATIONS: [Operation; 4] = [Operation::Create, Operation::Update, Operation::Delete, Operation::Connect];

/// Handles of priority and fairness: `flow.rs` counts by these and knows no names of metrics. Make a [`flow::Pair`] of each FlowSchema
/// and its PriorityLevelConfiguration when those are read, and keep it beside them. Of a request:
/// - `let waiting = pair.waiting()` when it asks for a seat;
/// - `let executing = waiting.dispatched()` when it gets one: drop that when the request is answered (a watch: when it begins);
/// - `waiting.rejected("queue-full" | "concurrency-limit" | "time-out" | "cancelled")` when it gets none.
pub(crate) mod flow {
    use tokio::time::Instant;

    use super::*;

    const LABELS: &[&str] = &["flow_schema", "priority_level"];

    static IN_QUEUE: LazyLock<IntGaugeVec> = LazyLock::new(|| {
        let help = "[BETA] Number of requests currently pending in queues of the API Priority and Fairness subsystem";
        gauges("apiserver_flowcontrol_current_inqueue_requests", help, LABELS)
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

    /// How many seats a level has.
    pub(crate) fn nominal(level: &str, seats: usize) {
        NOMINAL.with_label_values(&[level]).set(i64::try_from(seats).unwrap_or(i64::MAX));
    }

    /// The metrics of one FlowSchema at its level.
    #[derive(Clone)]
    pub(crate) struct Pair {
        names: [String; 2],
        in_queue: IntGauge,
        executing: IntGauge,
        dispatched: IntCounter,
        waits: Histogram,
    }

    impl Pair {
        pub(crate) fn of(schema: &str, level: &str) -> Self {
            let labels = [schema, level];
            Self {
                names: labels.map(str::to_owned),
                in_queue: IN_QUEUE.with_label_values(&labels),
                executing: EXECUTING.with_label_values(&labels),
                dispatched: DISPATCHED.with_label_values(&labels),
                waits: WAITS.with_label_values(&["true", schema, level]),
            }
        }

        /// A request asks for a seat.
        pub(crate) fn waiting(&self) -> Waiting<'_> {
            self.in_queue.inc();
            Waiting { pair: self, since: Instant::now() }
        }
    }

    /// A request that has no seat yet.
    pub(crate) struct Waiting<'p> {
        pair: &'p Pair,
        since: Instant,
    }

    impl Waiting<'_> {
        /// It goes on.
        pub(crate) fn dispatched(self) -> Executing {
            self.pair.waits.observe(self.since.elapsed().as_secs_f64());
            self.pair.dispatched.inc();
            self.pair.executing.inc();
            Executing(self.pair.executing.clone())
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
        }
    }

    /// A request that goes on.
    pub(crate) struct Executing(IntGauge);

    impl Drop for Executing {
        fn drop(&mut self) {
            self.0.dec();
        }
    }
}

static OBJECTS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges(
        "apiserver_resource_objects",
        "[ALPHA] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.",
        &["group", "resource"],
    )
});

static STORAGE_OBJECTS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges(
        "apiserver_storage_objects",
        "[STABLE] (Deprecated since 1.34.0) [DEPRECATED, consider using apiserver_resource_objects instead] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.",
        &["resource"],
    )
});

static BUILD: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges(
        "kubernetes_build_info",
        "[BETA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
        BUILD_LABELS,
    )
});

const BUILD_LABELS: &[&str] = &[
    "build_date",
    "compiler",
    "git_commit",
    "git_tree_state",
    "git_version",
    "go_version",
    "major",
    "minor",
    "platform",
];

impl Api {
    /// The text of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        OBJECTS.reset();
        STORAGE_OBJECTS.reset();
        for group in self.registry.groups().iter().map(|(group, _)| group) {
            for kind in self.registry.stored_in(group) {
                let Some(prefix) = &kind.storage_prefix else { continue };
                let count = self.store.count(&format!("/registry/{prefix}/"));
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                OBJECTS.with_label_values(&[&kind.group, &kind.plural]).set(count);
                let name = match kind.group.as_str() {
                    "" => kind.plural.clone(),
                    group => format!("{}.{group}", kind.plural),
                };
                STORAGE_OBJECTS.with_label_values(&[&name]).set(count);
            }
        }
        let version = crate::discovery::version();
        let text = |field: &str| version[field].as_str().unwrap_or("").to_owned();
        let fields = [
            "buildDate",
            "compiler",
            "gitCommit",
            "gitTreeState",
            "gitVersion",
            "goVersion",
            "major",
            "minor",
            "platform",
        ];
        let values = fields.map(text);
        BUILD.with_label_values(&values.each_ref().map(String::as_str)).set(1);
        base::metrics::text()
    }
}

/// The text of `/metrics/slis`: what each health check says, by name and endpoint.
pub(crate) fn of_checks(checks: &[(&str, &str, bool)]) -> String {
    let help = "This metric records the result of a single healthcheck.";
    let mut text = format!("# HELP kubernetes_healthcheck [STABLE] {help}\n# TYPE kubernetes_healthcheck gauge\n");
    for (name, endpoint, well) in checks {
        let value = i32::from(*well);
        text.push_str(&format!("kubernetes_healthcheck{{name=\"{name}\",type=\"{endpoint}\"}} {value}\n"));
    }
    text
}
