//! Metrics of every part of the process under upstream's names, in Prometheus' text format.
//!
//! A part declares its metrics as statics beside its code, made by [`counters`], [`gauges`] and [`histograms`]; they appear in [`text`]
//! once they have a value. Help texts are upstream's, with the stability in front. On a hot path keep the handle of a label set
//! (`with_label_values`): to look it up takes a lock.

use std::sync::LazyLock;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, HistogramOpts, Opts, Registry, TextEncoder};

pub use prometheus::{GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);

/// Buckets of most durations of requests, in seconds.
pub const REQUEST_SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

static REGISTERED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[BETA] The count of registered metrics broken by stability level and deprecation version.";
    let labels = ["deprecated_version", "stability_level"];
    let counters = made(IntCounterVec::new(Opts::new("registered_metrics_total", help), &labels));
    REGISTRY.register(Box::new(counters.clone())).expect("each metric is a static of its own");
    counters
});

/// `count` buckets from `first` on, each `factor` times the one before.
pub fn exponential(first: f64, factor: f64, count: i32) -> Vec<f64> {
    (0..count).map(|power| first * factor.powi(power)).collect()
}

fn made<M>(made: prometheus::Result<M>) -> M {
    made.expect("the names of metrics and labels are constants")
}

fn registered<M: Collector + Clone + 'static>(metric: M) -> M {
    for desc in metric.desc() {
        // `[ALPHA] ...`.
        let level = desc.help.strip_prefix('[').and_then(|help| help.split(']').next()).unwrap_or("");
        REGISTERED.with_label_values(&["", level]).inc();
    }
    REGISTRY.register(Box::new(metric.clone())).expect("each metric is a static of its own");
    metric
}

/// Gauges of fractions, with labels, that `measure` sets whenever they are asked for.
pub fn measured(name: &str, help: &str, labels: &[&str], measure: fn(&GaugeVec)) {
    registered(Measured { gauges: made(GaugeVec::new(Opts::new(name, help), labels)), measure });
}

/// See [`measured`].
#[derive(Clone)]
struct Measured {
    gauges: GaugeVec,
    measure: fn(&GaugeVec),
}

impl Collector for Measured {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        (self.measure)(&self.gauges);
        self.gauges.collect()
    }
}

/// Counters with labels.
pub fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(made(IntCounterVec::new(Opts::new(name, help), labels)))
}

/// One counter.
pub fn counter(name: &str, help: &str) -> IntCounter {
    registered(made(IntCounter::new(name, help)))
}

/// One gauge.
pub fn gauge(name: &str, help: &str) -> IntGauge {
    registered(made(IntGauge::new(name, help)))
}

/// One histogram.
pub fn histogram(name: &str, help: &str, buckets: &[f64]) -> Histogram {
    registered(made(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))))
}

/// Gauges with labels.
pub fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(made(IntGaugeVec::new(Opts::new(name, help), labels)))
}

/// Gauges of fractions, with labels.
pub fn float_gauges(name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    registered(made(GaugeVec::new(Opts::new(name, help), labels)))
}

/// Histograms with labels.
pub fn histograms(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    registered(made(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)))
}

/// All metrics, those of the process among them.
pub fn text() -> String {
    let mut out = Vec::new();
    // Writing into memory does not fail; a metric without values is left out.
    let _ = TextEncoder::new().encode(&REGISTRY.gather(), &mut out);
    let mut text = String::from_utf8(out).unwrap_or_default();
    process(&mut text);
    text
}

/// The media type of [`text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// What the kernel says about this process, as every exporter tells it.
fn process(text: &mut String) {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let stat = read("stat");
    // The name in brackets may hold anything.
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0.0)).collect())
        .unwrap_or_default();
    let field = |number: usize| fields.get(number - 4).copied().unwrap_or(0.0);
    let boot = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot: f64 =
        boot.lines().find_map(|l| l.strip_prefix("btime ")).and_then(|t| t.trim().parse().ok()).unwrap_or(0.0);
    // Linux' ticks are hundredths of a second wherever this runs.
    let mut put = |name: &str, kind: &str, help: &str, value: f64| {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"));
    };
    put(
        "process_cpu_seconds_total",
        "counter",
        "Total user and system CPU time spent in seconds.",
        (field(14) + field(15)) / 100.0,
    );
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    put("process_open_fds", "gauge", "Number of open file descriptors.", open as f64);
    let limits = read("limits");
    let most = limits.lines().find_map(|l| l.strip_prefix("Max open files")).unwrap_or("");
    let most = most.split_whitespace().next().and_then(|m| m.parse().ok()).unwrap_or(0.0);
    put("process_max_fds", "gauge", "Maximum number of open file descriptors.", most);
    put("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", field(23));
    let most = limits.lines().find_map(|l| l.strip_prefix("Max address space")).unwrap_or("");
    // Without a limit it is the largest number that there is.
    let most = most.split_whitespace().next().and_then(|m| m.parse().ok()).unwrap_or(u64::MAX as f64);
    put("process_virtual_memory_max_bytes", "gauge", "Maximum amount of virtual memory available in bytes.", most);
    let network = read("net/netstat");
    for (name, field, what) in [("receive", "InOctets", "received"), ("transmit", "OutOctets", "sent")] {
        let help = format!("Number of bytes {what} by the process over the network.");
        let value = ip_extension(&network, field).unwrap_or(0.0);
        put(&format!("process_network_{name}_bytes_total"), "counter", &help, value);
    }
    let resident = read("status");
    let resident = resident.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or("");
    let resident: f64 = resident.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0.0);
    put("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", resident * 1024.0);
    put(
        "process_start_time_seconds",
        "gauge",
        "Start time of the process since unix epoch in seconds.",
        boot + field(22) / 100.0,
    );
}

/// A field of `IpExt` in `/proc/.../net/netstat`: a line of names, then one of numbers.
fn ip_extension(netstat: &str, field: &str) -> Option<f64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let at = lines.next()?.split(' ').position(|name| name == field)?;
    lines.next()?.split(' ').nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told() {
        let counters = counters("base_test_total", "[ALPHA] For the test", &["code", "verb"]);
        counters.with_label_values(&["200", "GET"]).inc_by(3);
        let histograms = histograms("base_test_seconds", "[ALPHA] For the test", &["verb"], REQUEST_SECONDS);
        histograms.with_label_values(&["GET"]).observe(0.3);
        let text = text();
        for line in [
            "# HELP base_test_total [ALPHA] For the test",
            "# TYPE base_test_total counter",
            "base_test_total{code=\"200\",verb=\"GET\"} 3",
            "# TYPE base_test_seconds histogram",
            "base_test_seconds_bucket{verb=\"GET\",le=\"0.2\"} 0",
            "base_test_seconds_bucket{verb=\"GET\",le=\"0.4\"} 1",
            "base_test_seconds_count{verb=\"GET\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        let value = |name: &str| -> f64 {
            text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok()).unwrap_or_default()
        };
        assert!(value("process_resident_memory_bytes") > 1e5 && value("process_open_fds") >= 3.0);
        assert!(value("process_start_time_seconds") > 1.6e9);
    }
}
