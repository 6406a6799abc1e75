//! Calls of webhooks that convert custom resources.

use std::sync::LazyLock;
use std::time::Duration;

use base::metrics::{HistogramVec, IntCounterVec, counters, exponential, histograms};

const LABELS: &[&str] = &["failure_type", "result"];

static CALLS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Counter for conversion webhook requests with success/failure and failure error type";
    counters("apiserver_conversion_webhook_request_total", help, LABELS)
});

static SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let buckets = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0];
    let help = "[ALPHA] Conversion webhook request latency";
    histograms("apiserver_conversion_webhook_duration_seconds", help, LABELS, &buckets)
});

static BY_DEFINITION: LazyLock<HistogramVec> = LazyLock::new(|| {
    let labels = ["crd_name", "from_version", "succeeded", "to_version"];
    let help = "[ALPHA] CRD webhook conversion duration in seconds";
    histograms("apiserver_crd_conversion_webhook_duration_seconds", help, &labels, &exponential(0.001, 2.0, 15))
});

/// A webhook was asked to convert a definition's objects; what failed, if anything did.
pub(crate) fn asked(definition: &str, [from, to]: [&str; 2], took: Duration, failure: Option<&str>) {
    let (result, kind) = match failure {
        None => ("success", String::new()),
        Some(kind) => ("failure", format!("conversion_webhook_{kind}_failure")),
    };
    let (labels, took) = ([kind.as_str(), result], took.as_secs_f64());
    CALLS.with_label_values(&labels).inc();
    SECONDS.with_label_values(&labels).observe(took);
    let succeeded = if failure.is_none() { "true" } else { "false" };
    BY_DEFINITION.with_label_values(&[definition, from, succeeded, to]).observe(took);
}
