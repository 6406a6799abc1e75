//! What each figure is held against: the floor that a release must reach, the goal, and upstream's figure on such a machine
//! (Kubernetes v1.36.2 with etcd 3.6, TLS and fsync on, client and servers on the same 2 cores).

/// A row of the table.
pub(crate) struct Target {
    pub(crate) what: &'static str,
    /// Name of the result, and the field of it that is the figure.
    pub(crate) result: &'static str,
    pub(crate) field: &'static str,
    /// From the field's unit to the shown one.
    pub(crate) factor: f64,
    pub(crate) unit: &'static str,
    /// More is better; else less is.
    pub(crate) more: bool,
    /// The server's CPU time per operation says something about it.
    pub(crate) per_operation: bool,
    pub(crate) floor: Option<f64>,
    pub(crate) goal: Option<f64>,
    pub(crate) upstream: Option<f64>,
}

impl Target {
    /// Which of goal and floor the figure reaches.
    pub(crate) fn verdict(&self, figure: f64) -> &'static str {
        let reached = |wanted: f64| if self.more { figure >= wanted } else { figure <= wanted };
        match (self.goal, self.floor) {
            (Some(goal), _) if reached(goal) => " (goal)",
            (_, Some(floor)) if reached(floor) => " (floor)",
            (None, None) => "",
            (_, None) => " (not yet)",
            _ => " (**below the floor**)",
        }
    }
}

const RATE: Target = Target {
    what: "",
    result: "",
    field: "ops_per_s",
    factor: 1.0,
    unit: "/s",
    more: true,
    per_operation: true,
    floor: None,
    goal: None,
    upstream: None,
};
const MILLIS: Target = Target { field: "p50_ms", unit: "ms", more: false, ..RATE };
const VALUE: Target = Target { field: "value", more: false, per_operation: false, ..RATE };

/// All rows, in order.
pub(crate) const TARGETS: &[Target] = &[
    Target { what: "release binary", result: "binary_bytes", factor: 1e-6, unit: "MB", floor: Some(60.0), ..VALUE },
    Target {
        what: "idle, with node and DNS: resident",
        result: "idle_rss_kib",
        factor: 1.024e-3,
        unit: "MB",
        floor: Some(80.0),
        upstream: Some(666.0),
        ..VALUE
    },
    Target { what: "idle: CPU of one core", result: "idle_cpu", factor: 100.0, unit: "%", ..VALUE },
    Target {
        what: "empty store to `/readyz`",
        result: "start_ready_s",
        unit: "s",
        floor: Some(0.5),
        upstream: Some(2.3),
        ..VALUE
    },
    Target {
        what: "empty store to node Ready",
        result: "start_node_s",
        unit: "s",
        floor: Some(2.0),
        upstream: Some(4.4),
        ..VALUE
    },
    Target { what: "API up with 100,000 objects stored", result: "start_full_s", unit: "s", goal: Some(0.2), ..VALUE },
    Target {
        what: "50 pods on one node, all Running",
        result: "pods_running_s",
        unit: "s",
        floor: Some(10.0),
        ..VALUE
    },
    Target {
        what: "create ConfigMap of 1 KiB, durable",
        result: "create_configmap",
        floor: Some(5000.0),
        goal: Some(10_000.0),
        upstream: Some(1700.0),
        ..RATE
    },
    Target {
        what: "create ConfigMap, p99",
        result: "create_configmap",
        field: "p99_ms",
        upstream: Some(71.0),
        per_operation: false,
        ..MILLIS
    },
    Target {
        what: "GET ConfigMap, HTTP/1.1",
        result: "get_configmap",
        floor: Some(15_000.0),
        goal: Some(30_000.0),
        upstream: Some(2700.0),
        ..RATE
    },
    Target {
        what: "GET ConfigMap, p99",
        result: "get_configmap",
        field: "p99_ms",
        upstream: Some(55.0),
        per_operation: false,
        ..MILLIS
    },
    Target { what: "GET ConfigMap, HTTP/2", result: "get_configmap_h2", goal: Some(30_000.0), ..RATE },
    Target { what: "merge patch", result: "patch_configmap_merge", upstream: Some(1450.0), ..RATE },
    Target {
        what: "server-side apply",
        result: "apply_configmap_ssa",
        goal: Some(6000.0),
        upstream: Some(1180.0),
        ..RATE
    },
    Target { what: "delete ConfigMap", result: "delete_configmap", upstream: Some(1770.0), ..RATE },
    Target {
        what: "create pod (3.4 kB stored)",
        result: "create_pod",
        goal: Some(6000.0),
        upstream: Some(912.0),
        ..RATE
    },
    Target {
        what: "memory per stored pod",
        result: "pod_memory_bytes",
        factor: 1e-3,
        unit: "kB",
        goal: Some(6.0),
        ..VALUE
    },
    Target {
        what: "list 10,000 pods, JSON",
        result: "list_pods_json_consistent",
        floor: Some(100.0),
        goal: Some(30.0),
        upstream: Some(503.0),
        ..MILLIS
    },
    Target {
        what: "list 10,000 pods, JSON, resourceVersion=0",
        result: "list_pods_json_rv0",
        upstream: Some(410.0),
        ..MILLIS
    },
    Target { what: "list 10,000 pods, protobuf", result: "list_pods_proto_rv0", upstream: Some(229.0), ..MILLIS },
    Target {
        what: "list 1,000 of 10,000 pods by label",
        result: "list_pods_label_selector_rv0",
        upstream: Some(52.0),
        ..MILLIS
    },
    Target { what: "list 10,000 pods as a table", result: "list_pods_table_rv0", upstream: Some(326.0), ..MILLIS },
    Target { what: "stream a list of 10,000 pods", result: "watchlist_pods", upstream: Some(593.0), ..MILLIS },
    Target {
        what: "p99 of GET at 1,000/s while ten clients list 10,000 pods",
        result: "get_under_lists",
        field: "p99_ms",
        goal: Some(10.0),
        ..MILLIS
    },
    Target {
        what: "one change to 1,000 watchers, the last one",
        result: "watch_one_change",
        field: "max_ms",
        floor: Some(50.0),
        ..MILLIS
    },
    Target {
        what: "200 changes to 100 watchers, events",
        result: "watch_fanout",
        goal: Some(300_000.0),
        upstream: Some(48_700.0),
        ..RATE
    },
];
