//! CEL in custom resources: how long it takes to compile the rules of a schema, and to evaluate them on a value.

use std::sync::LazyLock;

use base::metrics::{Histogram, histogram};
use kinds::custom::observed::{Work, observe};
use tokio::time::Instant;

const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

static COMPILED: LazyLock<Histogram> = LazyLock::new(|| {
    histogram("apiserver_cel_compilation_duration_seconds", "[BETA] CEL compilation time in seconds.", &SECONDS)
});

static EVALUATED: LazyLock<Histogram> = LazyLock::new(|| {
    histogram("apiserver_cel_evaluation_duration_seconds", "[BETA] CEL evaluation time in seconds.", &SECONDS)
});

/// Measures from now on.
pub(crate) fn begin() {
    LazyLock::force(&COMPILED);
    LazyLock::force(&EVALUATED);
    observe(|work, run| {
        let began = Instant::now();
        run();
        let histogram = if work == Work::Compile { &COMPILED } else { &EVALUATED };
        histogram.observe(began.elapsed().as_secs_f64());
    });
}
