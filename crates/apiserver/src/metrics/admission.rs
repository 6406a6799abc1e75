//! Admission: how long its steps and each of its plugins take.

use std::sync::{LazyLock, OnceLock};

use base::metrics::{Histogram, HistogramVec, IntCounterVec, counters, histograms};
use object::Status;
use tokio::time::Instant;

use crate::admission::{Operation, Plugin};

const SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];

static STEPS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[STABLE] Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).";
    histograms("apiserver_admission_step_admission_duration_seconds", help, &["operation", "rejected", "type"], SECONDS)
});

static PLUGINS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[STABLE] Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).";
    let labels = ["name", "operation", "rejected", "type"];
    histograms("apiserver_admission_controller_admission_duration_seconds", help, &labels, SECONDS)
});

static EVALUATIONS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Number of policy evaluations that occurred, not counting ignored or exempt requests.";
    let labels = ["decision", "mode", "policy_level", "policy_version", "request_operation", "resource", "subresource"];
    counters("pod_security_evaluations_total", help, &labels)
});

static EXEMPTIONS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Number of exempt requests, not counting ignored or out of scope requests.";
    counters("pod_security_exemptions_total", help, &["request_operation", "resource", "subresource"])
});

/// Which step of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Admit,
    Validate,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validate",
        }
    }
}

/// In the order in which they are declared.
const OPERATIONS: usize = 4;
/// By step, operation, outcome.
const OUTCOMES: usize = 2 * OPERATIONS * 2;

fn index(step: Step, operation: Operation, rejected: bool) -> usize {
    (step as usize * OPERATIONS + operation as usize) * 2 + usize::from(rejected)
}

/// Times the plugins of one step one after the other, and the step.
pub(crate) struct Clock {
    step: Step,
    operation: Operation,
    began: Instant,
    last: Instant,
}

impl Clock {
    pub(crate) fn start(step: Step, operation: Operation) -> Self {
        let now = Instant::now();
        Self { step, operation, began: now, last: now }
    }

    /// The plugin has come to this: it took the time since the one before.
    pub(crate) fn lap<T>(&mut self, plugin: Plugin, outcome: Result<T, Status>) -> Result<T, Status> {
        static HANDLES: LazyLock<Vec<OnceLock<Histogram>>> =
            LazyLock::new(|| (0..Plugin::COUNT * OUTCOMES).map(|_| OnceLock::new()).collect());
        if !plugin.handles(self.operation) {
            return outcome;
        }
        let now = Instant::now();
        let took = now - self.last;
        self.last = now;
        let at = plugin as usize * OUTCOMES + index(self.step, self.operation, outcome.is_err());
        if let Some(handle) = HANDLES.get(at) {
            let make = || {
                let rejected = if outcome.is_err() { "true" } else { "false" };
                PLUGINS.with_label_values(&[plugin.name(), self.operation.name(), rejected, self.step.name()])
            };
            handle.get_or_init(make).observe(took.as_secs_f64());
        }
        outcome
    }

    /// The step has come to this.
    pub(crate) fn stop(self, rejected: bool) {
        static HANDLES: LazyLock<Vec<OnceLock<Histogram>>> =
            LazyLock::new(|| (0..OUTCOMES).map(|_| OnceLock::new()).collect());
        if let Some(handle) = HANDLES.get(index(self.step, self.operation, rejected)) {
            let text = if rejected { "true" } else { "false" };
            let make = || STEPS.with_label_values(&[self.operation.name(), text, self.step.name()]);
            handle.get_or_init(make).observe(self.began.elapsed().as_secs_f64());
        }
    }
}

/// What Pod Security found.
pub(crate) mod pod_security {
    use kinds::podsecurity::LevelVersion;

    use super::{EVALUATIONS, EXEMPTIONS};
    use crate::admission::Attributes;

    fn about(at: &Attributes<'_>) -> [&'static str; 2] {
        let operation = if at.operation == crate::admission::Operation::Create { "create" } else { "update" };
        [operation, if at.is("", "pods") { "pod" } else { "controller" }]
    }

    /// A policy was looked at in one of its modes.
    pub(crate) fn evaluated(at: &Attributes<'_>, mode: &str, policy: LevelVersion, violated: bool) {
        let [operation, resource] = about(at);
        let decision = if violated { "deny" } else { "allow" };
        let [level, version] = [policy.level.to_string(), policy.version.to_string()];
        EVALUATIONS.with_label_values(&[decision, mode, &level, &version, operation, resource, at.subresource]).inc();
    }

    /// Nothing was looked at.
    pub(crate) fn exempt(at: &Attributes<'_>) {
        let [operation, resource] = about(at);
        EXEMPTIONS.with_label_values(&[operation, resource, at.subresource]).inc();
    }
}
