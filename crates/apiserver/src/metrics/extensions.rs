//! Webhooks and policies: how often they are asked, how long that takes, and what they say.

use std::sync::LazyLock;
use std::time::Duration;

use base::metrics::{HistogramVec, IntCounterVec, counters, histograms};

const SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
const CHECK_SECONDS: &[f64] = &[0.000_000_5, 0.001, 0.01, 0.1, 1.0];

static ASKED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Admission webhook request total, identified by name and broken out for each admission type (validating or admit) and operation.";
    counters("apiserver_admission_webhook_request_total", help, &["code", "name", "operation", "rejected", "type"])
});

static TOOK: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[STABLE] Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).";
    let labels = ["name", "operation", "rejected", "type"];
    histograms("apiserver_admission_webhook_admission_duration_seconds", help, &labels, SECONDS)
});

static REJECTED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Admission webhook rejection count, identified by name and broken out for each admission type (validating or admit) and operation.";
    let labels = ["error_type", "name", "operation", "rejection_code", "type"];
    counters("apiserver_admission_webhook_rejection_count", help, &labels)
});

static FAILED_OPEN: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Admission webhook fail open count, identified by name and broken out for each admission type (validating or admit).";
    counters("apiserver_admission_webhook_fail_open_count", help, &["name", "type"])
});

/// What came of asking a webhook.
pub(crate) enum Said {
    Yes,
    /// No, with this code.
    No(u16),
    /// It could not be asked, and the request failed by that; with the code of the failure.
    Nothing(u16),
    /// It could not be asked, and that did not matter.
    Ignored(u16),
}

/// A webhook was asked. `sort` is `admit` or `validating`.
pub(crate) fn asked(name: &str, operation: &str, sort: &str, took: Duration, said: &Said) {
    let (code, error) = match said {
        Said::Yes => (200, None),
        Said::No(code) => (*code, Some("no_error")),
        Said::Nothing(code) => (*code, Some("calling_webhook_error")),
        Said::Ignored(code) => (*code, None),
    };
    let rejected = if error.is_some() { "true" } else { "false" };
    let code = code.min(600).to_string();
    ASKED.with_label_values(&[&code, name, operation, rejected, sort]).inc();
    TOOK.with_label_values(&[name, operation, rejected, sort]).observe(took.as_secs_f64());
    if let Some(error) = error {
        REJECTED.with_label_values(&[error, name, operation, &code, sort]).inc();
    }
    if matches!(said, Said::Ignored(_)) {
        FAILED_OPEN.with_label_values(&[name, sort]).inc();
    }
}

static VALIDATED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[BETA] Validation admission policy check total, labeled by policy and further identified by binding and enforcement action taken.";
    let labels = ["enforcement_action", "error_type", "policy", "policy_binding"];
    counters("apiserver_validating_admission_policy_check_total", help, &labels)
});

static VALIDATION_TOOK: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[BETA] Validation admission latency for individual validation expressions in seconds, labeled by policy and further including binding and enforcement action taken.";
    let labels = ["enforcement_action", "error_type", "policy", "policy_binding"];
    histograms("apiserver_validating_admission_policy_check_duration_seconds", help, &labels, CHECK_SECONDS)
});

/// A validating policy was looked at, and something done.
pub(crate) fn validated(action: &str, error: &str, policy: &str, binding: &str, took: Duration) {
    let labels = [action, error, policy, binding];
    VALIDATED.with_label_values(&labels).inc();
    VALIDATION_TOOK.with_label_values(&labels).observe(took.as_secs_f64());
}

static MUTATED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Mutation admission policy check total, labeled by policy and further identified by binding.";
    counters("apiserver_mutating_admission_policy_check_total", help, &["error_type", "policy", "policy_binding"])
});

static MUTATION_TOOK: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[ALPHA] Mutation admission latency for individual mutation expressions in seconds, labeled by policy and binding.";
    let labels = ["error_type", "policy", "policy_binding"];
    histograms("apiserver_mutating_admission_policy_check_duration_seconds", help, &labels, CHECK_SECONDS)
});

/// A mutating policy was looked at.
pub(crate) fn mutated(failed: bool, policy: &str, binding: &str, took: Duration) {
    let labels = [if failed { "invalid_error" } else { "no_error" }, policy, binding];
    MUTATED.with_label_values(&labels).inc();
    MUTATION_TOOK.with_label_values(&labels).observe(took.as_secs_f64());
}
