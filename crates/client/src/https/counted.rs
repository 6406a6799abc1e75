//! Requests of clients, under upstream's names.

use std::sync::LazyLock;

use base::metrics::{HistogramVec, IntCounterVec, counters, histograms};
use http::Method;
use tokio::time::Instant;

static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Number of HTTP requests, partitioned by status code, method, and host.";
    counters("rest_client_requests_total", help, &["code", "host", "method"])
});

static SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[ALPHA] Request latency in seconds. Broken down by verb, and host.";
    let buckets = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
    histograms("rest_client_request_duration_seconds", help, &["host", "verb"], &buckets)
});

/// Counts a request that began then; `code` is `None` when there was no answer.
pub fn request(host: &str, method: &Method, code: Option<u16>, began: Instant) {
    let code = code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
    REQUESTS.with_label_values(&[code.as_str(), host, method.as_str()]).inc();
    SECONDS.with_label_values(&[host, method.as_str()]).observe(began.elapsed().as_secs_f64());
}
