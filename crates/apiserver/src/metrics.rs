//! What the server counts, under upstream's names; `/metrics` shows it beside what other parts of the process count.
//!
//! A request costs one look into a map that is never locked, and a few additions.

mod admission;
pub(crate) mod conversions;
mod events;
mod expressions;
pub(crate) mod extensions;
pub(crate) mod flow;
mod identity;
pub(crate) mod lists;
mod requests;
mod store;

use std::sync::LazyLock;

use parking_lot::Mutex;

use crate::api::Api;
use base::metrics::{IntCounter, IntGaugeVec, counter, gauges};

pub(crate) use admission::{Clock, Step, pod_security};
pub(crate) use expressions::begin;
pub(crate) use identity::{ServiceAccountTokens, authenticated, authorized, by_certificate};
pub(crate) use lists::Lists;
pub(crate) use requests::{Asked, Counted, InFlight, WatchEvents, body, deprecated, field_validation, series};
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

static OBJECTS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges(
        "apiserver_resource_objects",
        "[ALPHA] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.",
        &["group", "resource"],
    )
});

static SIZES: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "[ALPHA] Estimated size of stored objects in database. Estimate is based on sum of last observed sizes of serialized objects. In case of a fetching error, the value will be -1.";
    gauges("apiserver_resource_size_estimate_bytes", help, &["group", "resource"])
});

static CACHE_REVISION: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "[ALPHA] Current resource version of watch cache broken by resource type. This is truncated to the 15 least significant digits.";
    gauges("apiserver_watch_cache_resource_version", help, &["group", "resource"])
});

static STORAGE_OBJECTS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges(
        "apiserver_storage_objects",
        "[STABLE] (Deprecated since 1.34.0) [DEPRECATED, consider using apiserver_resource_objects instead] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.",
        &["resource"],
    )
});

static STORAGE_BYTES: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "[STABLE] Size of the storage database file physically allocated in bytes.";
    gauges("apiserver_storage_size_bytes", help, &["storage_cluster_id"])
});

static UNAVAILABLE: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "[ALPHA] Gauge of APIServices which are marked as unavailable broken down by APIService name.";
    gauges("aggregator_unavailable_apiservice", help, &["name"])
});

/// How often discovery of this server and of others was put together.
pub(crate) static DISCOVERY_AGGREGATIONS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "aggregator_discovery_aggregation_count_total",
        "[ALPHA] Counter of number of times discovery was aggregated",
    )
});

static VERSION: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "[ALPHA] Provides the compatibility version info of the component. The component label is the name of the component, usually kube, but is relevant for aggregated-apiservers.";
    gauges("version_info", help, &["binary", "component", "emulation", "min_compat"])
});

/// Addresses and ports of services: given out, and free.
pub(crate) mod addresses {
    use std::sync::LazyLock;
    use std::time::Duration;

    use base::metrics::{HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, counters, gauge, gauges, histograms};

    static IPS: LazyLock<[IntGaugeVec; 2]> = LazyLock::new(|| {
        ["allocated", "available"].map(|which| {
            let help = format!("[ALPHA] Gauge measuring the number of {which} IPs for Services");
            gauges(&format!("kube_apiserver_clusterip_allocator_{which}_ips"), &help, &["cidr"])
        })
    });

    static PORTS: LazyLock<[IntGauge; 2]> = LazyLock::new(|| {
        ["allocated", "available"].map(|which| {
            let help = format!("[ALPHA] Gauge measuring the number of {which} NodePorts for Services");
            gauge(&format!("kube_apiserver_nodeport_allocator_{which}_ports"), &help)
        })
    });

    static ALLOCATIONS: LazyLock<IntCounterVec> = LazyLock::new(|| {
        let help = "[ALPHA] Number of Cluster IPs allocations";
        counters("kube_apiserver_clusterip_allocator_allocation_total", help, &["cidr", "scope"])
    });

    static TOOK: LazyLock<HistogramVec> = LazyLock::new(|| {
        let help = "[ALPHA] Duration in seconds to allocate a Cluster IP by ServiceCIDR";
        let seconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        histograms("kube_apiserver_clusterip_allocator_allocation_duration_seconds", help, &["cidr"], &seconds)
    });

    /// How many of the network's `size` addresses and of `range` ports are given out.
    pub(crate) fn told(cidr: &str, (ips, size): (usize, usize), (ports, range): (usize, usize)) {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let [given, free] = &*IPS;
        given.with_label_values(&[cidr]).set(number(ips));
        free.with_label_values(&[cidr]).set(number(size.saturating_sub(ips)));
        let [given, free] = &*PORTS;
        given.set(number(ports));
        free.set(number(range.saturating_sub(ports)));
    }

    /// One was given out: that which was asked for, or any.
    pub(crate) fn allocated(cidr: &str, asked_for: bool, took: Duration) {
        TOOK.with_label_values(&[cidr]).observe(took.as_secs_f64());
        ALLOCATIONS.with_label_values(&[cidr, if asked_for { "static" } else { "dynamic" }]).inc();
    }
}

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
        // One at a time: what is set here is set from nothing.
        static TELLING: Mutex<()> = Mutex::new(());
        let _telling = TELLING.lock();
        OBJECTS.reset();
        SIZES.reset();
        CACHE_REVISION.reset();
        // Everything is in one memory, which is as new for all.
        let revision = i64::try_from(self.store.revision() % 1_000_000_000_000_000).unwrap_or(0);
        STORAGE_OBJECTS.reset();
        for group in self.registry.groups().iter().map(|(group, _)| group) {
            for kind in self.registry.stored_in(group) {
                let Some(prefix) = &kind.storage_prefix else { continue };
                let tally = self.store.tally(&format!("/registry/{prefix}/"));
                let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
                let labels = [kind.group.as_str(), kind.plural.as_str()];
                OBJECTS.with_label_values(&labels).set(number(tally.objects));
                let name = match kind.group.as_str() {
                    "" => kind.plural.clone(),
                    group => format!("{}.{group}", kind.plural),
                };
                STORAGE_OBJECTS.with_label_values(&[&name]).set(number(tally.objects));
                SIZES.with_label_values(&labels).set(number(tally.bytes));
                events::told(labels, tally.events);
                CACHE_REVISION.with_label_values(&labels).set(revision);
            }
        }
        // What has not happened yet is told, too.
        LazyLock::force(&HANDSHAKE_ERRORS);
        LazyLock::force(&AUDIT_EVENTS);
        LazyLock::force(&DISCOVERY_AGGREGATIONS);
        identity::force();
        if let Some(bytes) = self.store.bytes() {
            STORAGE_BYTES.with_label_values(&["etcd-0"]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        UNAVAILABLE.reset();
        for service in self.aggregation.services(self) {
            let is_unavailable = self.aggregation.is_unavailable(&service);
            UNAVAILABLE.with_label_values(&[service.as_str()]).set(i64::from(is_unavailable));
        }
        crate::admission::addresses::tell(self);
        self.tell_flows();
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
        let [binary, emulation] = [text("gitVersion"), format!("{}.{}", text("major"), text("minor"))];
        let oldest = format!("{}.{}", text("minCompatibilityMajor"), text("minCompatibilityMinor"));
        VERSION.with_label_values(&[binary.trim_start_matches('v'), "kube", &emulation, &oldest]).set(1);
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
