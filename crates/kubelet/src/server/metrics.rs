//! `/metrics` and `/metrics/resource` in the exposition format.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use protos::cri::v1::ListContainerStatsRequest;

use super::labels;
use crate::labels as names;
use crate::node::facts::Load;
use crate::shared::Shared;

/// Usage of the node and of containers.
pub(crate) async fn resource(shared: &Shared) -> String {
    let stats = shared.runtime.list_container_stats(ListContainerStatsRequest::default()).await;
    let failed = stats.is_err();
    let mut cpu = String::new();
    let mut memory = String::new();
    let mut pods: BTreeMap<(String, String), (f64, u64)> = BTreeMap::new();
    for one in stats.unwrap_or_default().stats {
        let Some(attributes) = &one.attributes else { continue };
        let label = |key: &str| attributes.labels.get(key).map(String::as_str).unwrap_or_default();
        let (pod, namespace) = (label(names::POD_NAME), label(names::POD_NAMESPACE));
        let of = labels(&BTreeMap::from([
            ("container", label(names::CONTAINER_NAME)),
            ("namespace", namespace),
            ("pod", pod),
        ]));
        let total = pods.entry((namespace.to_owned(), pod.to_owned())).or_default();
        if let Some(used) = one.cpu.as_ref().and_then(|c| c.usage_core_nano_seconds.as_ref()) {
            let seconds = used.value as f64 / 1e9;
            total.0 += seconds;
            line(&mut cpu, "container_cpu_usage_seconds_total", &of, seconds);
        }
        if let Some(used) = one.memory.as_ref().and_then(|m| m.working_set_bytes.as_ref()) {
            total.1 += used.value;
            line(&mut memory, "container_memory_working_set_bytes", &of, used.value as f64);
        }
    }
    let mut out = String::new();
    family(
        &mut out,
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
        &cpu,
    );
    family(
        &mut out,
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set of the container in bytes",
        &memory,
    );
    let (mut pod_cpu, mut pod_memory) = (String::new(), String::new());
    for ((namespace, pod), (seconds, bytes)) in &pods {
        let of = labels(&BTreeMap::from([("namespace", namespace.as_str()), ("pod", pod)]));
        line(&mut pod_cpu, "pod_cpu_usage_seconds_total", &of, *seconds);
        line(&mut pod_memory, "pod_memory_working_set_bytes", &of, *bytes as f64);
    }
    family(
        &mut out,
        "pod_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
        &pod_cpu,
    );
    family(&mut out, "pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes", &pod_memory);
    let used = shared.node.memory_bytes - Load::read().memory_available;
    let mut node = String::new();
    line(&mut node, "node_cpu_usage_seconds_total", "", shared.cpu.read().nanoseconds as f64 / 1e9);
    family(
        &mut out,
        "node_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the node in core-seconds",
        &node,
    );
    node.clear();
    line(&mut node, "node_memory_working_set_bytes", "", used as f64);
    family(&mut out, "node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes", &node);
    let mut error = String::new();
    line(&mut error, "resource_scrape_error", "", f64::from(u8::from(failed)));
    family(
        &mut out,
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
        &error,
    );
    out
}

/// The kubelet's own counters.
pub(crate) fn own(shared: &Shared, node_name: &str) -> String {
    let known = shared.registry.read();
    let mut states = BTreeMap::from([("created", 0), ("exited", 0), ("running", 0), ("unknown", 0)]);
    let mut running_pods = 0;
    for pod in known.values() {
        let statuses = pod.status.container_statuses.iter().chain(&pod.status.init_container_statuses);
        let mut is_running = false;
        for status in statuses {
            is_running |= status.state.running.is_some();
            let state = match (&status.state.running, &status.state.terminated) {
                (Some(_), _) => "running",
                (None, Some(_)) => "exited",
                (None, None) => continue,
            };
            *states.entry(state).or_default() += 1;
        }
        running_pods += i32::from(is_running);
    }
    drop(known);
    let mut out = String::new();
    let mut lines = String::new();
    for (state, count) in &states {
        line(
            &mut lines,
            "kubelet_running_containers",
            &labels(&BTreeMap::from([("container_state", *state)])),
            f64::from(*count),
        );
    }
    family(&mut out, "kubelet_running_containers", "gauge", "Number of containers currently running", &lines);
    let mut lines = String::new();
    line(&mut lines, "kubelet_running_pods", "", f64::from(running_pods));
    family(&mut out, "kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox", &lines);
    let mut lines = String::new();
    line(&mut lines, "kubelet_node_name", &labels(&BTreeMap::from([("node", node_name)])), 1.0);
    family(&mut out, "kubelet_node_name", "gauge", "The node's name. The count is always 1.", &lines);
    for (name, help, value) in shared.image_volumes.metrics() {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {name} [BETA] {help}\n# TYPE {name} counter\n{name} {value}");
    }
    out
}

fn line(out: &mut String, name: &str, labels: &str, value: f64) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{name}{labels} {value}");
}

fn family(out: &mut String, name: &str, kind: &str, help: &str, lines: &str) {
    if !lines.is_empty() {
        let _ = writeln!(out, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}\n{}", lines.trim_end());
    }
}
